"""Lines: the lines of a text file, plain or gzipped, in UTF-8 or with the mark of UTF-16; what is no text is damage."""

import gzip
import io
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Generator
from pathlib import Path
from typing import IO, cast

from auscult.imports.account import Account

GZIP = b"\x1f\x8b"
PACKED = ".gz"
TOLD_LINES = 256
ESCAPED = range(0xDC80, 0xDD00)
"""What Python makes of bytes that are no UTF-8."""


def read_lines(file: Path, account: Account) -> Generator[str]:
    """The lines of a file with their ends; of one that is cut off, or damaged inside gzip, those that are whole.

    Args:
        file: The file; that it is gzipped is told from its first bytes.
        account: Is told how many bytes were read, and what is damaged.

    Raises:
        StoreError: if something is damaged, unless the account skips damage.
    """
    with file.open("rb") as raw:
        packed = raw.read(2) == GZIP
        raw.seek(0)
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
        told = number = 0
        try:
            with _decoded(stream) as text:
                for number, line in enumerate(text, 1):
                    if not line.isascii() and any(ord(each) in ESCAPED for each in line):
                        account.report_damage(
                            f"Expected {file} to be text in UTF-8, but line {number} is not. Is it in another "
                            f"encoding? Convert it: iconv -f LATIN1 -t UTF-8 {file.name}."
                        )
                        continue
                    yield line
                    if number % TOLD_LINES == 0 and (at := raw.tell()) > told:
                        account.on_bytes(at - told)
                        told = at
        except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeError) as error:
            account.report_damage(f"Expected {file} to be whole, but behind line {number} it is not ({error}).")


def plain_name(file: Path) -> Path:
    """The file's name without what says that it is gzipped."""
    return file.with_suffix("") if file.suffix.lower() == PACKED else file


def _decoded(stream: IO[bytes]) -> io.TextIOWrapper:
    """As text; where lines end is left as it is, because a quoted cell may hold it."""
    buffered = io.BufferedReader(cast(io.RawIOBase, stream))
    wide = buffered.peek(2)[:2] in (BOM_UTF16_LE, BOM_UTF16_BE)
    return io.TextIOWrapper(buffered, encoding="utf-16" if wide else "utf-8-sig", errors="surrogateescape", newline="")
