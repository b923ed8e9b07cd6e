import pytest

from auscult.live.mark import Mark
from auscult.store.reader import load


def test_a_mark_survives_the_wire(tmp_path, grower) -> None:
    grower(tmp_path / "run").grow(5)
    mark = Mark.of(load(tmp_path / "run"), 4)
    assert Mark.parse(str(mark)) == mark and str(mark).isprintable()
    assert Mark.parse(str(Mark.of(load(tmp_path / "run"), -1))).step == -1


def test_the_way_from_one_mark_to_another(tmp_path, grower) -> None:
    grower(tmp_path / "run").grow(5)
    here = Mark.of(load(tmp_path / "run"), 4)
    assert here.way_to(here) == "here"
    assert here.way_to(Mark(here.run, 1, 9)) == "on"
    assert here.way_to(Mark(here.run, 1, 3)) == "anew"  # rewound
    assert here.way_to(Mark(here.run, 2, 9)) == "anew"  # resumed
    assert here.way_to(Mark("0" * 8, 1, 9)) == "anew"  # another run


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "abcdefgh", "abcdefgh.1", "abcdefgh.1.x", "abcdefgh.-1.2", "abcdefgh.1.--2", "../../x.1.2",
     "abcdefgh.1." + "9" * 400, "abcdefgh.1.٣", "abcdefgh.1.2\nevent: x", "a" * 10_000_000],
)  # fmt: skip
def test_anything_else_is_no_mark(text) -> None:
    assert Mark.parse(text) is None
