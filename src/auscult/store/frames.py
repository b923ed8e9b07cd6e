"""Frames: binary records one behind the other, each with its length and checksums.

A frame is `length u32, CRC-32 of these four bytes, CRC-32 of the payload`, then the payload; little endian. Knows
nothing of what the payloads mean.
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from auscult.core.errors import StoreError

HEADER = struct.Struct("<III")
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Frame:
    """Where a payload lies.

    Attributes:
        offset: Of the payload, from the start of the file.
        length: Of the payload, in bytes.
        checksum: What its CRC-32 must be.
        lead: Its first bytes, not checked yet.
    """

    offset: int
    length: int
    checksum: int
    lead: bytes = b""


@dataclass(frozen=True, slots=True)
class Frames:
    """Where the frames of a file lie.

    Attributes:
        frames: Those whose header is right, in order; their payloads are not checked yet.
        damage: A sentence for each place where a header must be but is not.
        end: Offset behind the last complete frame; what follows was torn off by the end of the process, unless there is
            damage.
    """

    frames: tuple[Frame, ...]
    damage: tuple[str, ...]
    end: int


def encode_frame(payload: bytes) -> bytes:
    """A payload with its header in front."""
    return encode_frames([payload])


def encode_frames(payloads: Sequence[bytes]) -> bytes:
    """Payloads of one length, each with its header in front."""
    length = _LENGTH.pack(len(payloads[0]))
    head = length + _LENGTH.pack(crc32(length))
    return b"".join([part for payload in payloads for part in (head, _LENGTH.pack(crc32(payload)), payload)])


def scan_frames(file: BinaryIO, path: Path, lead: int = 0) -> Frames:
    """Walk over the headers of a file, which is unbuffered if it is long; only `lead` bytes of each payload are read.

    A torn frame at the end is no damage. Behind a damaged header the walk goes on if the frame was as long as the one
    before; otherwise the rest of the file is given up.
    """
    size = file.seek(0, os.SEEK_END)
    frames: list[Frame] = []
    damage: list[str] = []
    offset = 0
    broken = False
    while offset + HEADER.size <= size:
        frame = _read_header(file, offset, lead)
        if frame is not None and frame.offset + frame.length > size:
            break
        if frame is not None:
            frames.append(frame)
            offset = frame.offset + frame.length
            broken = False
            continue
        if not broken and _only_zeros(file, offset):
            break
        if not broken:
            damage.append(f"Expected a frame at byte {offset} of {path}, but its checksum does not fit.")
        if broken or not frames:
            break
        broken = True
        offset += HEADER.size + frames[-1].length
    return Frames(tuple(frames), tuple(damage), offset)


def read_payload(file: BinaryIO, path: Path, frame: Frame) -> bytes:
    """A payload whose checksum is right.

    Raises:
        StoreError: if it is not.
    """
    file.seek(frame.offset)
    payload = file.read(frame.length)
    if len(payload) != frame.length or crc32(payload) != frame.checksum:
        raise StoreError(f"Expected the frame at byte {frame.offset} of {path} to fit its checksum, but it does not.")
    return payload


def _read_header(file: BinaryIO, offset: int, lead: int) -> Frame | None:
    file.seek(offset)
    data = file.read(HEADER.size + lead)
    if len(data) < HEADER.size:
        return None
    length, length_checksum, checksum = HEADER.unpack_from(data)
    if crc32(data[: _LENGTH.size]) != length_checksum:
        return None
    return Frame(offset + HEADER.size, length, checksum, data[HEADER.size :][:length])


def _only_zeros(file: BinaryIO, offset: int) -> bool:
    """Whether the rest of the file is what a filesystem leaves of an append that a power failure interrupted."""
    file.seek(offset)
    while chunk := file.read(1 << 20):
        if chunk.strip(b"\0"):
            return False
    return True
