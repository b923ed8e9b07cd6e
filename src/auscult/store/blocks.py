"""Blocks on disk: digests of 64 steps in `digest.log`, of 1,024 steps in `digest-1024.log`, as frames.

A payload is `segment u32, start i64, stop i64, channels u32`, then an array of `auscult.core.digest.BLOCK`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from auscult.core.digest import BLOCK, BLOCK_STEPS, NEVER, Block, digest_rows
from auscult.core.errors import StoreError
from auscult.core.metric import Stream
from auscult.core.sink import Channel, empty_row
from auscult.store.frames import Frame, encode_frame, read_payload, scan_frames

COARSE_STEPS = 16 * BLOCK_STEPS
_HEAD = struct.Struct("<IqqI")


@dataclass(frozen=True, slots=True)
class BlockFrame:
    """Where a block lies and what it says of itself, not checked yet.

    Attributes:
        frame: Where it lies.
        segment: Ordinal of the segment that wrote it.
        start: First step of the block.
        stop: One past the last step it has seen.
    """

    frame: Frame
    segment: int
    start: int
    stop: int


def digest_name(level: int) -> str:
    """Name of the file that holds the blocks of a level."""
    return "digest.log" if level == BLOCK_STEPS else f"digest-{level}.log"


def encode_block(segment: int, block: Block) -> bytes:
    """One block as a frame."""
    head = _HEAD.pack(segment, block.start, block.stop, len(block.values))
    return encode_frame(head + block.values.tobytes())


def scan_blocks(file: BinaryIO, path: Path) -> tuple[list[BlockFrame], tuple[str, ...]]:
    """Where the blocks of an unbuffered file lie, and a sentence for each place that is damaged."""
    found = scan_frames(file, path, lead=_HEAD.size)
    whole = (frame for frame in found.frames if len(frame.lead) == _HEAD.size)
    return [BlockFrame(frame, *_HEAD.unpack(frame.lead)[:3]) for frame in whole], found.damage


def read_block(file: BinaryIO, path: Path, at: BlockFrame) -> tuple[int, int, NDArray[np.void]]:
    """Start, stop and values `(C,)` of a block.

    Raises:
        StoreError: if it is damaged.
    """
    payload = read_payload(file, path, at.frame)
    _, start, stop, channels = _HEAD.unpack_from(payload)
    if len(payload) != _HEAD.size + channels * BLOCK.itemsize:
        raise StoreError(f"Expected the block at byte {at.frame.offset} of {path} to hold {channels} channels.")
    return start, stop, np.frombuffer(payload, BLOCK, offset=_HEAD.size)


def empty_values(stream: Stream, width: int) -> NDArray[np.void]:
    """Block values `(width,)` of channels that were never observed."""
    channels = (Channel("", ""),) * width
    return digest_rows(stream, channels, np.zeros(1, np.int64), empty_row(stream, width)[None], 1).values


def coarsen_blocks(blocks: Sequence[Block]) -> Block:
    """Sum up the blocks of 1,024 steps.

    Counts add up, extremes are exact, the mean is weighted by the finite values, `log_median` is the median of the
    blocks' medians. Offsets count from the start of the 1,024 steps.

    Args:
        blocks: Of one stream and within one multiple of 1,024 steps, in order; at least one.
    """
    first, last = blocks[0], blocks[-1]
    start = first.start - first.start % COARSE_STEPS
    widest = max((block.channels for block in blocks), key=len)
    whole = empty_values(first.stream, len(widest))
    parts = np.stack([_widened(block, whole) for block in blocks])  # (B, C)
    for block, part in zip(blocks, parts, strict=True):
        whole = _joined(whole, part, block.start - start)
    weights = parts["finite"].astype(np.float64)
    sums = np.where(weights > 0, parts["mean"] * weights, 0.0).sum(0)
    with np.errstate(invalid="ignore"):
        whole["mean"] = sums / weights.sum(0)
    known = ~np.isnan(parts["log_median"]).all(0)
    whole["log_median"][known] = np.nanmedian(parts["log_median"][:, known], axis=0)
    return Block(first.stream, start, last.stop, widest, whole)


def _widened(block: Block, empty: NDArray[np.void]) -> NDArray[np.void]:
    values = empty.copy()
    values[: len(block.values)] = block.values
    return values


def _joined(left: NDArray[np.void], right: NDArray[np.void], offset: int) -> NDArray[np.void]:
    """Two stretches as one, `(C,)` each; the offsets of the right one are shifted. Mean and median are left alone."""
    whole = left.copy()
    for name in ("count", "finite", "zeros"):
        whole[name] += right[name]
    seen = right["count"] > 0
    at = {name: _shifted(right[name], offset) for name in ("nonfinite_at", "nonfinite_last", "zeros_from")}
    whole["nonfinite_at"] = np.where(left["nonfinite_at"] == NEVER, at["nonfinite_at"], left["nonfinite_at"])
    whole["nonfinite"] = np.where(left["nonfinite_at"] == NEVER, right["nonfinite"], left["nonfinite"])
    whole["nonfinite_last"] = np.where(at["nonfinite_last"] == NEVER, left["nonfinite_last"], at["nonfinite_last"])
    going_on = (right["zeros"] == right["count"]) & (left["zeros_from"] != NEVER)
    whole["zeros_from"] = np.where(going_on | ~seen, left["zeros_from"], at["zeros_from"])
    tail = right["zero_tail"] + np.where(going_on | ~seen, left["zero_tail"], 0)
    whole["zero_tail"] = tail
    opening = left["count"] == 0
    for name, place, taken in (("first", "first_at", opening), ("last", "last_at", seen)):
        whole[name] = np.where(taken, right[name], left[name])
        whole[place] = np.where(taken, _shifted(right[place], offset), left[place])
    size = np.fmax(np.abs(right["minimum"]), np.abs(right["maximum"]))
    record = np.fmax(np.abs(left["minimum"]), np.abs(left["maximum"]))
    larger = (size > record) | (np.isnan(record) & ~np.isnan(size))
    whole["maximum_at"] = np.where(larger, _shifted(right["maximum_at"], offset), left["maximum_at"])
    whole["minimum"] = np.fmin(left["minimum"], right["minimum"])
    whole["maximum"] = np.fmax(left["maximum"], right["maximum"])
    return whole


def _shifted(offsets: NDArray[np.uint16], by: int) -> NDArray[np.uint16]:
    return np.where(offsets == NEVER, NEVER, offsets + np.uint16(by)).astype(np.uint16)
