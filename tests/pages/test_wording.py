import pytest

from auscult.pages.wording import counted, figure, listed, place, shown, shown_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layers.0.weight", "layers.0.weight"),
        ("слой.вес", "слой.вес"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202egnp", "a\\u202egnp"),
        ("a\nb\x00", "a\\nb\\x00"),
        ("a\u2028b", "a\\u2028b"),
    ],
)
def test_characters_that_could_deceive_are_made_visible(text: str, expected: str) -> None:
    assert shown(text) == expected
    assert shown(text).isprintable()


def test_what_a_bare_number_names_is_said() -> None:
    assert place("0", "lr") == "group 0" and place("generator.0", "weight_decay") == "group generator.0"
    assert place("3", "rank_loss") == "rank 3" and place("cats", "category_loss") == "category cats"
    assert place("0.weight", "grad_norm") == "0.weight" and place("", "lr") == "the whole run"
    assert place("9") == place("9", "activation_std") == "module 9" and place("9", "the user's") == "9"
    assert place("head.9") == "head.9" and place("9.weight") == "9.weight"


def test_sentences_lose_their_line_breaks() -> None:
    assert shown_lines("one\n two\tthree") == "one two three"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        (float("nan"), "NaN"),
        (float("-inf"), "-inf"),
        (2310.0, "2,310"),
        (1e-3, "0.001"),
        (1e30, "1e+30"),
        (0.0, "0"),
    ],
)
def test_figures(value: float | None, expected: str) -> None:
    assert figure(value) == expected


def test_counts_and_lists() -> None:
    assert (counted(1, "step"), counted(2000, "step")) == ("1 step", "2,000 steps")
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed([str(i) for i in range(7)]) == "0, 1, 2, 3 and 3 more"
    assert place("") == "the whole run"
