"""The report on paper: light whatever the screen was, without what paper cannot do, and nothing cut off."""

import re
from collections.abc import Callable

import pytest
from tests.browser.conftest import Visits

pytestmark = pytest.mark.browser

A4 = 794  # CSS pixels
CUT = """() => [...document.querySelectorAll('body *')].filter((each) => each.checkVisibility()
  && ['auto', 'scroll', 'hidden'].includes(getComputedStyle(each).overflowX)
  && (each.scrollWidth > each.clientWidth + 1 || each.scrollHeight > each.clientHeight + 1))
  .map((each) => each.className || each.tagName)"""
INK = """(canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0;
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    if (data[at + 3] < 200) continue;
    sum += data[at] + data[at + 1] + data[at + 2];
    count += 3;
  }
  return sum / count;
}"""


def test_a_dark_page_is_printed_light(visits: Visits, report_url: Callable[[str], str]) -> None:
    page = visits.open(report_url("healthy"), width=A4, scheme="dark")
    cells = page.locator(".heat-cells")
    dark = cells.evaluate(INK)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    ink = page.evaluate("getComputedStyle(document.querySelector('.verdict')).color")
    assert max(map(int, re.findall(r"\d+", ink))) < 60
    assert cells.evaluate(INK) > dark + 40
    for name in (".player", "nav", ".skip", ".axis"):
        assert not page.locator(name).first.is_visible(), name
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert cells.evaluate(INK) == dark


def test_nothing_is_cut_off_on_paper(visits: Visits, report_url: Callable[[str], str]) -> None:
    page = visits.open(report_url("exploding"), width=A4)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.wait_for_timeout(200)
    assert page.evaluate(CUT) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= A4


def test_the_pages_of_a_print(visits: Visits, report_url: Callable[[str], str]) -> None:
    page = visits.open(report_url("exploding"), scheme="dark")
    paper = page.pdf(format="A4", print_background=False)
    sheets = len(re.findall(rb"/Type\s*/Page\b", paper))
    assert paper.startswith(b"%PDF") and 3 <= sheets <= 16
