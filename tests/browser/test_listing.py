"""The listing in a real Chromium: every state, keys alone, and that what one reads stays in place while it changes."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from platform import node

import pytest
from playwright.sync_api import Page
from tests.browser.conftest import HOSTILE, Visits, wait_until
from tests.browser.test_accessibility import violations
from tests.browser.test_keyboard import REACHABLE, tab_through
from tests.live.conftest import Grower, Server

pytestmark = pytest.mark.browser

STATES = ("training", "stalled", "crashed", "finished", "unreadable")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Runs in every state, and some with names that are attacks."""
    folder = tmp_path_factory.mktemp("every state")
    begun = time.time() - 3000
    Grower(folder / "training", time=begun).grow(20)  # a step in 150 s: however long the tests take, it trains
    Grower(folder / "stalled", time=begun).grow(1000).writer.close()
    Grower(folder / "crashed", time=begun, host=node()).grow(1000).writer.close()
    Grower(folder / "group" / "finished", time=begun).grow(20).end()
    Grower(folder / "unreadable", "N" * 20_000).grow(5).end()
    for name in HOSTILE:
        Grower(folder / name.replace("/", "_").replace("\0", "")[:200], name, time=begun).grow(3).end(name)
    past = time.time() - 300
    for place in ("stalled", "crashed"):
        for file in (folder / place).rglob("*"):
            os.utime(file, (past, past))
    started = Server(folder)
    yield started
    started.stop()


def open_listing(server: Server, visits: Visits, **options: object) -> Page:
    return visits.open(f"http://127.0.0.1:{server.port}/", ready="#runs tbody tr:nth-child(15)", **options)


def words(page: Page) -> set[str]:
    return set(page.locator("#runs .word").all_inner_texts())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_axe_finds_no_violation_in_any_state(server: Server, visits: Visits, width: int, scheme: str) -> None:
    page = open_listing(server, visits, width=width, scheme=scheme)
    assert words(page) == set(STATES)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not page.locator("img, [onerror], [onmouseover]").count()
    page.fill("#text", "no such run")
    assert page.inner_text("#nothing") == "No run fits the filter."
    assert violations(page) == []
    page.goto(f"http://127.0.0.1:{server.port}/run/{server.run_id('unreadable')}/")
    page.wait_for_selector(".live-status .word.unreadable")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_why_a_run_is_thought_to_have_stopped_is_said(server: Server, visits: Visits) -> None:
    page = open_listing(server, visits)
    said = {row.split("\t")[0].strip(): row for row in page.locator("#runs tbody tr").all_inner_texts()}
    assert "nothing was written for" in said["stalled"] and "process is gone" in said["crashed"]
    page.goto(f"http://127.0.0.1:{server.port}/run/{server.run_id('stalled')}/")
    wait_until(page, "document.getElementById('live-status')?.innerText.includes('nothing was written for')")


def test_everything_by_keys_alone(server: Server, visits: Visits) -> None:
    """Filter, sort and open in the listing; findings, charts, zoom and sound in the run; and back."""
    page = open_listing(server, visits, motion="reduce")
    count = page.evaluate(REACHABLE)
    stops = tab_through(page, 2 * count)
    assert [stop["number"] for stop in stops] == list(range(count))
    assert [stop["name"] for stop in stops if not stop["outline"] or not stop["seen"] or stop["covered"]] == []
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    page.keyboard.type("up/FIN")
    assert page.locator("#runs tbody th a").all_inner_texts() == ["group/finished"]
    page.keyboard.press("Tab")
    page.keyboard.type("finished")
    assert page.input_value("#word") == "finished" and words(page) == {"finished"}
    for _ in range(3):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.key") == "place"
    page.keyboard.press("Enter")
    assert page.get_attribute("th:has([data-key=place])", "aria-sort") == "ascending"
    for _ in range(6):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("html.drawn", state="attached")
    assert page.inner_text("h1") == "finished"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "All runs"
    page.keyboard.press("Enter")
    page.wait_for_selector("#runs tbody tr")


def test_the_row_that_has_the_focus_keeps_it_while_the_listing_changes(tmp_path: Path, visits: Visits) -> None:
    first = Grower(tmp_path / "first", time=time.time() - 9).grow(10)
    server = Server(tmp_path)
    try:
        page = visits.open(f"http://127.0.0.1:{server.port}/", ready="#runs tbody tr")
        page.get_by_role("link", name="first").focus()
        second = Grower(tmp_path / "second", time=time.time()).grow(10)
        page.wait_for_selector("#runs tbody tr:nth-child(2)")
        first.grow(100)
        wait_until(page, "document.querySelector('#runs tbody').innerText.includes('109')")
        assert page.evaluate("document.activeElement.textContent") == "first"
        first.end()
        second.end()
    finally:
        visits.close()
        server.stop()


def test_an_address_without_a_run_says_so_and_shows_it_when_it_comes(tmp_path: Path, visits: Visits) -> None:
    visits.tolerated = "404"
    place = tmp_path / "runs"
    Grower(place / "run").grow(70).end()
    server = Server(place)
    try:
        address = f"http://127.0.0.1:{server.port}/run/{server.run_id('run')}/"
        (place / "run").rename(tmp_path / "elsewhere")
        deadline = time.monotonic() + 20
        while server.get(address.split(str(server.port))[1])[0] != 404:  # the listing is looked at every two seconds
            assert time.monotonic() < deadline
            time.sleep(0.2)
        page = visits.open(address, ready=".live-status")
        assert "there is none at this address" in page.inner_text(".verdict")
        assert page.get_by_role("link", name="All runs").is_visible()
        (tmp_path / "elsewhere").rename(place / "run")
        page.wait_for_selector("html.drawn", state="attached", timeout=20_000)
    finally:
        visits.close()
        server.stop()
