"""The parts: checksums, the wire format, sorting on disk, names."""

import random
import struct

import numpy as np
import pytest
from tests.imports.events import crc32c_by_bits

from auscult.core.sink import Channel
from auscult.imports.crc32c import crc32c
from auscult.imports.names import places
from auscult.imports.spill import Spill
from auscult.imports.wire import WireError, double_of, fields, signed_of, varints


def test_checksums_are_those_of_rfc_3720() -> None:
    known = {
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
        bytes(reversed(range(32))): 0x113FDB5C,
        b"123456789": 0xE3069283,
        b"": 0,
    }
    assert crc32c(list(known)).tolist() == list(known.values())


def test_checksums_of_all_lengths_at_once() -> None:
    source = random.Random(0)
    messages = [source.randbytes(size) for size in [*range(12), 1023, 1024, 1025, 2048, 5001, 300]]
    assert crc32c(messages).tolist() == [crc32c_by_bits(each) for each in messages]


def test_fields_of_a_message() -> None:
    # 150 in field 1 and "testing" in field 2 are the examples of the encoding's own page.
    assert list(fields(b"\x08\x96\x01\x12\x07testing")) == [(1, 0, 150), (2, 2, b"testing")]
    assert varints(b"\x03\x8e\x02\x9e\xa7\x05") == [3, 270, 86942]
    assert [signed_of(v) for _, _, v in fields(b"\x08" + b"\xff" * 9 + b"\x01")] == [-1]
    assert double_of(struct.pack("<d", 0.1)) == 0.1


@pytest.mark.parametrize("message", [b"\x08", b"\x12\x07test", b"\x0b", b"\x08" + b"\xff" * 11, b"\x09abc"])
def test_what_is_no_message(message) -> None:
    with pytest.raises(WireError):
        list(fields(message))


@pytest.mark.parametrize("part", [7, 64, 4096])
def test_numbers_come_back_by_step_the_last_of_each_kept(part) -> None:
    source = random.Random(part)
    spill = Spill(part)
    kept: dict[tuple[int, int], float] = {}
    for number in range(1500):
        if number in (400, 900):
            gone = source.randrange(100)
            spill.cut(gone)
            kept = {key: value for key, value in kept.items() if key[0] < gone}
        step, column = source.randrange(120), source.randrange(5)
        spill.add(step, column, float(number))
        kept[step, column] = float(number)
    found = list(spill.windows())
    spill.close()
    assert {(e["step"], e["column"]): e["value"] for window in found for e in window.tolist() and window} == kept
    flat = np.concatenate(found)
    assert (np.diff(flat["step"]) >= 0).all() and len(flat) == len(kept)
    assert not set.intersection(*({*w["step"].tolist()} for w in found)) or len(found) == 1


@pytest.mark.parametrize(
    ("names", "trainer", "expected"),
    [
        (["Loss/train", "Loss/test", "Accuracy/test"], "", ["train/loss", "test/loss", "test/accuracy"]),
        (["train/loss", "val/loss", "eval/f1"], "", ["train/loss", "val/loss", "eval/f1"]),
        (["train_loss_step", "train_loss_epoch", "val_loss"], "", ["train/loss", "train_loss_epoch", "val/loss"]),
        (["train/loss", "Loss/train"], "", ["train/loss", "Loss/train"]),
        (["training loss", "validation/epoch_accuracy"], "", ["train/loss", "validation/accuracy"]),
        (["train/epoch_loss", "validation/epoch_loss"], "", ["train/loss", "validation/loss"]),
        (["learning_rate", "loss"], "", ["lr", "loss"]),
        (["grad_norm", "param_norm", "finite"], "", ["user/grad_norm", "user/param_norm", "user/finite"]),
        (["loss", "grad_norm", "eval_loss"], "transformers", ["loss", "grad_norm", "eval/loss"]),
        (["test/loss", "Loss/test", "test_loss"], "", ["test/loss", "Loss/test", "test_loss"]),
        (["my_metric", "contest/loss", "valley"], "", ["my_metric", "contest/loss", "valley"]),
    ],
)
def test_names(names, trainer, expected) -> None:
    kept = places(names, trainer)
    assert [kept[name].channel.metric for name in names] == expected
    assert len({place.channel for place in kept.values()}) == len(names)


def test_learning_rates_of_groups_and_evaluations_have_their_own_place() -> None:
    kept = places(["lr-AdamW/pg1", "lr-AdamW/pg2", "val_loss", "loss"])
    assert [place.channel for place in kept.values()][:2] == [Channel("lr", "AdamW/pg1"), Channel("lr", "AdamW/pg2")]
    assert [place.stream for place in kept.values()] == ["user", "user", "evaluation", "user"]
