"""The page of a run in a real Chromium, as a report and live: nothing complains, all is drawn, evidence is found."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page
from tests.browser.conftest import RUNS, Visits, wait_until

pytestmark = pytest.mark.browser

BLANK = """() => [...document.querySelectorAll('canvas')].filter((canvas) => {
  if (!canvas.checkVisibility()) return false;
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return !data.some((value) => value > 0);
}).map((canvas) => canvas.parentElement.className || canvas.className)"""

DRAWN = """() => {
  const plots = [...document.querySelectorAll('.plot')].filter((each) => each.checkVisibility());
  return plots.length >= 5 && plots.every((each) => each.querySelector('canvas'));
}"""

LANDED = """([link, tolerance]) => {
  const target = document.getElementById(link.hash.slice(1));
  const alone = target.matches('tr');
  const inside = link.dataset.row === undefined ? '.running.marked' : '.heat-cell';
  const mark = alone ? target : target.querySelector(inside);
  if (mark.hidden || (alone && parseFloat(getComputedStyle(mark).outlineWidth) < 2)) return 'not marked';
  const box = mark.getBoundingClientRect();
  const bars = [...document.querySelectorAll('body *')].filter((each) => getComputedStyle(each).position === 'sticky');
  const stuck = bars.map((each) => each.getBoundingClientRect()).filter((each) => each.top <= 1);
  const top = Math.max(0, ...stuck.map((each) => each.bottom));
  const seen = Math.min(box.bottom, innerHeight) - Math.max(box.top, top);
  if (seen < 0.75 * box.height) return `seen ${seen} of ${box.height} px, from ${box.top} to ${box.bottom}`;
  const scroll = mark.closest('.heat-scroll')?.getBoundingClientRect();
  if (scroll && (box.top < scroll.top - 1 || box.bottom > scroll.bottom + 1)) return 'scrolled away in the heat map';
  if (alone) {
    const [figure, path, step, value] = target.cells;
    const said = [...link.closest('tr').cells].slice(1, 4).map((each) => each.textContent);
    const same = String(said) === String([path, step, value].map((each) => each.textContent));
    return same && figure.textContent.startsWith(link.textContent) ? '' : 'another figure';
  }
  const lines = mark.parentElement.getBoundingClientRect();
  const { steps } = JSON.parse(document.getElementById('data').textContent);
  const room = Math.max(0.5, (steps[1] - steps[0]) * 0.005);
  const step = Number(link.dataset.step);
  const at = lines.left + ((step - steps[0] + room) / (steps[1] - steps[0] + 2 * room)) * lines.width;
  const right = Math.max(box.right, box.left + 1);
  if (at < box.left - tolerance || at > right + tolerance) return `step ${step} is at ${at}, the mark at ${box.left}`;
  return '';
}"""


def settle(page: Page) -> None:
    """Wait until nothing scrolls any more."""
    page.evaluate(
        """() => new Promise((done) => {
          let [before, still] = [NaN, 0];
          const look = () => {
            still = scrollY === before ? still + 1 : 0;
            before = scrollY;
            if (still > 8) done(true);
            else requestAnimationFrame(look);
          };
          look();
        })"""
    )


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
@pytest.mark.parametrize("name", RUNS)
def test_every_chart_is_drawn_and_nothing_complains(
    visits: Visits, page_url: Callable[[str], str], name: str, width: int, scheme: str
) -> None:
    page = visits.open(page_url(name), width=width, scheme=scheme)
    wait_until(page, f"({DRAWN})()")
    assert page.evaluate(BLANK) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not page.locator("img[src=x], [onerror], [onmouseover]").count()


@pytest.mark.parametrize("name", [each for each in RUNS if each != "wide"])
def test_everything_that_can_be_used_is_used(visits: Visits, page_url: Callable[[str], str], name: str) -> None:
    page = visits.open(page_url(name))
    unfold(page)
    for select in page.locator("select:visible:enabled").all():
        for option in select.locator("option").all():
            select.select_option(option.get_attribute("value"))
    for button in page.locator("button:visible:enabled").all()[:25]:
        button.click()
    plot = page.locator(".plot .u-over").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 40, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 60, steps=5)
    page.mouse.up()
    plot.dblclick()
    page.set_viewport_size({"width": 700, "height": 800})
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(100)
    assert page.evaluate(BLANK) == []


@pytest.mark.parametrize(("width", "motion"), [(1280, "reduce"), (400, "no-preference")])
@pytest.mark.parametrize("name", ["exploding", "nan", "hostile", "wide", "probabilities"])
def test_every_link_of_a_finding_lands_on_its_evidence(
    visits: Visits, page_url: Callable[[str], str], name: str, width: int, motion: str
) -> None:
    page = visits.open(page_url(name), width=width, height=800, motion=motion)
    unfold(page)
    links = page.locator("a.evidence")
    assert links.count() == page.locator("table.evidence tbody tr").count() >= 1
    for place in range(links.count()):
        link = links.nth(place)
        link.focus()
        page.keyboard.press("Enter")
        settle(page)
        assert link.evaluate(f"(link) => ({LANDED})([link, 2])") == "", link.text_content()


def test_reduced_motion_moves_nothing_by_itself(visits: Visits, page_url: Callable[[str], str]) -> None:
    page = visits.open(page_url("exploding"), motion="reduce")
    page.locator("a.evidence").first.click()
    before = page.evaluate("scrollY")
    page.wait_for_timeout(200)
    assert page.evaluate("scrollY") == before, "it jumps, and does not glide"
    moving = "(each) => each.getAnimations().length"
    assert not page.evaluate(f"[...document.querySelectorAll('*')].some({moving})")


DRAWN_AT_ONCE = """{
  window.__drawn = new Map();
  const { clearRect } = CanvasRenderingContext2D.prototype;
  CanvasRenderingContext2D.prototype.clearRect = function (...area) {
    const now = document.timeline.currentTime;
    if (this.canvas.closest('.uplot')) __drawn.set(now, (__drawn.get(now) ?? new Set()).add(this.canvas));
    return clearRect.apply(this, area);
  };
}"""


def test_a_double_click_draws_one_chart_a_frame_and_shows_all_steps(
    visits: Visits, report_url: Callable[[str], str]
) -> None:
    page = visits.open(report_url("healthy"), script=DRAWN_AT_ONCE)
    page.wait_for_function(DRAWN)
    plot = page.locator("#plot-logged-0 .u-over")
    plot.scroll_into_view_if_needed()
    reset = page.locator(".zoom-reset")
    for _ in range(2):
        box = plot.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 40, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 200, box["y"] + 60, steps=5)
        page.mouse.up()
        page.wait_for_timeout(300)
        assert reset.is_visible()
        page.evaluate("__drawn.clear()")
        page.mouse.dblclick(box["x"] + 100, box["y"] + 50)
        page.wait_for_timeout(300)
        assert not reset.is_visible()
        drawn = page.evaluate("[...__drawn.values()].map((each) => each.size)")
        assert len(drawn) >= 2 and max(drawn) == 1, drawn
