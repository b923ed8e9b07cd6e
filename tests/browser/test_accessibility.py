"""What axe-core finds wrong with a page, as a report and live: nothing, at any width, in any colours, folded or not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page
from tests.browser.conftest import RUNS, Visits
from tests.browser.test_report import unfold

import auscult

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
RUN = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations.flatMap((each) =>
  each.nodes.map((node) => `${each.id}: ${node.html.slice(0, 160)} ${node.failureSummary.slice(0, 300)}`))"""


def violations(page: Page) -> list[str]:
    """What axe-core objects to; its script comes in beside the page's policy, as a developer's console does."""
    if not AXE.exists():
        pytest.fail(f"Expected axe-core at {AXE}, but it is not there. Write: make browser")
    page.evaluate(AXE.read_text("utf-8"))
    return page.evaluate(RUN)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("name", ["healthy", "exploding", "hostile"])
def test_axe_finds_no_violation(
    visits: Visits, page_url: Callable[[str], str], name: str, width: int, scheme: str
) -> None:
    page = visits.open(page_url(name), width=width, scheme=scheme)
    assert violations(page) == []
    unfold(page)
    links = page.locator("a.evidence")
    if links.count():
        links.first.click()
    assert violations(page) == []


@pytest.mark.parametrize("name", [each for each in RUNS if each not in ("healthy", "exploding", "hostile")])
def test_axe_finds_no_violation_in_the_other_runs(visits: Visits, page_url: Callable[[str], str], name: str) -> None:
    assert violations(visits.open(page_url(name))) == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_axe_finds_no_violation_where_runs_are_compared(
    visits: Visits, run_path: Callable[[str], Path], tmp_path: Path, width: int, scheme: str
) -> None:
    runs = [auscult.load(run_path(name)) for name in ("healthy", "exploding", "hostile")]
    page = visits.open(auscult.report(runs, tmp_path / "several.html").as_uri(), width=width, scheme=scheme)
    unfold(page)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
