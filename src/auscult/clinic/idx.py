"""IDX: the file format that MNIST is published in, plain or gzipped, read strictly.

Two zero bytes, a type (0x08: unsigned bytes), the number of axes, the length of each as a big-endian 32-bit integer,
then the elements in C order (LeCun, Cortes and Burges, "The MNIST database of handwritten digits").
"""

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import SetupError

UNSIGNED_BYTE = 0x08
GZIP = b"\x1f\x8b"


def read_idx(directory: Path, name: str, axes: int) -> NDArray[np.uint8]:
    """One file of a data set.

    Args:
        directory: Where the file lies, as `name` or as `name.gz`.
        name: Such as `train-images-idx3-ubyte`.
        axes: How many axes it must have.

    Returns:
        uint8, as many axes as asked for, read-only.

    Raises:
        SetupError: if there is no such file, or it is not a whole IDX file of unsigned bytes with these axes.
    """
    path = next((each for each in (directory / name, directory / f"{name}.gz") if each.is_file()), None)
    if path is None:
        raise SetupError(
            f"Expected {str(directory / name)!r} or the same with .gz, but there is neither. --data takes the "
            "directory with MNIST's files as they are published: train-images-idx3-ubyte and train-labels-idx1-ubyte."
        )
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(GZIP) else content
    except (OSError, EOFError, zlib.error) as error:
        raise SetupError(
            f"Expected {str(path)!r} to be a file that can be read and, if gzipped, unpacked, but got: {error}. "
            "Copy or download it again."
        ) from None
    return _parse(path, content, axes)


def _parse(path: Path, content: bytes, axes: int) -> NDArray[np.uint8]:
    magic, header = bytes((0, 0, UNSIGNED_BYTE, axes)), 4 + 4 * axes
    if content[:4] != magic:
        raise SetupError(
            f"Expected {str(path)!r} to begin with {magic.hex(' ')} (IDX, unsigned bytes, {axes} axes), but got "
            f"{content[:4].hex(' ') or 'an empty file'}. Is it another file under this name?"
        )
    shape = struct.unpack_from(f">{axes}I", content.ljust(header, b"\0"), 4)
    wanted = header + prod(shape)
    if len(content) != wanted:
        size = " x ".join(map(str, shape))
        raise SetupError(
            f"Expected {str(path)!r} to hold {wanted} bytes, as its header of {size} says, but got {len(content)}. "
            f"It is {'cut short' if len(content) < wanted else 'too long'}: copy or download it again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
