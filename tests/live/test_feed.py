"""What viewers are told, by the real server over a store that grows."""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auscult.live.feed import TICK_S, Feed
from auscult.live.follower import Follower
from auscult.live.lanes import Lanes
from auscult.live.listing import Entry, list_entries
from auscult.live.mark import Mark
from auscult.pages.charts import Pictures


@pytest.fixture(scope="module")
def lab(tmp_path_factory, serve):
    """A server whose directory the tests add runs to."""
    return serve(tmp_path_factory.mktemp("lab"))


def losses(points: dict) -> dict[int, float | None]:
    """Step to value of the loss in an event of points; the loss of step n is n."""
    (curve,) = next(each for each in points["charts"] if each["name"] == "logged-0")["curves"]
    return dict(zip(curve["steps"], curve["values"], strict=True))


def open_page(server, digits: str) -> str:
    """The mark of the page as it is now."""
    page = server.get(f"/run/{digits}/")[2].decode()
    return page.split('data-mark="')[1].split('"')[0]


def told_up_to(events: Iterator, step: int) -> tuple[dict[int, float | None], str]:
    """The losses that the next events of points tell, and the last mark; a look may fall between two steps."""
    found: dict[int, float | None] = {}
    mark = ""
    while step not in found:
        _, points, mark = next(each for each in events if each[0] == "points")
        assert not found.keys() & losses(points).keys()
        found |= losses(points)
    return found, mark


def test_new_steps_come_as_they_are_saved_each_once(lab, grower, awaited) -> None:
    growing = grower(lab.directory / "newsteps", time=time.time()).grow(100)
    digits = lab.run_id("newsteps")
    mark = open_page(lab, digits)
    assert mark.endswith(".1.99")
    seen: dict = {}
    with lab.events(f"/run/{digits}/events?after={mark}") as events:
        assert awaited(events, "condition")[1]["word"] == "training"
        for _ in range(5):
            growing.grow(3)
            found, mark = told_up_to(events, growing.step - 1)
            assert not found.keys() & seen.keys()
            seen |= found
        growing.end()
        assert awaited(events, "condition", lambda data: data["word"] != "training")[1]["word"] == "finished"
    assert seen == {step: float(step) for step in range(100, 115)}
    assert mark.endswith(".1.114")


def test_a_nan_is_told_as_such(lab, grower, awaited) -> None:
    growing = grower(lab.directory / "anan", time=time.time()).grow(10)
    digits = lab.run_id("anan")
    pages: list[str] = []

    def noted(events: Iterator) -> Iterator:
        for each in events:
            pages.extend([each[1]["mark"]] if each[0] == "page" else [])
            yield each

    with lab.events(f"/run/{digits}/events?after={open_page(lab, digits)}") as events:
        events = noted(events)
        awaited(events, "condition")
        growing.grow(5, nan_at=12)
        found, _ = told_up_to(events, 14)
        assert found == {10: 10.0, 11: 11.0, 12: None, 13: 13.0, 14: 14.0}
        while not (pages and pages[-1].endswith(".1.14")):
            awaited(events, "page")
    growing.writer.close()


def test_what_came_during_a_drop_or_a_restart_is_caught_up(tmp_path, grower, serve, awaited) -> None:
    growing = grower(tmp_path / "run", time=time.time()).grow(20)
    server = serve(tmp_path)
    digits = server.run_id("run")
    mark = open_page(server, digits)
    seen = {step: float(step) for step in range(20)}
    for interruption in (
        lambda: None,
        server.restart,
        lambda: (server.stop(signal.SIGTERM), server.start(server.port)),
    ):
        growing.grow(7)
        interruption()
        growing.grow(4)
        with server.events(f"/run/{digits}/events", {"Last-Event-ID": mark}) as events:
            _, points, mark = awaited(events, "points")
            seen |= losses(points)
        assert seen == {step: float(step) for step in range(growing.step)}
    growing.writer.close()


def test_a_resume_and_another_run_in_its_place_make_viewers_begin_anew(lab, grower, awaited) -> None:
    growing = grower(lab.directory / "aresume", time=time.time()).grow(50)
    digits = lab.run_id("aresume")
    mark = open_page(lab, digits)
    with lab.events(f"/run/{digits}/events?after={mark}") as events:
        awaited(events, "condition")
        growing.writer.close()
        growing = grower(lab.directory / "aresume", time=time.time(), if_exists="resume", step=30).grow(5)
        awaited(events, "anew")
        awaited(events, "page", lambda data: data["mark"].endswith(".2.34"))  # a look may fall between two steps
    later = open_page(lab, digits)
    assert later.endswith(".2.34") and Mark.parse(mark).run == Mark.parse(later).run
    with lab.events(f"/run/{digits}/events", {"Last-Event-ID": mark}) as events:
        awaited(events, "anew")
    growing.writer.close()
    for file in sorted((lab.directory / "aresume").rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    grower(lab.directory / "aresume", id="another", time=time.time()).grow(60).writer.close()
    with lab.events(f"/run/{digits}/events", {"Last-Event-ID": later}) as events:
        awaited(events, "anew")
    assert Mark.parse(open_page(lab, digits)).run != Mark.parse(later).run


def test_zooming_in_reads_every_step_of_the_window(lab, grower) -> None:
    grower(lab.directory / "zoomingin").grow(5000).end()
    digits = lab.run_id("zoomingin")
    whole = json.loads(lab.get(f"/run/{digits}/points?first=0&last=4999")[2])
    part = json.loads(lab.get(f"/run/{digits}/points?first=3000&last=3999")[2])
    assert len(losses(whole)) < 2100
    assert losses(part) == {step: float(step) for step in range(3000, 4000)}


def test_the_listing_tells_of_runs_that_begin_grow_and_go(tmp_path, grower, serve, awaited) -> None:
    growing = grower(tmp_path / "first", time=time.time()).grow(5)
    server = serve(tmp_path)
    with server.events("/events") as events:
        awaited(events, "runs", lambda data: any(run["step"] == 4 for run in data["runs"]))
        growing.grow(5)
        awaited(events, "runs", lambda data: any(run["step"] == 9 for run in data["runs"]))
        grower(tmp_path / "later", time=time.time()).grow(1).end()
        ended = ("later", "finished")  # a look may fall between its beginning and its end
        _, data, _ = awaited(
            events, "runs", lambda data: ended in [(run["place"], run["word"]) for run in data["runs"]]
        )
        later = next(run for run in data["runs"] if run["place"] == "later")
        growing.end("exception: KeyboardInterrupt: ")
        awaited(events, "runs", lambda data: any(run["word"] == "crashed" for run in data["runs"]))
        (tmp_path / "later").rename(tmp_path.parent / f"{tmp_path.name}-away")
        assert awaited(events, "runs", lambda data: data["gone"])[1]["gone"] == [later["id"]]


def steps_told(message: bytes) -> list[int]:
    """The steps of which some events have points."""
    blocks = [each.split("\n") for each in message.decode().split("\n\n")]
    points = [json.loads(lines[-1].removeprefix("data: ")) for lines in blocks if "event: points" in lines]
    return [step for each in points for step in losses(each)]


class Counted(Follower):
    looks = 0

    def look(self) -> bool:
        self.looks += 1
        return super().look()


def test_a_run_is_read_once_however_many_look_at_it(tmp_path, grower) -> None:
    growing = grower(tmp_path / "run", time=time.time()).grow(50)
    entry = list_entries(tmp_path).popitem()[1]

    async def looks_with(viewers: int) -> tuple[float, list[list[int]]]:
        """Looks for each that there was time for, and the steps that each viewer was told."""
        follower, lanes = Counted(tmp_path, entry), Lanes()
        feed = Feed(follower, lanes)
        mark = (await feed.page()).mark
        last = growing.step + 5
        before, began = follower.looks, time.monotonic()

        async def view() -> list[int]:
            told: list[int] = []
            async for message in feed.watch(mark):
                told += steps_told(message)
                if last in told:
                    break
            return told

        watching = [asyncio.create_task(view()) for _ in range(viewers)]
        for _ in range(3):
            await asyncio.sleep(0.6)
            growing.grow(2)
        told = await asyncio.wait_for(asyncio.gather(*watching), 120)
        looks = follower.looks - before
        lanes.close()
        return looks / (2 + (time.monotonic() - began) / TICK_S), told

    for viewers, first in ((1, 50), (20, 56)):
        share, told = asyncio.run(looks_with(viewers))
        assert told == [[*range(first, first + 6)]] * viewers
        assert share <= 1  # not twenty times
    growing.writer.close()


class Slow(Follower):
    """Takes its time for new points, until it is let go on."""

    def __init__(self, root: Path, entry: Entry) -> None:
        super().__init__(root, entry)
        self.asked, self.answering = threading.Event(), threading.Event()

    def points(self, drawn: Pictures, first: int, last: int) -> list[dict]:
        self.asked.set()
        assert self.answering.wait(60)
        return super().points(drawn, first, last)


def test_who_comes_while_others_are_told_is_told_each_step_once(tmp_path, grower) -> None:
    growing = grower(tmp_path / "run", time=time.time()).grow(50)

    async def told_to_the_second() -> list[int]:
        follower, lanes = Slow(tmp_path, list_entries(tmp_path).popitem()[1]), Lanes()
        feed = Feed(follower, lanes)
        mark = (await feed.page()).mark
        first, second = feed.watch(mark), feed.watch(mark)
        await anext(first)  # what looks at the run has begun
        growing.grow(2)
        assert await asyncio.to_thread(follower.asked.wait, 60)
        told = steps_told(await anext(second))
        follower.answering.set()
        async for message in second:
            told += steps_told(message)
            if 51 in told and growing.step == 52:
                growing.grow(1)
            if 52 in told:
                break
        lanes.close()
        return told

    assert asyncio.run(asyncio.wait_for(told_to_the_second(), 120)) == [50, 51, 52]
    growing.writer.close()


@pytest.mark.parametrize("parameter", ["after=x", "after=00000000.1.5", "after=" + "9" * 5000])
def test_a_viewer_whose_mark_says_nothing_begins_anew(parameter, lab, grower, awaited) -> None:
    grower(lab.directory / "aviewer", time=time.time(), if_exists="resume").grow(5).writer.close()
    with lab.events(f"/run/{lab.run_id('aviewer')}/events?{parameter}") as events:
        awaited(events, "anew")
