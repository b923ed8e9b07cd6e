"""Tail: the rows of a stream that are not sealed yet, as frames in `tail-<first ordinal>.log`.

A payload is `ordinal u64, step i64`, then the values as the stream has them; a row may be shorter than later ones,
whose stream has grown. Knows nothing of channels' names.
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import StoreError
from auscult.core.metric import Stream
from auscult.core.sink import Values, empty_row, row_dtype
from auscult.store.frames import encode_frames, read_payload, scan_frames

TAIL_ROWS = 256
_ROW = struct.Struct("<Qq")
_NAME = re.compile(r"tail-(\d{12,})\.log")


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """Values read back from a tail.

    Attributes:
        ordinals: int64 `(R,)`, increasing.
        steps: int64 `(R,)`.
        values: `(R, C)` with C the width of the widest row; what a shorter row lacks was not observed.
        end: Offset behind the last complete frame.
        damage: A sentence for each row that had to be left out.
    """

    ordinals: NDArray[np.int64]
    steps: NDArray[np.int64]
    values: Values
    end: int = 0
    damage: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it holds everything a tail can hold, so that it may be sealed."""
        return not self.damage and len(self.ordinals) == TAIL_ROWS


def tail_name(first: int) -> str:
    """Name of the tail that begins with an ordinal."""
    return f"tail-{first:012d}.log"


def list_tails(names: list[str]) -> list[int]:
    """First ordinals of the tails among the names of files, increasing."""
    return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)


def encode_rows(ordinal: int, steps: Sequence[int], values: Values) -> bytes:
    """Consecutive rows as frames.

    Args:
        ordinal: Of the first.
        steps: R steps.
        values: `(R, C)`.
    """
    rows = zip(steps, values, strict=True)
    return encode_frames([_ROW.pack(ordinal + number, step) + row.tobytes() for number, (step, row) in enumerate(rows)])


def read_tail(path: Path, stream: Stream) -> Tail:
    """Read a tail; a torn end is left out silently.

    Raises:
        FileNotFoundError: if it is gone, sealed meanwhile.
    """
    dtype = row_dtype(stream)
    heads: list[tuple[int, int]] = []
    rows: list[Values] = []
    file = BytesIO(path.read_bytes())
    found = scan_frames(file, path)
    damage = list(found.damage)
    for frame in found.frames:
        try:
            payload = read_payload(file, path, frame)
        except StoreError as error:
            damage.append(str(error))
            continue
        heads.append(_ROW.unpack_from(payload))
        rows.append(np.frombuffer(payload, dtype, offset=_ROW.size))
    table = np.array(heads, np.int64).reshape(-1, 2)
    return Tail(table[:, 0].copy(), table[:, 1].copy(), _stack(rows, stream), found.end, tuple(damage))


def _stack(rows: list[Values], stream: Stream) -> Values:
    width = max((len(row) for row in rows), default=0)
    values = np.tile(empty_row(stream, width), (len(rows), 1))
    for into, row in zip(values, rows, strict=True):
        into[: len(row)] = row
    return values
