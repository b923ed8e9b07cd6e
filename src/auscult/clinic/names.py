"""Names: a file of names, one a line, as contexts of three characters and the character that follows.

The splits of "Building makemore Part 3": shuffled by `random.seed(42)`, then 80 % train, 10 % dev, 10 % test. Brings no
names of its own.
"""

import random
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from auscult.core.errors import SetupError

CONTEXT = 3
END = "."


@dataclass(frozen=True, slots=True)
class Split:
    """Some of the names, character by character.

    Attributes:
        contexts: int64 `(N, 3)`, the characters before; 0 stands for what is before a name.
        targets: int64 `(N,)`, the character that follows; 0 ends a name.
    """

    contexts: Tensor
    targets: Tensor


@dataclass(frozen=True, slots=True)
class Names:
    """All names of one file.

    Attributes:
        characters: The vocabulary in order; the first is the end of a name.
        count: Number of names.
        train: 80 % of the names.
        dev: 10 %.
        test: 10 %.
    """

    characters: str
    count: int
    train: Split
    dev: Split
    test: Split


def load_names(path: str | PathLike[str]) -> Names:
    """Read a file of names, one a line; the published figures belong to the 32,033 names of makemore's `names.txt`.

    Raises:
        SetupError: if the file cannot be read as text, holds fewer than ten names, or a name has a full stop in it.
    """
    try:
        words = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(
            f"Expected {str(path)!r} to be a text file of names, one a line, but got: {error}. "
            "makemore's own is names.txt in github.com/karpathy/makemore."
        ) from None
    if len(words) < 10 or any(END in word for word in words):
        raise SetupError(
            f"Expected {str(path)!r} to hold ten names or more, one a line and without {END!r}, but got {len(words)} "
            f"lines, {sum(END in word for word in words)} of them with {END!r}."
        )
    characters = END + "".join(sorted(set("".join(words))))
    random.Random(42).shuffle(words)
    first, second = int(0.8 * len(words)), int(0.9 * len(words))
    parts = (words[:first], words[first:second], words[second:])
    return Names(characters, len(words), *(_split(part, characters) for part in parts))


def _split(words: list[str], characters: str) -> Split:
    number = {character: place for place, character in enumerate(characters)}
    contexts: list[list[int]] = []
    targets: list[int] = []
    for word in words:
        codes = [0] * CONTEXT + [number[each] for each in word + END]
        contexts.extend(codes[place : place + CONTEXT] for place in range(len(word) + 1))
        targets.extend(codes[CONTEXT:])
    return Split(torch.tensor(contexts), torch.tensor(targets))
