"""What is known of a run that somebody else writes."""

import time

import pytest

from auscult.core.finding import Evidence, Finding
from auscult.core.run import Run
from auscult.live.follower import Follower
from auscult.live.listing import list_entries
from auscult.reading import diagnose, examine
from auscult.store.reader import load


def told(code: str = "U001") -> Finding:
    """A finding as a monitor tells it, of which the rules find nothing in what the tests grow."""
    return Finding(
        code=code,
        name="never-updated",
        severity="critical",
        status="active",
        phase="update",
        path="0.weight",
        step=3,
        summary="It stands still.",
        evidence=(Evidence("update_norm", "0.weight", 3, 0.0, None),),
        advice=("Look.",),
        ruled_out=(),
        confidence=1.0,
    )


@pytest.fixture
def follow(tmp_path):
    return lambda: Follower(tmp_path, list_entries(tmp_path).popitem()[1])


def test_a_finding_that_holds_no_more_goes_when_the_rules_are_asked(tmp_path, grower, follow) -> None:
    growing = grower(tmp_path / "run", time=time.time()).grow(70)
    growing.writer.write_finding(5, told())
    follower = follow()
    follower.look()
    assert [each.code for each in follower.findings] == ["U001"], "as the monitor told it"
    assert not follower.is_judged
    follower.judge()
    assert follower.findings == [] and follower.is_judged
    growing.grow(5).writer.write_finding(73, told("U002"))
    follower.look()
    assert [each.code for each in follower.findings] == ["U002"], "what was told since"
    assert not follower.is_judged
    follower.render()
    assert follower.findings == [] and follower.is_judged
    growing.end()


def test_after_a_resume_everything_is_judged_anew(tmp_path, grower, follow) -> None:
    growing = grower(tmp_path / "run", time=time.time()).grow(70)
    follower = follow()
    follower.look()
    follower.judge()
    growing.writer.close()
    again = grower(tmp_path / "run", if_exists="resume", step=40).grow(5)
    again.writer.write_finding(43, told())
    follower.look()
    assert [each.code for each in follower.findings] == ["U001"], "at a step that had been judged before"
    again.end()


def test_a_run_that_cannot_be_read_is_not_judged_again_and_again(tmp_path, grower, follow) -> None:
    growing = grower(tmp_path / "run", time=time.time()).grow(70).end()
    follower = follow()
    follower.look()
    (growing.writer.path / "run.json").write_text("{")
    follower.release()
    follower.judge()
    assert follower.is_judged


def test_what_is_read_while_the_rules_are_asked_is_judged_afterwards(tmp_path, grower, follow, monkeypatch) -> None:
    """The listing looks at a run, and lets go of it, from another thread."""
    growing = grower(tmp_path / "run", time=time.time()).grow(70)
    follower = follow()
    follower.look()

    def slowly(run: Run) -> tuple:
        if growing.step == 70:
            growing.grow(60).end()
            follower.look()
            follower.release()
        return examine(run)

    monkeypatch.setattr("auscult.live.follower.examine", slowly)
    follower.judge()
    assert not follower.is_judged, "of its end nobody asked yet"
    follower.judge()
    assert follower.is_judged
    assert [each.key for each in follower.findings] == [each.key for each in diagnose(load(tmp_path / "run"))] != []


def test_a_run_that_is_let_go_of_as_soon_as_it_is_read_is_readable(tmp_path, grower, follow, monkeypatch) -> None:
    grower(tmp_path / "run", time=time.time()).grow(2).end()
    follower, read = follow(), Follower._read
    follower.look()
    drawn = follower.render().drawn
    follower.release()

    def let_go(self: Follower) -> object:
        found = read(self)
        self.release()  # as the listing does, from another thread
        return found

    monkeypatch.setattr(Follower, "_read", let_go)
    assert follower.points(drawn, 0, 1)


def test_the_listing_shows_what_holds_and_what_no_monitor_told(tmp_path, grower, serve, awaited) -> None:
    growing = grower(tmp_path / "first", time=time.time()).grow(70)
    growing.writer.write_finding(5, told("X999"))
    growing.end()
    grower(tmp_path / "second", time=time.time()).grow(70).end()  # its loss rises, which is a finding
    shown: dict[str, str] = {}

    def is_judged(data) -> bool:
        shown.update({each["place"]: each["finding"] for each in data["runs"]})
        return len(shown) == 2 and not shown["first"].startswith("X999") and bool(shown["second"])

    with serve(tmp_path).events("/events") as events:
        awaited(events, "runs", is_judged)
