import asyncio
import os
import string
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count, takewhile
from math import inf
from pathlib import Path

import pytest

from auscult.live.board import Board
from auscult.live.feed import Feed
from auscult.live.lanes import Lanes
from auscult.live.listing import ID_LENGTH, Entry, find_stranger, list_entries


@pytest.fixture
def root(tmp_path, grower):
    (tmp_path / "outside").mkdir()
    root = tmp_path / "runs"
    for place in ("a", "group/b", "one/two/c", "one/two/three/too-deep"):
        grower(root / place).grow(2)
    grower(tmp_path / "outside" / "secret").grow(2)
    return root.resolve()


def places(root):
    return [each.place for each in list_entries(root).values()]


def test_runs_up_to_three_levels_below_are_listed_by_ids_that_mean_nothing_in_a_path(root) -> None:
    assert places(root) == ["a", "group/b", "one/two/c"]
    for digits, entry in list_entries(root).items():
        assert entry.id == digits and len(digits) == ID_LENGTH and set(digits) <= set(string.hexdigits)
    assert list(list_entries(root)) == list(list_entries(root))
    assert places(root / "a") == ["."]


def test_links_count_where_they_lead_to_something_inside(root, tmp_path) -> None:
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "secret").symlink_to(tmp_path / "outside" / "secret")
    (root / "round").symlink_to(root)
    (root / "nowhere").symlink_to(root / "gone")
    assert places(root) == ["a", "group/b", "one/two/c"]
    (root / "again").symlink_to(root / "one" / "two")  # a shorter way to what is too deep otherwise
    assert places(root) == ["a", "group/b", "one/two/c", "one/two/three/too-deep"]


def test_a_run_whose_own_description_is_a_link_is_none(root, tmp_path) -> None:
    run = root / "linked"
    run.mkdir()
    (run / "run.json").symlink_to(tmp_path / "outside" / "secret" / "run.json")
    assert "linked" not in places(root)


def test_what_must_not_be_opened_is_not_opened(root) -> None:
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe" / "run.json")  # whoever opens it to read waits for ever
    assert "pipe" not in places(root)


@pytest.mark.parametrize("name", ["events.jsonl", "channels.jsonl", "norms/tail-000000000256.log", "details"])
def test_a_run_that_leads_out_is_a_stranger(name, root, tmp_path) -> None:
    assert find_stranger(root, root / "a") is None
    target = root / "a" / name
    target.unlink(missing_ok=True)
    target.symlink_to("/etc" if name == "details" else "/etc/passwd")
    assert "leads out" in find_stranger(root, root / "a")


def test_a_run_with_a_pipe_in_it_is_a_stranger_and_one_with_a_link_inside_is_not(root) -> None:
    (root / "a" / "notes.txt").symlink_to(root / "group" / "b" / "run.json")
    assert find_stranger(root, root / "a") is None
    os.mkfifo(root / "a" / "norms" / "tail-000000000256.log")
    assert "plain files" in find_stranger(root, root / "a")


def test_a_run_that_gives_its_files_their_names_meanwhile_is_no_stranger(root) -> None:
    ended = threading.Event()

    def seal() -> None:
        for tile in takewhile(lambda _: not ended.is_set(), count()):
            made = root / "a" / "norms" / f"{tile}.npy.tmp"
            made.touch()
            made.rename(root / "a" / "norms" / "newest.npy")

    with ThreadPoolExecutor(1) as pool:
        sealing = pool.submit(seal)
        try:
            assert {find_stranger(root, root / "a") for _ in range(2000)} == {None}
        finally:
            ended.set()
        sealing.result()


def test_a_run_that_is_just_being_found_for_somebody_else_is_found(root, monkeypatch) -> None:
    asked, answering = threading.Event(), threading.Event()

    def slowly(directory: Path) -> dict[str, Entry]:
        asked.set()
        assert answering.wait(60)
        return list_entries(directory)

    async def found() -> Feed | None:
        lanes = Lanes()
        board = Board(root, lanes)
        board._scanned, board._scan_took = -inf, 60.0  # in a large directory
        first = asyncio.create_task(board.find("another"))
        assert await asyncio.to_thread(asked.wait, 60)
        second = asyncio.create_task(board.find(next(iter(list_entries(root)))))
        await asyncio.sleep(0)
        answering.set()
        assert await first is None
        feed = await second
        lanes.close()
        return feed

    monkeypatch.setattr("auscult.live.board.list_entries", slowly)
    assert asyncio.run(found()) is not None
