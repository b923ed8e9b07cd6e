"""CRC-32C: the checksums of many messages at once, with NumPy.

A checksum is linear over bits: with the register's first state folded into the first four bytes of a message, zeros in
front of it change nothing. So every message is cut into lanes of one width, zeros in front of the first; the lanes of
all messages are walked side by side, column by column, and those of one message are joined. Polynomial 0x1EDC6F41,
reflected (RFC 3720, B.4).
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

POLYNOMIAL = np.uint32(0x82F63B78)
LANE = 128  # bytes
BATCH_LANES = 1 << 15


def _table() -> Words:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ POLYNOMIAL, table >> 1)
    return table


TABLE = _table()


def crc32c(messages: Sequence[bytes]) -> Words:
    """The CRC-32C of each message, uint32 `(N,)`."""
    checksums = np.zeros(len(messages), np.uint32)
    begin = lanes = 0
    for place, each in enumerate(messages):
        lanes += -(-len(each) // LANE)
        if lanes >= BATCH_LANES or place == len(messages) - 1:
            checksums[begin : place + 1] = _of_batch(messages[begin : place + 1])
            begin, lanes = place + 1, 0
    return checksums


def masked(checksums: Words) -> Words:
    """Checksums as they are stored beside their messages in a TFRecord: rotated right by 15 bits, plus a constant."""
    return ((checksums >> np.uint32(15)) | (checksums << np.uint32(17))) + np.uint32(0xA282EAD8)


def _of_batch(messages: Sequence[bytes]) -> list[int]:
    counts = [max(1, -(-len(each) // LANE)) for each in messages]
    flat = np.zeros(sum(counts) * LANE, np.uint8)
    end = 0
    for each, count in zip(messages, counts, strict=True):
        end += count * LANE
        begin = end - len(each)
        flat[begin:end] = np.frombuffer(each, np.uint8)
        flat[begin : min(begin + 4, end)] ^= 0xFF
    states = _walk(flat.reshape(-1, LANE)).tolist()
    found: list[int] = []
    lane = 0
    for each, count in zip(messages, counts, strict=True):
        found.append(_of_few(each) if len(each) < 4 else ~_joined(states[lane : lane + count]) & 0xFFFFFFFF)
        lane += count
    return found


def _of_few(message: bytes) -> int:
    """The checksum of a message that is too short to take the register's first state."""
    state = 0xFFFFFFFF
    for byte in message:
        state = (state >> 8) ^ int(TABLE[(state ^ byte) & 0xFF])
    return state ^ 0xFFFFFFFF


def _joined(lanes: Sequence[int]) -> int:
    """The register behind several lanes of one message, each walked by itself."""
    state, *others = lanes
    shift = _shift_by_lane()
    for each in others:
        moved = shift[0][state & 0xFF] ^ shift[1][state >> 8 & 0xFF]
        state = moved ^ shift[2][state >> 16 & 0xFF] ^ shift[3][state >> 24] ^ each
    return state


def _walk(rows: NDArray[np.uint8]) -> Words:
    """The register after each row of bytes `(N, L)`, from 0."""
    state = np.zeros(len(rows), np.uint32)
    for column in np.ascontiguousarray(rows.T):
        state = (state >> np.uint32(8)) ^ TABLE[(state ^ column) & np.uint32(0xFF)]
    return state


@lru_cache(maxsize=1)
def _shift_by_lane() -> list[list[int]]:
    """What a lane of zeros makes of each byte of the register, by the byte's place: four lists of 256."""
    bytes_of = np.arange(256, dtype=np.uint32)
    state = np.stack([bytes_of << np.uint32(8 * place) for place in range(4)])
    for _ in range(LANE):
        state = (state >> np.uint32(8)) ^ TABLE[state & np.uint32(0xFF)]
    return state.tolist()
