"""TFRecord: messages one behind the other, each with its length and two checksums.

A record is the length as a little-endian uint64, the masked CRC-32C of these eight bytes, the message, and the masked
CRC-32C of the message (https://www.tensorflow.org/tutorials/load_data/tfrecord). Knows nothing of what messages say.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from auscult.imports.account import Account
from auscult.imports.crc32c import crc32c, masked

HEAD, FOOT = 12, 4
PIECE_RECORDS, PIECE_BYTES = 4096, 1 << 22


def read_records(file: Path, account: Account) -> Iterator[bytes]:
    """The messages of a file whose checksums are right, in order.

    Behind a length that is damaged nothing can be found any more; a message that is damaged is left out by itself.

    Args:
        file: The file; one that is still being written ends where its last whole record does.
        account: Is told how many bytes were read, and what is damaged.

    Raises:
        StoreError: if something is damaged, unless the account skips damage.
    """
    size, at = file.stat().st_size, 0
    with file.open("rb") as stream:
        while at < size:
            heads: list[bytes] = []
            messages: list[bytes] = []
            begin, stopped = at, ""
            while not stopped and at < size and len(heads) < PIECE_RECORDS and at - begin < PIECE_BYTES:
                head = stream.read(HEAD)
                length = struct.unpack("<Q", head[:8])[0] if len(head) == HEAD else 0
                if len(head) < HEAD or length + FOOT > size - at - HEAD:
                    stopped = f"ends in the middle of a record that begins at byte {at} of {size}"
                    if len(head) == HEAD and not _right([head]).all():
                        stopped = f"has a damaged length at byte {at} of {size}"
                    break
                heads.append(head)
                messages.append(stream.read(length + FOOT))
                at += HEAD + length + FOOT
            yield from _checked(file, begin, heads, messages, account)
            account.on_bytes(at - begin)
            if stopped:
                account.report_damage(f"Expected {file} to be whole, but it {stopped}; the rest is not readable.")
                return


def _checked(file: Path, begin: int, heads: list[bytes], messages: list[bytes], account: Account) -> Iterator[bytes]:
    """Those of some records, the first of which begins at a byte, that are as they were written."""
    whole = _right(heads).tolist()
    bodies = _right(messages).tolist()
    at = begin
    for head, message, known, right in zip(heads, messages, whole, bodies, strict=True):
        if not (known and right):
            part = "message" if known else "length"
            account.report_damage(
                f"Expected the {part} at byte {at} of {file} to fit its checksum, but it does not; it is left out."
            )
        else:
            yield message[:-FOOT]
        at += len(head) + len(message)


def _right(parts: list[bytes]) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Which parts fit the checksum in their last four bytes."""
    stored = np.array([struct.unpack("<I", each[-FOOT:])[0] for each in parts], np.uint32)
    return masked(crc32c([each[:-FOOT] for each in parts])) == stored
