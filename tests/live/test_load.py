"""Twenty viewers for five minutes, and nobody but one: what the server needs, and that no step is lost on anyone."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

VIEWERS = 20
SECONDS = 300
GROW = """
import sys, time
sys.path.insert(0, sys.argv[2])
from conftest import Grower
from pathlib import Path
growing = Grower(Path(sys.argv[1]), time=time.time()).grow(100)
print("begun", flush=True)
end = time.time() + float(sys.argv[3])
while time.time() < end:
    growing.grow(1)
    time.sleep(0.1)
growing.end()
print(growing.step, flush=True)
"""
TICK = os.sysconf("SC_CLK_TCK")


def spent(process: int) -> float:
    """Processor time of a process so far, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident(process: int) -> float:
    """Memory of a process, in MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")


class Viewer(threading.Thread):
    """Keeps every step that it was told of; some of them drop now and then and come back with their last id."""

    def __init__(self, server, digits: str, mark: str, restless: bool) -> None:
        super().__init__(daemon=True)
        self.server, self.digits, self.mark, self.restless = server, digits, mark, restless
        self.steps: list[int] = []
        self.done = False
        self.pages = 0
        self.last: int | None = None  # step at which the run finished

    def run(self) -> None:
        while not self.done:
            with self.server.events(f"/run/{self.digits}/events", {"Last-Event-ID": self.mark}) as events:
                opened = time.monotonic()
                for kind, data, mark in events:
                    if kind == "points":
                        chart = next(each for each in data["charts"] if each["name"] == "logged-0")
                        self.steps += chart["curves"][0]["steps"]
                        self.mark = mark
                    elif kind == "page":
                        self.server.get(f"/run/{self.digits}/page")
                        self.pages += 1
                    elif kind == "condition" and data["word"] == "finished":
                        self.last = data["step"]
                    if self.last in self.steps:  # its points may come after the word that it has finished
                        self.done = True
                        break
                    if self.restless and time.monotonic() - opened > 15:
                        break


def test_twenty_viewers_for_five_minutes(tmp_path, grower, serve) -> None:
    for number in range(4):
        grower(tmp_path / f"old-{number}").grow(500).end()
    command = [sys.executable, "-c", GROW, str(tmp_path / "run"), str(Path(__file__).parent), str(SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as growing:
        assert growing.stdout.readline() == "begun\n"
        server = serve(tmp_path)
        digits = server.run_id("run")
        page = server.get(f"/run/{digits}/")[2].decode()
        mark = page.split('data-mark="')[1].split('"')[0]
        viewers = [Viewer(server, digits, mark, restless=number % 4 == 0) for number in range(VIEWERS)]
        for each in viewers:
            each.start()
        time.sleep(60)  # by then every buffer has been filled once
        begun, used, memory = time.monotonic(), spent(server.process.pid), resident(server.process.pid)
        last = int(growing.stdout.readline())
        seconds = time.monotonic() - begun
        share = (spent(server.process.pid) - used) / seconds
        after = resident(server.process.pid)
        for each in viewers:
            each.join(60)
    tell(
        f"{VIEWERS} viewers, {seconds:.0f} s, 10 steps a second: {share:.1%} of a core, {memory:.0f} to {after:.0f} MiB"
    )
    first = int(mark.rpartition(".")[2]) + 1
    for each in viewers:
        assert each.done and each.pages > 0
        assert each.steps == list(range(first, last))  # each step once, in order
    assert after < memory + 64


@pytest.mark.parametrize("viewers", [0, 1, VIEWERS])
def test_what_watching_runs_at_rest_needs(viewers, tmp_path, grower, serve) -> None:
    for number in range(5):
        grower(tmp_path / f"run-{number}", time=time.time()).grow(300).writer.close()  # unfinished, and silent
    server = serve(tmp_path)
    digits = server.run_id("run-0")
    mark = server.get(f"/run/{digits}/")[2].decode().split('data-mark="')[1].split('"')[0]
    over = threading.Event()

    def look(target: str) -> None:
        with server.events(target) as events:
            while not over.is_set():
                next(events)

    targets = [f"/run/{digits}/events?after={mark}"] * viewers + ["/events"] * min(viewers, 1)
    watching = [threading.Thread(target=look, args=(each,)) for each in targets]
    for each in watching:
        each.start()
    time.sleep(40)
    used = spent(server.process.pid)
    time.sleep(30)
    share = (spent(server.process.pid) - used) / 30
    over.set()
    for each in watching:
        each.join(15)  # with the next beat
    tell(
        f"5 runs at rest, {viewers} viewers and the listing: {share:.2%} of a core, "
        f"{resident(server.process.pid):.0f} MiB"
    )
    assert share < 0.05
