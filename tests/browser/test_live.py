"""The live page in a real Chromium, over a real server and a real training in processes of their own."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from playwright.sync_api import Page
from tests.browser.conftest import Visits, wait_until
from tests.browser.test_player import ONSET, WATCHED
from tests.live.conftest import Grower, Server
from torch import nn

import auscult

pytestmark = pytest.mark.browser

SHOWN = "Number(document.getElementById('live-step')?.dataset.step ?? -1)"
HEARD = "Number(/step ([\\d,]+)/.exec(document.getElementById('now').textContent)?.[1].replace(',', '') ?? -1)"
TRAIN = """
import sys, time, torch
from torch import nn
import auscult
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
monitor = auscult.watch(model, optimizer, sys.argv[1])
saved = -1
while True:
    inputs = torch.randn(32, 8)
    loss = (model(inputs)[:, 0] - inputs[:, 0]).square().mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    monitor.log(loss=loss)
    if monitor.saved_step > saved:
        saved = monitor.saved_step
        print(saved, time.time(), flush=True)
    time.sleep(0.2)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "runs").mkdir()
    started = Server(tmp_path / "runs")
    yield started
    if started.process.poll() is None:
        started.stop()


def open_run(server: Server, visits: Visits, place: str, **options: object) -> Page:
    return visits.open(f"http://127.0.0.1:{server.port}/run/{server.run_id(place)}/", **options)


def wait_for_step(page: Page, step: int) -> None:
    wait_until(page, f"{SHOWN} >= {step}")


def test_a_step_is_on_screen_within_a_second(server: Server, visits: Visits) -> None:
    """From the moment at which `monitor.saved_step` says that it is saved, to the next frame that shows it."""
    training = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(server.directory / "run")], stdout=subprocess.PIPE, text=True
    )
    try:
        saved = dict([training.stdout.readline().split() for _ in range(3)])
        step = max(map(int, saved))
        page = open_run(server, visits, "run")
        page.evaluate(f"""() => {{
          window.seen = {{}};
          const look = () => {{
            const step = {SHOWN};
            window.seen[step] ??= Date.now() / 1000;
            requestAnimationFrame(look);
          }};
          requestAnimationFrame(look);
        }}""")
        wait_for_step(page, int(step))  # of the page that was made when it was opened
        saved.clear()
        for _ in range(40):
            step, moment = training.stdout.readline().split()
            saved[step] = moment
        wait_for_step(page, int(step))
        seen = {int(key): float(value) for key, value in page.evaluate("window.seen").items()}
    finally:
        training.kill()
        training.wait()
        training.stdout.close()
    first = min(seen)
    delays = []
    for key, moment in saved.items():
        later = [value for shown, value in seen.items() if shown >= int(key)]
        if int(key) > first and later:
            delays.append(min(later) - float(moment))
    assert len(delays) >= 10
    delays.sort()
    sys.stdout.write(f"on screen after {delays[len(delays) // 2]:.3f} s (median), {delays[-1]:.3f} s (largest)\n")
    assert delays[len(delays) // 2] <= 1, delays


def test_the_page_recovers_by_itself_when_the_server_was_killed(server: Server, visits: Visits) -> None:
    visits.tolerated = "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE"
    growing = Grower(server.directory / "run", time=time.time()).grow(100)
    page = open_run(server, visits, "run")
    page.evaluate("window.kept = true")
    growing.grow(5)
    wait_for_step(page, 104)
    server.stop(signal.SIGKILL)
    page.wait_for_selector(".live-status .connection:not(:empty)")
    growing.grow(50)
    server.start(server.port)
    wait_for_step(page, 154)
    page.wait_for_selector(".live-status .connection:empty", state="attached")
    growing.grow(5)
    wait_for_step(page, 159)
    assert page.evaluate("window.kept")  # it was not loaded again
    points = json.loads(server.get(f"/run/{server.run_id('run')}/points?first=0&last=159")[2])
    assert len(points["charts"][0]["curves"][0]["steps"]) == 160
    growing.end()
    wait_until(page, "document.documentElement.dataset.condition === 'finished'")


def test_a_finding_appears_without_loading_the_page_again(server: Server, visits: Visits) -> None:
    growing = Grower(server.directory / "run", time=time.time()).grow(70)
    page = open_run(server, visits, "run")
    page.evaluate("window.kept = true")
    growing.grow(10, nan_at=75)
    for finding in auscult.diagnose(auscult.load(server.directory / "run")):
        growing.writer.write_finding(79, finding)
    page.wait_for_selector("#findings article.card", timeout=20_000)
    assert "75" in page.inner_text("#findings article.card .where") and page.evaluate("window.kept")
    growing.end()


def test_sound_that_plays_follows_the_run(server: Server, visits: Visits) -> None:
    growing = Grower(server.directory / "run", time=time.time()).grow(100)
    page = open_run(server, visits, "run")
    assert page.input_value("#volume") == "25"
    page.click("#play")
    wait_until(page, f"{HEARD} === 99")  # the end of what there was
    assert page.inner_text("#play") == "Pause"
    growing.grow(40)
    wait_until(page, f"{HEARD} > 99")
    growing.grow(40)
    wait_until(page, f"{HEARD} >= 160")
    page.keyboard.press("Escape")
    assert page.inner_text("#play") == "Play"
    growing.end()


def test_what_is_read_stays_in_place_while_the_page_is_made_anew(server: Server, visits: Visits) -> None:
    """The row that a finding led to, the focus, and how far a table was scrolled."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4), nn.Softmax(1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train(steps: int) -> None:
        for _ in range(steps):
            inputs = torch.randn(32, 8)
            loss = nn.functional.cross_entropy(model(inputs), inputs[:, :4].argmax(1))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)

    with auscult.watch(model, optimizer, server.directory / "run") as monitor:
        train(70)
        page = open_run(server, visits, "run", width=400, motion="reduce")
        page.locator("a.evidence[href='#single-1']").click()
        box = "document.querySelector('[aria-label=\"What was recorded, and how often\"]')"
        page.evaluate(f"() => {{ window.old = {box}; old.focus({{ preventScroll: true }}); old.scrollLeft = 30; }}")
        scrolled = page.evaluate("old.scrollLeft")
        train(70)
        wait_until(page, f"{box} !== window.old")
        assert page.evaluate(f"[document.activeElement === {box}, {box}.scrollLeft]") == [True, scrolled]
        assert scrolled > 0
        row = "document.getElementById('single-1')"
        assert page.evaluate(f"parseFloat(getComputedStyle({row}).outlineWidth)") >= 2
        top = page.evaluate(f"{row}.getBoundingClientRect().top")
        bars = page.evaluate("document.getElementById('player').getBoundingClientRect().bottom")
        assert bars <= top < 860
    wait_until(page, "document.documentElement.dataset.condition === 'finished'")


ALERT = """() => {
  const [{ times, steps, events: [{ time }] }] = JSON.parse(document.getElementById('data').textContent).sounds;
  const at = times.findIndex((each) => each > time);
  return steps[at - 1] + (time - times[at - 1]) / (times[at] - times[at - 1]) * (steps[at] - steps[at - 1]);
}"""


def test_playhead_and_sound_agree_within_50_ms(visits: Visits, live_url: Callable[[str], str]) -> None:
    """Of the alerts alone, which are silent up to the first of them: when that is heard, and when the line is there."""
    page = visits.open(live_url("nan"), script=WATCHED)
    page.select_option("#heard", "alerts")
    step = page.evaluate(ALERT)
    page.click("#play")
    sounded, places = page.evaluate(ONSET)
    first, last = page.evaluate("JSON.parse(document.getElementById('data').textContent).steps")
    room = max(0.5, (last - first) * 0.005)
    when, shares = np.array(places).T
    shown = np.interp(step, first - room + shares * (last - first + 2 * room), when)
    sys.stdout.write(f"playhead {shown - sounded:+.0f} ms after the sound\n")
    assert abs(shown - sounded) <= 50


def test_a_run_that_is_opened_before_its_first_step_fills_up(server: Server, visits: Visits) -> None:
    growing = Grower(server.directory / "run", time=time.time())
    page = open_run(server, visits, "run")
    growing.grow(80)
    page.wait_for_selector("#plot-logged-0", timeout=20_000, state="attached")
    wait_for_step(page, 79)
    growing.end()


def test_the_listing_is_filtered_sorted_and_leads_to_a_run(server: Server, visits: Visits) -> None:
    for name in ("alpha", "beta", "gamma"):
        Grower(server.directory / name, time=time.time() - 60).grow(10 if name == "alpha" else 20).end(
            "exception: ValueError: x" if name == "beta" else "closed"
        )
    page = visits.open(f"http://127.0.0.1:{server.port}/", ready="#runs tbody tr:nth-child(3)")

    def names() -> list[str]:
        return page.locator("#runs tbody a").all_inner_texts()

    page.get_by_role("button", name="Run", exact=True).click()
    assert names() == ["alpha", "beta", "gamma"]
    page.get_by_role("button", name="Step", exact=True).press("Enter")
    assert names() == ["beta", "gamma", "alpha"]
    page.select_option("#word", "crashed")
    assert names() == ["beta"]
    page.select_option("#word", "")
    page.fill("#text", "AMM")
    assert names() == ["gamma"]
    page.get_by_role("link", name="gamma").click()
    page.wait_for_selector("html.drawn", state="attached")
    assert page.inner_text("h1") == "gamma"
    page.get_by_role("link", name="All runs").click()
    page.wait_for_selector("#runs tbody tr")
    assert names() == ["gamma"]  # the choice is kept


@contextmanager
def proxy(port: int, prefix: str, rewriting: bool) -> Iterator[int]:
    """A reverse proxy that takes a prefix off, and may put its own way to the server for `Host`; one request each."""

    def serve(near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", port)) as far, suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += near.recv(65536)
            method, target, rest = head.split(b" ", 2)
            if not target.startswith(prefix.encode() + b"/"):
                near.sendall(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                return
            rest = rest.replace(b"\r\nConnection: keep-alive", b"\r\nConnection: close")
            if rewriting:
                rest = re.sub(rb"\r\nHost: [^\r]*", b"\r\nHost: 127.0.0.1:%d" % port, rest)
            far.sendall(b" ".join((method, target[len(prefix) :], rest)))
            while chunk := far.recv(65536):
                near.sendall(chunk)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("rewriting", [False, True])  # as a notebook server's proxy does, and as nginx does
def test_behind_a_prefix_on_another_port(server: Server, visits: Visits, rewriting: bool) -> None:
    growing = Grower(server.directory / "run", time=time.time()).grow(70)
    with proxy(server.port, "/user/me/proxy/8765", rewriting) as port:
        page = visits.open(f"http://localhost:{port}/user/me/proxy/8765/", ready="#runs tbody tr")
        page.get_by_role("link", name="run").click()
        page.wait_for_selector("html.drawn", state="attached")
        growing.grow(5)
        wait_for_step(page, 74)
        page.get_by_role("link", name="All runs").click()
        page.wait_for_selector("#runs tbody tr")
        page.context.close()
    growing.end()


def test_a_token_is_asked_for_once_and_leaves_the_address(tmp_path: Path, visits: Visits) -> None:
    Grower(tmp_path / "run", time=time.time()).grow(70).end()
    server = Server(tmp_path, "--token", "correct-horse-battery")
    try:
        page = visits.open(server.address, ready="#runs tbody tr")
        assert "token" not in page.url
        page.get_by_role("link", name="run").click()
        page.wait_for_selector("html.drawn", state="attached")
    finally:
        visits.close()
        server.stop()


def test_script_in_names_stays_text(server: Server, visits: Visits) -> None:
    attack = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    Grower(server.directory / "run", attack, config={attack: attack}).grow(80).end(f"exception: {attack}")
    page = visits.open(f"http://127.0.0.1:{server.port}/", ready="#runs tbody tr")
    assert "onerror" in page.inner_text("#runs tbody th")
    page = open_run(server, visits, "run")
    page.wait_for_timeout(500)
    assert page.title().startswith("<img") and page.locator("img[src=x]").count() == 0


def test_zooming_into_the_heat_map_shows_every_step(server: Server, visits: Visits) -> None:
    Grower(server.directory / "long", time=time.time()).grow(3000)
    page = open_run(server, visits, "long")
    over = page.locator(".heat-over")
    over.scroll_into_view_if_needed()
    readout = page.locator("#heatmap-readout")

    def read() -> str:
        over.hover(position={"x": 300, "y": 5})
        return readout.text_content() or ""

    wait_until(page, "document.querySelector('.heat-cells')?.width > 300")
    assert ", steps " in read(), "a cell stands for several steps"
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 200, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 240, box["y"] + 5, steps=5)
    page.mouse.up()
    page.wait_for_timeout(1500)
    assert ", step " in read()
    page.keyboard.press("Escape")
    over.dblclick()
    page.wait_for_timeout(300)
    assert ", steps " in read()
