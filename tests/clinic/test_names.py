"""Names: contexts and targets against spelling by hand, the splits against the notebook's print-out."""

import random

import pytest

from auscult.clinic.names import load_names
from auscult.clinic.published import SPLITS
from auscult.core.errors import SetupError


def spelled(split, characters: str) -> list[str]:
    """The names of a split, read back from its contexts and targets."""
    names, name = [], ""
    for context, target in zip(split.contexts.tolist(), split.targets.tolist(), strict=True):
        assert "".join(characters[each] for each in context) == ("..." + name)[-3:]
        if target == 0:
            names.append(name)
            name = ""
        else:
            name += characters[target]
    assert not name
    return names


def test_every_name_is_spelled_in_the_shuffled_order(made_up_path, made_up_names) -> None:
    expected = made_up_path.read_text().split()
    random.seed(42)
    random.shuffle(expected)
    parts = [spelled(each, made_up_names.characters) for each in (made_up_names.train, made_up_names.dev)]
    assert parts == [expected[:11], expected[11:12]]
    assert spelled(made_up_names.test, made_up_names.characters) == expected[12:]
    assert made_up_names.characters == ".abcdefghijklmnorsuy" and made_up_names.count == 14


def test_makemores_own_names_give_the_printed_sizes(makemore_names) -> None:
    assert makemore_names.count == SPLITS["names"] and makemore_names.characters == ".abcdefghijklmnopqrstuvwxyz"
    for name in ("train", "dev", "test"):
        split = getattr(makemore_names, name)
        assert split.contexts.shape == (SPLITS[name], 3) and split.targets.shape == (SPLITS[name],)


@pytest.mark.parametrize("content", [b"", b"anna\n", b"a.b\n" * 20, b"\xff\xfe\n" * 20, None])
def test_a_file_that_is_no_list_of_names_is_refused(content, tmp_path) -> None:
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SetupError, match=r"Expected .*names\.txt"):
        load_names(path)
