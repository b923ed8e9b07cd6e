"""Details: one archive of arrays per step that was recorded in full detail.

`details/<segment>-<step>-<CRC-32>.npz` is an ordinary NumPy archive whose name tells its checksum. It is written beside
its place and moved there, so it is there in full or not at all. Knows nothing of rows.
"""

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from auscult.core.detail import BatchStatistics, Detail, TensorDetail, UnitMap
from auscult.core.errors import StoreError
from auscult.core.histogram import Histogram

DETAILS = "details"
_NAME = re.compile(r"(\d{4,})-(\d{9,})-([0-9a-f]{8})\.npz")


def write_detail(path: Path, segment: int, detail: Detail) -> None:
    """Write one detail.

    Args:
        path: Directory of the run.
        segment: Number of the segment.
        detail: What to write.

    Raises:
        OSError: if it cannot be written.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **_arrays(detail))
    data = buffer.getvalue()
    file = path / DETAILS / f"{segment:04d}-{detail.step:09d}-{crc32(data):08x}.npz"
    file.parent.mkdir(exist_ok=True)
    beside = file.with_suffix(".tmp")
    beside.write_bytes(data)
    beside.replace(file)


def list_details(path: Path, starts: Mapping[int, int]) -> dict[int, Path]:
    """The files of a run by step, increasing; those that a later segment made obsolete are left out.

    Args:
        path: Directory of the run.
        starts: The step that each segment begins with, by its number.
    """
    found: dict[int, Path] = {}
    for file in sorted((path / DETAILS).glob("*.npz")) if (path / DETAILS).is_dir() else ():
        match = _NAME.fullmatch(file.name)
        if match is None:
            continue
        segment, step = int(match[1]), int(match[2])
        if all(start > step for number, start in starts.items() if number > segment):
            found[step] = file
    return dict(sorted(found.items()))


def read_detail(file: Path) -> Detail:
    """Read one detail.

    Raises:
        StoreError: if the file is damaged.
    """
    data = file.read_bytes()
    match = _NAME.fullmatch(file.name)
    if match is None or int(match[3], 16) != crc32(data):
        raise StoreError(
            f"Expected {file} to fit the checksum in its name, but it does not: it is damaged. Nothing else of the run "
            "is affected; remove the file to go on without it."
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return _detail({name: archive[name] for name in archive.files})


def _arrays(detail: Detail) -> dict[str, NDArray[Any]]:
    """A detail as named arrays; `docs/file-format.md` describes them."""
    index = {
        "step": detail.step,
        "tensors": [[each.kind, each.path] for each in detail.tensors],
        "units": [[each.kind, each.path] for each in detail.units],
        "batch_statistics": [each.path for each in detail.batch_statistics],
        "fan_ins": dict(detail.fan_ins),
        "doubts": detail.doubts,
    }
    histograms = [each.histogram for each in detail.tensors]
    arrays: dict[str, NDArray[Any]] = {
        "index": np.frombuffer(json.dumps(index).encode(), np.uint8),
        "moments": np.array([[t.mean, t.std, t.minimum, t.maximum] for t in detail.tensors], "<f8").reshape(-1, 4),
        "nonfinite": np.array([each.nonfinite for each in histograms], "<i8"),
        "bins": np.array([len(each.codes) for each in histograms], "<i8"),
        "codes": np.concatenate([np.empty(0, "<i2"), *(each.codes for each in histograms)]),
        "counts": np.concatenate([np.empty(0, "<i8"), *(each.counts for each in histograms)]),
    }
    for number, units in enumerate(detail.units):
        arrays[f"fractions_{number}"] = units.fractions
        arrays[f"shown_{number}"] = units.shown
        arrays[f"map_{number}"] = units.map
    for number, each in enumerate(detail.batch_statistics):
        pairs = (each.batch_mean, each.batch_var, each.running_mean, each.running_var)
        arrays[f"batch_statistics_{number}"] = np.stack(pairs)
    return arrays


def _detail(arrays: dict[str, NDArray[Any]]) -> Detail:
    """The inverse of `_arrays`."""
    index = json.loads(arrays["index"].tobytes())
    ends = np.cumsum(arrays["bins"])
    tensors: list[TensorDetail] = []
    for number, (kind, path) in enumerate(index["tensors"]):
        inside = slice(ends[number] - arrays["bins"][number], ends[number])
        histogram = Histogram(arrays["codes"][inside], arrays["counts"][inside], int(arrays["nonfinite"][number]))
        mean, std, minimum, maximum = arrays["moments"][number].tolist()
        tensors.append(TensorDetail(kind, path, mean, std, minimum, maximum, histogram))
    units = tuple(
        UnitMap(kind, path, *(arrays[f"{name}_{number}"] for name in ("fractions", "shown", "map")))
        for number, (kind, path) in enumerate(index["units"])
    )
    statistics = tuple(
        BatchStatistics(path, *arrays[f"batch_statistics_{number}"])
        for number, path in enumerate(index["batch_statistics"])
    )
    told = index.get("doubts")
    doubts = None if told is None else tuple(map(str, told))
    return Detail(int(index["step"]), tuple(tensors), units, statistics, index["fan_ins"], doubts)
