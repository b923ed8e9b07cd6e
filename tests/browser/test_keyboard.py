"""A page without a mouse, as a report and live: everything is reached, is seen to have the focus, and does its work."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page
from tests.browser.conftest import Visits, wait_until
from tests.browser.test_report import settle

pytestmark = pytest.mark.browser

SPAN = "(uPlot.sync('steps').plots[0].scales.x.max - uPlot.sync('steps').plots[0].scales.x.min)"  # steps in view
REACHABLE = """() => {
  const wanted = 'a[href], button, select, input, textarea, audio[controls], summary, [tabindex="0"]';
  window.wanted = [...document.querySelectorAll(wanted)].filter((each) => each.checkVisibility() && !each.disabled);
  return window.wanted.length;
}"""

FOCUSED = """() => {
  const each = document.activeElement;
  if (each === document.body) return null;
  const style = getComputedStyle(each);
  const box = each.getClientRects()[0]; // of a link over two lines the first
  const visible = [box.left + box.width / 2, Math.max(box.top, 0) + Math.min(box.height, 8) / 2];
  const over = document.elementFromPoint(...visible);
  return {
    number: window.wanted.indexOf(each),
    name: (each.id || each.className || each.textContent).toString().slice(0, 60),
    outline: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    seen: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    covered: over !== null && over !== each && !each.contains(over) && !over.contains(each),
  };
}"""


def tab_through(page: Page, limit: int) -> list[dict[str, Any]]:
    """What has the focus after each press of the tab key, once through the page."""
    stops: list[dict[str, Any]] = []
    for _ in range(limit):
        page.keyboard.press("Tab")
        stop = page.evaluate(FOCUSED)
        if stop is None or (stops and stop["number"] == 0):
            break
        if not stops or stops[-1]["number"] != stop["number"]:  # the browser's own player has several stops
            stops.append(stop)
    return stops


@pytest.mark.parametrize("width", [1280, 400])
def test_everything_is_reached_in_order_and_is_seen_to_be(
    visits: Visits, page_url: Callable[[str], str], width: int
) -> None:
    page = visits.open(page_url("exploding"), width=width, motion="reduce")
    count = page.evaluate(REACHABLE)
    stops = tab_through(page, 2 * count + 20)
    assert [stop["number"] for stop in stops] == list(range(count))
    assert [stop["name"] for stop in stops if not stop["outline"]] == []
    assert [stop["name"] for stop in stops if not stop["seen"] or stop["covered"]] == []


def test_a_chart_is_read_zoomed_and_marked_by_keys(visits: Visits, page_url: Callable[[str], str]) -> None:
    page = visits.open(page_url("healthy"), motion="reduce")
    chart = page.locator("#chart-grad_norm .plot")
    chart.focus()
    page.keyboard.press("Home")
    assert legend_step(chart) == "0"
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert legend_step(chart) == "3"
    page.keyboard.press("Enter")
    assert chart.locator(".running.marked").is_visible()
    whole = page.evaluate(SPAN)
    page.keyboard.press("+")
    wait_until(page, f"{SPAN} < {whole}")  # closer, in the next frame
    page.keyboard.press("Escape")
    wait_until(page, f"{SPAN} === {whole}")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "axis"
    page.keyboard.press("Space")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "false"


def test_the_heat_map_is_read_and_opened_by_keys(visits: Visits, page_url: Callable[[str], str]) -> None:
    page = visits.open(page_url("nan"), motion="reduce")
    page.locator(".heat-area").focus()
    page.keyboard.press("End")
    assert "NaN or inf" in (page.locator("#heatmap-readout").text_content() or "")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    said = page.locator("#heatmap-readout").text_content() or ""
    assert said.startswith("0.bias, step 0: grad_norm"), said
    page.keyboard.press("Enter")
    assert page.locator("#heatmap-row h3").text_content() == "grad_norm of 0.bias"


def test_the_skip_link_skips(visits: Visits, page_url: Callable[[str], str]) -> None:
    page = visits.open(page_url("exploding"), motion="reduce")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    settle(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('section').id") == "findings"


def legend_step(chart: Any) -> str:
    return chart.locator(".u-legend .u-series .u-value").first.text_content()
