"""The pictures of the documentation, made by a real browser from the runs of `auscult demo` and from one that goes on.

python -m scripts.screenshots              trains them first
python -m scripts.screenshots runs/demo    takes those that `make demo` has left there, and adds two more

The report from the top and at its charts, the listing of the live page and a run on it: each at 1280 and 400 px, dark
and light. A picture of more than 250 kB is refused.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from auscult.clinic.demo import run_demo

IMAGES = Path(__file__).parents[1] / "docs" / "images"
NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = {1280: 1180, 400: 860}
SCHEMES = ("light", "dark")
LARGEST = 250_000
DRAWN = "html.drawn"
GROWN = 400
"""Steps that the run that goes on must have before it is taken."""

TRAIN = """
import sys, time
from auscult.clinic.listening import SETTINGS, train
def go_on(step):
    time.sleep(0.02)
    if step == int(sys.argv[3]):
        raise RuntimeError("out of memory")
train(SETTINGS[sys.argv[2]], sys.argv[1], steps=100_000, on_step=go_on)
"""


def main() -> None:
    """Train, take every picture, and say how large it became."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        sys.exit(f"Expected a browser under one of the names {', '.join(NAMES)}. On Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "runs"
        if len(sys.argv) == 1:
            run_demo(directory, 0, lambda *_: None, lambda *_: None)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        with trained(directory / "lr-1.0", "sgd-1.0", 150) as crashing:
            crashing.wait()
        with trained(directory / "lr-0.1", "sgd-0.1", -1), served(directory) as address:
            for width in WIDTHS:
                for scheme in SCHEMES:
                    _take(browser, directory / "diverging.html", address, width, scheme)


@contextmanager
def trained(run: Path, setting: str, end: int) -> Iterator[subprocess.Popen[bytes]]:
    """A training in a process of its own, which ends by an exception at a step."""
    process = subprocess.Popen([sys.executable, "-c", TRAIN, str(run), setting, str(end)], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """The address of the live page of a directory."""
    command = [sys.executable, "-m", "auscult", "live", str(directory), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.kill()


def _take(browser: Browser, report: Path, address: str, width: int, scheme: Any) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": WIDTHS[width]}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()

    def keep(name: str) -> None:
        target = IMAGES / f"{name}-{width}-{scheme}.png"
        page.screenshot(path=target)
        size = target.stat().st_size
        print(f"{target.name}: {size:,} bytes")
        if size > LARGEST:
            sys.exit(f"Expected {target.name} to have at most {LARGEST:,} bytes, but got {size:,}.")

    page.goto(report.as_uri())
    page.wait_for_selector(DRAWN, state="attached")
    _follow_evidence(page)
    keep("report")
    page.evaluate("document.getElementById('depth').scrollIntoView()")
    page.wait_for_timeout(500)
    keep("charts")
    page.goto(address)
    page.wait_for_selector("#runs tbody tr:nth-child(4)")
    keep("live")
    page.get_by_role("link", name="lr-0.1").click()
    page.wait_for_selector(DRAWN, state="attached")
    while page.evaluate("Number(document.getElementById('live-step').dataset.step)") < GROWN:
        page.wait_for_timeout(500)
    page.evaluate("document.getElementById('curves').scrollIntoView()")
    page.wait_for_timeout(500)
    keep("live-run")
    context.close()


def _follow_evidence(page: Page) -> None:
    """Follow the first link to evidence and come back, so that the pictures show what a mark looks like."""
    link = page.locator("a.evidence")
    if link.count():
        link.first.click()
        page.wait_for_timeout(100)  # it scrolls in the next frame
        page.evaluate("scrollTo(0, 0)")


if __name__ == "__main__":
    main()
