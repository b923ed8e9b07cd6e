"""Event files made by hand, with checksums computed bit by bit."""

import struct
from pathlib import Path


def crc32c_by_bits(data: bytes) -> int:
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def masked_by_hand(data: bytes) -> bytes:
    crc = crc32c_by_bits(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def write_events(file: Path, events: list[bytes]) -> None:
    with file.open("wb") as stream:
        for each in events:
            length = struct.pack("<Q", len(each))
            stream.write(length + masked_by_hand(length) + each + masked_by_hand(each))


def scalar(tag: str, step: int, value: float) -> bytes:
    told = b"\x0a" + bytes([len(tag)]) + tag.encode() + b"\x15" + struct.pack("<f", value)
    summary = b"\x0a" + bytes([len(told)]) + told
    return event(step) + b"\x2a" + bytes([len(summary)]) + summary


def start(step: int) -> bytes:
    return event(step) + b"\x3a\x02\x08\x01"


def event(step: int) -> bytes:
    return b"\x09" + struct.pack("<d", 1.7e9) + b"\x10" + bytes([step])
