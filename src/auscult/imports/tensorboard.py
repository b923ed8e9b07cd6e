"""TensorBoard: event files, as `torch.utils.tensorboard`, TensorFlow, tensorboardX and Keras write them.

One directory of event files is one run. Knows the fields of an `Event`, nothing of the bytes around it.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from auscult.core.provenance import OWN
from auscult.imports.account import Account
from auscult.imports.foreign import Point, Purge
from auscult.imports.tfrecord import read_records
from auscult.imports.wire import (
    BYTES,
    VARINT,
    double_of,
    fields,
    float_of,
    message_of,
    signed_of,
    text_of,
    varints,
)

MARK = "tfevents"
SESSION_START = 1
SCALARS, HPARAMS, TEXT = "scalars", "hparams", "text"
DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 17: "<u2", 19: "<f2", 22: "<u4",
    23: "<u8",
}  # fmt: skip
"""NumPy's names of TensorFlow's dtypes, as they lie in `tensor_content`; bfloat16 (14) has none."""
BFLOAT16, HALF = 14, 19


def event_files(directory: Path) -> list[Path]:
    """The event files right in a directory, oldest first, as their names sort."""
    return sorted(each for each in directory.iterdir() if MARK in each.name and each.is_file())


def read_events(files: Sequence[tuple[str, Path]], account: Account) -> Iterator[Point | Purge]:
    """The scalars of a run.

    Args:
        files: Event files in order, each with what comes in front of its tags.
        account: Is told everything else.

    Yields:
        Numbers as they were logged, and a `Purge` where a restarted training went back behind its own steps.

    Raises:
        StoreError: if something is damaged, unless the account skips damage.
    """
    kinds: dict[str, str] = {}
    for prefix, file in files:
        account.own = False
        for message in read_records(file, account):
            try:
                yield from _read_event(message, prefix, kinds, account)
            except (ValueError, struct.error) as error:
                account.report_damage(
                    f"Expected every record of {file} to be an Event, but got one that is none ({error})."
                )


def _read_event(message: bytes, prefix: str, kinds: dict[str, str], account: Account) -> Iterable[Point | Purge]:
    step = 0
    summary: bytes | None = None
    started = False
    for number, kind, value in fields(message):
        if number == 1:
            account.began(double_of(value))
        elif number == 2 and kind == VARINT:
            step = signed_of(value)
        elif number == 5 and kind == BYTES:
            summary = message_of(value)
        elif number == 7 and kind == BYTES:
            started = any(n == 1 and v == SESSION_START for n, _, v in fields(message_of(value)))
        elif number == 10 and kind == BYTES:
            _read_writer(message_of(value), account)
    if started and step > 0:
        return [Purge(step)]
    if summary is None:
        return []
    several = (message_of(value) for number, kind, value in fields(summary) if number == 1 and kind == BYTES)
    return [
        Point(prefix + tag, step, number)
        for tag, number in (_read_value(each, kinds, account) for each in several)
        if number is not None
    ]


def _read_writer(metadata: bytes, account: Account) -> None:
    for number, _, value in fields(metadata):
        if number == 1:
            account.versions.setdefault("writer", text_of(value))


def _read_value(message: bytes, kinds: dict[str, str], account: Account) -> tuple[str, float | None]:
    """The tag of a value of a summary, and its number if it is one."""
    tag, scalar, tensor, plugin = "", None, None, b""
    other = ""
    for number, kind, value in fields(message):
        if number == 1:
            tag = text_of(value)
        elif number == 2:
            scalar = float_of(value)
        elif number == 8 and kind == BYTES:
            tensor = message_of(value)
        elif number == 9 and kind == BYTES:
            plugin = next((message_of(v) for n, k, v in fields(message_of(value)) if n == 1 and k == BYTES), b"")
        elif number in (3, 4, 5, 6):
            other = {3: "histogram", 4: "image", 5: "histogram", 6: "audio clip"}[number]
    if plugin and tag not in kinds:  # told with the first value of a tag, by some writers with every one
        kinds[tag] = next((text_of(v) for n, _, v in fields(plugin) if n == 1), "")
    kind = kinds.get(tag, "")
    if kind == HPARAMS:
        account.config.update(_read_hparams(plugin))
        return tag, None
    if tensor is not None and kind == SCALARS:
        scalar = _read_tensor(tensor)
    if tag == OWN and kind == TEXT:
        account.own = True
        return tag, None
    if scalar is None:
        account.left_out[
            other or {"text": "text", "images": "image", "histograms": "histogram"}.get(kind, kind or "tensor")
        ] += 1
    return tag, scalar


def _read_tensor(message: bytes) -> float | None:
    """The number in a tensor of one element, as the float64 that equals it."""
    dtype, dims, content = 0, [1], b""
    listed: list[float] = []
    for number, kind, value in fields(message):
        if number == 1:
            dtype = signed_of(value)
        elif number == 2:
            shape = (message_of(v) for n, k, v in fields(message_of(value)) if n == 2 and k == BYTES)
            dims = [next((signed_of(v) for n, _, v in fields(each) if n == 1), 0) for each in shape]
        elif number == 4:
            content = message_of(value)
        elif number == 5:
            listed += np.frombuffer(message_of(value), "<f4").tolist()
        elif number == 6:
            listed += np.frombuffer(message_of(value), "<f8").tolist()
        elif number in (7, 10, 11, 13):
            bits = varints(message_of(value)) if kind == BYTES else [signed_of(value)]
            listed += [_half(each, dtype) for each in bits] if number == 13 else bits
    if prod(dims) != 1:
        return None
    if content:
        if dtype == BFLOAT16:
            return _half(int.from_bytes(content[:2], "little"), dtype)
        form = DTYPES.get(dtype)
        return None if form is None else float(np.frombuffer(content, form, count=1)[0])
    return float(listed[0]) if listed else 0.0 if dtype in DTYPES or dtype == BFLOAT16 else None


def _half(bits: int, dtype: int) -> float:
    if dtype == BFLOAT16:
        return struct.unpack("<f", struct.pack("<I", (bits & 0xFFFF) << 16))[0]
    return struct.unpack("<e", struct.pack("<H", bits & 0xFFFF))[0]


def _read_hparams(plugin: bytes) -> dict[str, Any]:
    """The hyperparameters in what the hparams plugin keeps of the start of a session."""
    content = next((message_of(v) for n, k, v in fields(plugin) if n == 2 and k == BYTES), b"")
    starts = [message_of(v) for n, k, v in fields(content) if n == 3 and k == BYTES]
    found: dict[str, Any] = {}
    for each in (message_of(v) for start in starts for n, k, v in fields(start) if n == 1 and k == BYTES):
        entry = {n: message_of(v) for n, k, v in fields(each) if k == BYTES}
        for number, _, value in fields(entry.get(2, b"")):
            read = {2: double_of, 3: text_of, 4: bool}.get(number)
            if read is not None:
                found[entry.get(1, b"").decode("utf-8", "replace")] = read(value)
    return found
