"""LevelDB's log: records in blocks of 32 KiB, cut where a block ends, each piece with a checksum.

A piece is its CRC-32 (here the common one of zlib, over type and data, unmasked, as W&B writes it), its length as
uint16, its type (1 whole, 2 first, 3 middle, 4 last), and its data; fewer than seven bytes at the end of a block stay
empty (https://github.com/google/leveldb/blob/main/doc/log_format.md). Knows nothing of what the records say.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from auscult.imports.account import Account

BLOCK, HEAD = 32768, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_log(file: Path, skip: int, account: Account) -> Iterator[bytes]:
    """The records of a log that are whole, in order.

    Args:
        file: The log; one that is still being written ends where its last whole record does.
        skip: Bytes of the first block that belong to another header.
        account: Is told how many bytes were read, and what is damaged.

    Raises:
        StoreError: if something is damaged, unless the account skips damage.
    """
    parts: list[bytes] = []
    begun = 0
    with file.open("rb") as stream:
        for at, kind, data, fault in _pieces(stream, skip, account):
            if fault:
                account.report_damage(f"Expected {file} to be whole, but the piece at byte {at} {fault}.")
                parts = []
            elif kind in (WHOLE, FIRST):
                if parts:
                    account.report_damage(_torn(file, begun))
                parts, begun = [data], at
            elif parts:
                parts.append(data)
            if kind in (WHOLE, LAST) and parts and not fault:
                yield b"".join(parts)
                parts = []
    if parts:
        account.report_damage(_torn(file, begun))


def _pieces(stream: IO[bytes], skip: int, account: Account) -> Iterator[tuple[int, int, bytes, str]]:
    """Where each piece begins, its type, its data, and what is wrong with it; behind a fault the next block goes on."""
    start = 0
    while block := stream.read(BLOCK):
        at = skip if start == 0 else 0
        while at + HEAD <= len(block):
            checksum, size, kind = struct.unpack_from("<IHB", block, at)
            data = block[at + HEAD : at + HEAD + size]
            if kind == 0 and size == 0 and checksum == 0 and not any(block[at:]):
                break  # room that was reserved
            fault = ""
            if len(data) < size:
                fault = "is cut off" if len(block) < BLOCK else "has a damaged length"
            elif kind not in (WHOLE, FIRST, MIDDLE, LAST) or zlib.crc32(data, zlib.crc32(bytes([kind]))) != checksum:
                fault = "does not fit its checksum"
            yield start + at, kind, data, fault
            if fault:
                break
            at += HEAD + size
        else:
            if len(block) < BLOCK and at < len(block):
                yield start + at, 0, b"", "is cut off"
        start += len(block)
        account.on_bytes(len(block))


def _torn(file: Path, begun: int) -> str:
    return f"Expected {file} to be whole, but the record that begins at byte {begun} has no end."
