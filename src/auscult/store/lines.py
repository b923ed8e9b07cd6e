"""Lines: JSON objects, one a line, each with a CRC-32 of itself, so that a flipped bit is seen.

Knows nothing of what the objects mean.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from auscult.core.finding import number_to_json

SUFFIX_LENGTH = len(', "crc32": "01234567"}')


@dataclass(frozen=True, slots=True)
class Lines:
    """What a file of lines holds.

    Attributes:
        objects: The objects whose checksum is right, in order.
        damage: A sentence for each complete line that is not one of ours any more.
        end: Offset behind the last complete line; what follows was torn off by the end of the process.
    """

    objects: tuple[dict[str, Any], ...]
    damage: tuple[str, ...]
    end: int


def encode_object(fields: Mapping[str, Any], indent: int | None = None) -> bytes:
    """An object as JSON text whose last key is the CRC-32 of the text before it, without a newline."""
    body = json.dumps(to_json(fields), allow_nan=False, indent=indent)[:-1].rstrip().encode()
    return body + _suffix(body)


def encode_line(fields: Mapping[str, Any]) -> bytes:
    """The same on one line, newline included."""
    return encode_object(fields) + b"\n"


def decode_object(text: bytes) -> dict[str, Any] | None:
    """The inverse of `encode_object`, without the checksum; None if it does not fit the text."""
    body = text[:-SUFFIX_LENGTH]
    return json.loads(body + b"}") if body and text == body + _suffix(body) else None


def read_lines(path: Path) -> Lines:
    """Read a file of lines; a missing file holds none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Lines((), (), 0)
    *complete, rest = data.split(b"\n")
    objects: list[dict[str, Any]] = []
    damage: list[str] = []
    for number, text in enumerate(complete, 1):
        fields = decode_object(text)
        if fields is None:
            damage.append(f"Expected line {number} of {path} to fit its checksum, but it does not.")
        else:
            objects.append(fields)
    if decode_object(rest[:-1]) is not None:  # whole, but for a newline that became something else
        damage.append(f"Expected line {len(complete) + 1} of {path} to end with a newline, but got {rest[-1:]!r}.")
    return Lines(tuple(objects), tuple(damage), len(data) - len(rest))


def to_json(value: Any) -> Any:
    """A value in plain JSON types: non-finite floats as strings, arrays as lists, what JSON does not know as text."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return number_to_json(float(value))
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [to_json(each) for each in value]
    return str(value)


def _suffix(body: bytes) -> bytes:
    return b', "crc32": "%08x"}' % crc32(body)
