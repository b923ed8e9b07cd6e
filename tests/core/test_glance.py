"""What nouns show of themselves in a notebook."""

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

import auscult
from auscult.core.finding import Evidence, Finding
from auscult.core.findings import Findings
from auscult.core.glance import COLUMNS, HEIGHT, glance, sparkline
from auscult.core.score import Score, SoundEvent, Voice
from auscult.core.series import Series

HOSTILE = "</td><script>alert(1)</script>\u202e\x1b\"'&"


class Words(HTMLParser):
    """The tags of a piece of HTML, its text, and what is still open at its end."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") or name in ("href", "src") for name, _ in attrs)
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def finding(**changes: object) -> Finding:
    fields: dict[str, object] = {
        "code": "G001", "name": "zero-gradient", "severity": "critical", "path": "conv1.weight", "step": 8,
        "summary": "The gradient is exactly 0.", "evidence": (Evidence("grad_norm", "conv1.weight", 8, 0.0),),
        "advice": ("Lower the learning rate.",),
    }  # fmt: skip
    return Finding(**{**fields, **changes})  # type: ignore[arg-type]


def points(html: str) -> list[list[tuple[float, float]]]:
    """The strokes of a sparkline, each a list of points."""
    path = next(ElementTree.fromstring(html).iter("path")).attrib["d"]
    strokes: list[list[tuple[float, float]]] = []
    for part in path.replace("M", "|M").replace("L", "|L").split("|")[1:]:
        x, y = map(float, part[1:].split())
        if part[0] == "M":
            strokes.append([])
        strokes[-1].append((x, y))
    return strokes


def test_every_text_is_escaped_and_nothing_is_hidden() -> None:
    shown = Words(glance(HOSTILE, [(HOSTILE, HOSTILE)]))
    assert shown.open == [] and "script" not in shown.tags
    assert shown.text.count(r"</td><script>alert(1)</script>\u202e\x1b" + "\"'&") == 3


def test_a_series_says_its_figures() -> None:
    values = np.array([3.0, np.nan, 7.0, 1.0, np.inf])
    shown = Words(Series("grad_norm", HOSTILE, np.arange(0, 50, 10), values)._repr_html_())
    assert shown.open == [] and "script" not in shown.tags and "svg" in shown.tags
    for part in ("5, steps 0 to 40", "1 at step 30", "7 at step 20", "2, the first at step 10"):
        assert part in shown.text
    assert "not observed" in Words(Series("loss", "")._repr_html_()).text
    all_nan = Series("loss", "", np.arange(2), np.full(2, np.nan))
    assert "2, the first at step 0" in Words(all_nan._repr_html_()).text


def test_a_sparkline_loses_no_extreme_and_breaks_where_there_is_no_number() -> None:
    values = np.ones(10_000)
    values[1234], values[5678] = 50.0, -50.0
    (stroke,) = points(sparkline(values, "x"))
    heights = [y for _, y in stroke]
    assert min(heights) == 2 and max(heights) == HEIGHT - 2 and len(stroke) <= 2 * COLUMNS
    values[2000:4000] = np.nan
    assert len(points(sparkline(values, "x"))) == 2
    assert sparkline(np.full(9, np.nan), "x") == sparkline(np.empty(0), "x") == ""


def test_a_sparkline_of_powers_of_ten_is_straight() -> None:
    (stroke,) = points(sparkline(10.0 ** np.arange(8), "x"))
    assert np.ptp(np.diff([y for _, y in stroke])) <= 0.11


def test_findings_are_a_list_that_shows_itself() -> None:
    several = Findings([finding(), finding(code="A001", severity="info", path="", status="recovered")])
    assert several == list(several) and isinstance(several, list) and several[0].code == "G001"
    shown = Words(several._repr_html_())
    assert shown.open == [] and shown.tags.count("details") == 2
    title = "critical: zero-gradient (G001) in conv1.weight since step 8"
    assert "2 findings" in shown.text and title in shown.text and "Lower the learning rate." in shown.text
    assert "info, recovered" in shown.text and "the whole run" in shown.text
    assert "No findings" in Words(Findings()._repr_html_()).text
    many = Words(Findings([finding(path=HOSTILE, summary=HOSTILE, advice=(HOSTILE,))] * 30)._repr_html_())
    assert many.tags.count("details") == 20 and "and 10 more" in many.text and "script" not in many.tags


def test_a_score_says_its_voices_and_events() -> None:
    times = np.arange(3.0)
    voices = (
        Voice("early layers", times, np.array([200.0, 400, 800]), np.array([1.0, 1, 0])),
        Voice(HOSTILE, times, np.full(3, 100.0), np.zeros(3)),
    )
    shown = Words(Score(HOSTILE, "vitals", 2.0, voices, (SoundEvent(1, "nan", HOSTILE, 5),))._repr_html_())
    assert shown.open == [] and "script" not in shown.tags
    assert "200 to 400 Hz" in shown.text and "silent" in shown.text and "step 5" in shown.text


def test_a_run_says_what_it_holds(run: auscult.Run) -> None:
    shown = Words(run._repr_html_())
    assert shown.open == []
    for part in ("Run first", "finished", "70 (0 to 69)", "4, 21 elements", "grad_norm", "0.01", "L001"):
        assert part in shown.text


@pytest.mark.parametrize("values", [(1e-320, 1e300), (5e-324, 1.7e308), (1e308, -1e308), (1.7e308, 1.7e308)])
@pytest.mark.filterwarnings("error")
def test_a_curve_from_one_end_of_floats_to_the_other_is_drawn(values: tuple[float, float]) -> None:
    drawn = sparkline(np.array(values), "x")
    assert drawn.count("L") >= 1 and "nan" not in drawn and "inf" not in drawn
