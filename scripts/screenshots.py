"""The pictures of the documentation, made by a real browser from the runs of `auscult demo`.

python -m scripts.screenshots              trains them first
python -m scripts.screenshots runs/demo    takes those that `make demo` has left there

Each page at 1280 and 400 pixels, dark and light. A picture of more than 200 kB is refused.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from auscult.clinic.demo import run_demo

IMAGES = Path(__file__).parents[1] / "docs" / "images"
NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = {1280: 1180, 400: 860}
SCHEMES = ("light", "dark")
LARGEST = 200_000


def main() -> None:
    """Train the demo, take every picture, and say how large it became."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        sys.exit(f"Expected a browser under one of the names {', '.join(NAMES)}. On Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        directory = Path(sys.argv[1] if len(sys.argv) > 1 else folder)
        if len(sys.argv) == 1:
            run_demo(directory, 0, lambda *_: None, lambda *_: None)
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for width in WIDTHS:
            for scheme in SCHEMES:
                _take(browser, directory / "diverging.html", width, scheme, IMAGES / f"report-{width}-{scheme}.png")


def _take(browser: Browser, report: Path, width: int, scheme: Any, target: Path) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": WIDTHS[width]}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(report.as_uri())
    page.wait_for_selector("html.drawn", state="attached")
    _arrange(page)
    page.screenshot(path=target)
    context.close()
    size = target.stat().st_size
    print(f"{target.name}: {size:,} bytes")
    if size > LARGEST:
        sys.exit(f"Expected {target.name} to have at most {LARGEST:,} bytes, but got {size:,}.")


def _arrange(page: Page) -> None:
    """Follow the first link to evidence and come back, so that the pictures show what a mark looks like."""
    link = page.locator("a.evidence")
    if link.count():
        link.first.click()
        page.evaluate("scrollTo(0, 0)")


if __name__ == "__main__":
    main()
