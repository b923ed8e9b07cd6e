"""Wire: the encoding of Protocol Buffers, field by field, without their schema.

The format is published at https://protobuf.dev/programming-guides/encoding.
"""

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field = tuple[int, int, "int | bytes"]
"""Number of the field, its wire type, and its value; numbers of 8 or 4 bytes are left as bytes."""


class WireError(ValueError):
    """The bytes are no message."""


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a message, in the order in which they stand.

    Raises:
        WireError: if the bytes are no message.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield key >> 3, kind, value
            continue
        if kind == BYTES:
            size, at = _varint(message, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise WireError(f"wire type {kind} at byte {at}")
        if at + size > end:
            raise WireError(f"a field of {size} bytes at byte {at} of {end}")
        yield key >> 3, kind, message[at : at + size]
        at += size


def message_of(value: "int | bytes") -> bytes:
    """The value of a field that holds bytes, a text or another message.

    Raises:
        WireError: if it holds a number.
    """
    if isinstance(value, int):
        raise WireError("a number where bytes belong")
    return value


def text_of(value: "int | bytes") -> str:
    """The value of a field that holds a text."""
    return message_of(value).decode("utf-8", "replace")


def signed_of(value: "int | bytes") -> int:
    """The value of an `int32` or `int64`.

    Raises:
        WireError: if it holds no number.
    """
    if not isinstance(value, int):
        raise WireError("bytes where a number belongs")
    return value - (1 << 64) if value >= 1 << 63 else value


def double_of(value: "int | bytes") -> float:
    """The value of a `double`."""
    return float(_unpacked("<d", value))


def float_of(value: "int | bytes") -> float:
    """The value of a `float`, as the float64 that equals it."""
    return float(_unpacked("<f", value))


def varints(packed: bytes) -> list[int]:
    """The numbers of a packed field of varints."""
    found: list[int] = []
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        found.append(signed_of(value))
    return found


def _unpacked(form: str, value: "int | bytes") -> float:
    data = message_of(value)
    if len(data) != struct.calcsize(form):
        raise WireError(f"{len(data)} bytes where {struct.calcsize(form)} belong")
    return struct.unpack(form, data)[0]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint and the place behind it."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise WireError(f"a number without an end at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
