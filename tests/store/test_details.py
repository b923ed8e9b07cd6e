"""Details on disk: the same after reading, whole or not at all, obsolete after a resume from before them."""

from pathlib import Path

import numpy as np
import pytest

from auscult.core.detail import BatchStatistics, Detail, TensorDetail, UnitMap
from auscult.core.errors import StoreError
from auscult.core.histogram import Histogram
from auscult.store.details import list_details, read_detail, write_detail


@pytest.fixture
def detail() -> Detail:
    histogram = Histogram(np.array([-5, 0, 7], np.int16), np.array([3, 1, 2**40]), 4)
    empty = Histogram(np.empty(0, np.int16), np.empty(0, np.int64), 9)
    return Detail(
        64,
        (
            TensorDetail("activation", "encoder.0", 0.1, 2.0, -3.0, 1e30, histogram),
            TensorDetail("grad", "tête/<b>\n", *[float("nan")] * 4, empty),
        ),
        (UnitMap("zero", "encoder.0", np.array([0.5, 1], "f4"), np.array([0, 1], "i4"), np.eye(2, dtype="f4")),),
        (BatchStatistics("norm", *np.arange(8, dtype="f4").reshape(4, 2)),),
        {"encoder.0.weight": 30},
        ("hooks on «head» were not called",),
    )


def same(left: Detail, right: Detail) -> None:
    assert (left.step, left.fan_ins, left.doubts) == (right.step, right.fan_ins, right.doubts)
    for one, other in zip(left.tensors, right.tensors, strict=True):
        assert (one.kind, one.path, one.histogram.nonfinite) == (other.kind, other.path, other.histogram.nonfinite)
        assert np.array_equal(one.histogram.codes, other.histogram.codes)
        assert np.array_equal(one.histogram.counts, other.histogram.counts)
        moments = ([each.mean, each.std, each.minimum, each.maximum] for each in (one, other))
        assert np.array_equal(*moments, equal_nan=True)
    for one, other in zip(left.units, right.units, strict=True):
        assert (one.kind, one.path) == (other.kind, other.path) and np.array_equal(one.map, other.map)
        assert np.array_equal(one.fractions, other.fractions) and np.array_equal(one.shown, other.shown)
    for one, other in zip(left.batch_statistics, right.batch_statistics, strict=True):
        assert one.path == other.path and np.array_equal(one.running_var, other.running_var)
        assert np.array_equal(one.batch_mean, other.batch_mean)


def test_what_is_read_is_what_was_written(detail: Detail, tmp_path: Path) -> None:
    write_detail(tmp_path, 0, detail)
    write_detail(tmp_path, 0, Detail(0))
    write_detail(tmp_path, 0, Detail(5, doubts=()))
    files = list_details(tmp_path, {0: 0})
    assert list(files) == [0, 5, 64]
    same(read_detail(files[64]), detail)
    same(read_detail(files[0]), Detail(0))
    assert read_detail(files[5]).doubts == ()


def test_a_later_segment_makes_what_follows_it_obsolete(detail: Detail, tmp_path: Path) -> None:
    for segment, step in ((0, 0), (0, 64), (0, 128), (1, 128)):
        write_detail(tmp_path, segment, Detail(step))
    assert list(list_details(tmp_path, {0: 0, 1: 100})) == [0, 64, 128]
    assert list_details(tmp_path, {0: 0, 1: 100})[128].name.startswith("0001-")
    assert list(list_details(tmp_path, {0: 0, 1: 100, 2: 64})) == [0]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "details").mkdir()
    (tmp_path / "details" / "notes.npz").write_bytes(b"mine")
    assert list_details(tmp_path, {0: 0}) == {} and list_details(tmp_path / "none", {0: 0}) == {}


def test_damage_is_reported(detail: Detail, tmp_path: Path) -> None:
    write_detail(tmp_path, 0, detail)
    (file,) = list_details(tmp_path, {0: 0}).values()
    whole = file.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        with pytest.raises(StoreError, match="damaged"):
            read_detail(file)
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(whole), 300):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(generator.integers(8))
        file.write_bytes(flipped)
        with pytest.raises(StoreError, match="damaged"):
            read_detail(file)
