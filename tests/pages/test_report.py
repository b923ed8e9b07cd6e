import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from auscult.core.detail import Detail, TensorDetail, UnitMap
from auscult.core.finding import Evidence, Finding
from auscult.core.run import Module, Parameter, Run
from auscult.core.score import Score, SoundEvent, Voice
from auscult.pages.report import report_html
from auscult.pages.wording import shown

VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Every tag with its attributes, the text of scripts and styles, and whether all tags are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, dict[str, str | None], str]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"doubled attribute in <{tag}>"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("script", "style"):
            self.raw.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            tag, attributes, before = self.raw[-1]
            self.raw[-1] = (tag, attributes, before + data)
        else:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(next(text for _, attributes, text in self.raw if attributes.get("id") == "data"))

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] or "" for _, attributes in self.tags if "id" in attributes]


@pytest.fixture(scope="module")
def sick_page(exploding: Run, score: Score, finding: Callable[..., Finding]) -> str:
    return report_html(exploding, [finding(severity="info", code="A001"), finding()], [score])


def test_structure(sick_page: str) -> None:
    page = Page(sick_page)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == ["findings", "sound", "depth", "curves", "spreads", "layers", "unobserved", "run"]
    assert (
        page.words.index("Critical: exploding-gradient")
        < page.words.index("Evidence")
        < page.words.index("Early layers are on top")
    )
    for tag, attributes in page.tags:
        if tag == "a":
            assert (attributes["href"] or "").removeprefix("#") in page.ids
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in page.ids


def test_every_chart_has_a_place_to_be_drawn_and_a_table(sick_page: str) -> None:
    page = Page(sick_page)
    names = [each["name"] for each in page.data["charts"]]
    assert len(names) == 13
    for name in names:
        part = sick_page.split(f'id="chart-{name}"')[1].split("</figure>")[0]
        assert 'class="plot"' in part and "<details>" in part and "<table>" in part
    maps = sick_page.split('id="heatmap"')[1].split("</figure>")[0]
    assert maps.count("<details>") == len(page.data["heatmaps"])


def test_evidence_links_to_row_and_step(sick_page: str) -> None:
    links = [
        attributes for tag, attributes in Page(sick_page).tags if tag == "a" and attributes.get("class") == "evidence"
    ]
    assert links[0]["href"] == "#heatmap"
    assert (links[0]["data-metric"], links[0]["data-row"], links[0]["data-step"]) == ("grad_norm", "4", "164")
    assert links[1]["href"] == "#chart-grad_norm" and links[2]["href"] == "#chart-lr"


def test_nothing_comes_from_elsewhere(sick_page: str) -> None:
    page = Page(sick_page)
    for tag, attributes in page.tags:
        assert "style" not in attributes, "the policy forbids style attributes"
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("#", "data:")), f"<{tag} {name}={value[:60]}>"
    for tag, _, text in page.raw:
        urls = re.findall(r"(?:https?:)?//[a-z][\w.-]+\.[a-z]{2,}[^\s\"')]*", text) if tag == "style" else []
        assert not urls and "@import" not in text.split("{")[0]
        assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts)\b\s*\(", text)


def test_the_policy_names_every_script_and_style(sick_page: str) -> None:
    page = Page(sick_page)
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None and policy.startswith("default-src 'none';") and "unsafe" not in policy
    directives = {part.split()[0]: part.split()[1:] for part in policy.split(";")}
    found: dict[str, list[str]] = {"script": [], "style": []}
    for tag, attributes, text in page.raw:
        if attributes.get("type") != "application/json":
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            found[tag].append(f"'sha256-{digest}'")
    assert directives["script-src"] == found["script"] and directives["style-src"] == found["style"]
    assert "media-src" not in directives


def test_the_modules_are_one_script_without_imports(sick_page: str) -> None:
    script = next(text for tag, a, text in Page(sick_page).raw if tag == "script" and a.get("type") == "module")
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)
    names = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", script, re.MULTILINE)
    assert len(set(names)) == len(names), "two modules declare one name"
    assert script.rstrip().splitlines()[-1].startswith("openPage(JSON.parse(")


def test_hostile_names_stay_text(hostile: Run, hostile_paths: tuple[str, ...], finding: Callable[..., Finding]) -> None:
    several = [
        finding(
            path=path,
            name=path,
            summary=path,
            advice=(path,),
            ruled_out=(path,),
            evidence=(Evidence("grad_norm", path, 20, 3.0), Evidence(path, path, 20, float("nan"), float("inf"))),
        )
        for path in hostile_paths
    ]
    voice = Voice(hostile_paths[0], np.zeros(1), np.ones(1), np.ones(1))
    heard = Score("x", hostile_paths[1], 1.0, (voice,), (SoundEvent(0.5, "nan", hostile_paths[2], 3),))
    html = report_html(hostile, several, [heard])
    page = Page(html)
    assert page.open == []
    assert [(tag, a.get("id"), a.get("type")) for tag, a in page.tags if tag == "script"] == [
        ("script", "data", "application/json"), ("script", None, None), ("script", None, "module"),
    ]  # fmt: skip
    assert not [tag for tag, _ in page.tags if tag in ("img", "b", "i", "iframe")]
    assert "\u2028" not in html and "\u202e" not in html and "\x1b" not in html and "\x00" not in html
    assert page.data["heatmaps"][0]["rows"] == [shown(path) for path in hostile_paths]
    assert "</script><script>alert(1)</script>" in page.words
    assert "x" * 300 in page.words


def test_data_is_strict_and_complete(sick_page: str, exploding: Run) -> None:
    raw = next(text for _, a, text in Page(sick_page).raw if a.get("id") == "data")
    assert not re.search(r"[<>&]|NaN|Infinity", raw)
    data = Page(sick_page).data
    assert data["steps"] == [0, 200]
    assert data["onsets"] == [{"step": 120, "severity": "critical", "text": "G001"}]
    assert data["sounds"][0]["steps"][-1] == 200 and data["sounds"][0]["times"][-1] == 4
    norm = next(each for each in data["charts"] if each["name"] == "grad_norm")["curves"][0]
    np.testing.assert_allclose(norm["values"], exploding.series("grad_norm").values, rtol=1e-5)


def test_the_page_carries_the_score_and_no_audio(sick_page: str, score: Score) -> None:
    page = Page(sick_page)
    assert not [tag for tag, _ in page.tags if tag in ("audio", "source")] and "autoplay" not in sick_page
    (sound,) = page.data["sounds"]
    (voice,) = sound["voices"]
    assert sound["gain"] == score.gain and sound["duration"] == score.duration and voice["partials"] == [[1.0, 1.0]]
    for name in ("times", "frequencies", "amplitudes"):
        np.testing.assert_allclose(voice[name], getattr(score.voices[0], name), rtol=2e-5, atol=1e-6)
    assert voice["durations"] is None
    buttons = [a.get("id") for tag, a in page.tags if tag == "button"]
    assert buttons[:2] == ["stop", "play"]
    assert "exploding-gradient in layers.2.weight" in page.words and "2 events" in page.words


def test_every_way_to_hear_a_run_has_its_transcript(healthy: Run, score: Score) -> None:
    silent = replace(score, mapping="perone2019", events=())
    html = report_html(healthy, [], [score, silent])
    page = Page(html)
    choices = [a["value"] for tag, a in page.tags if tag == "option" and "selected" not in a]
    assert choices[choices.index("0") :][:2] == ["0", "1"]
    twins = [(a["data-sound"], "hidden" in a) for _, a in page.tags if a.get("class") == "words"]
    assert twins == [("0", False), ("1", True)]
    assert "a quarter of the run" in page.words and "Nothing happens that has a sound of its own" in page.words


def test_without_sound(healthy: Run) -> None:
    page = Page(report_html(healthy, []))
    assert "No sound was made" in page.words and page.data["sounds"] == [] and "player" not in page.ids


def test_nan_is_named_in_words_and_marked_in_data(poisoned: Run) -> None:
    page = Page(report_html(poisoned, []))
    loss = page.data["charts"][0]["curves"][0]
    assert loss["nonfinite"] == [[40, 200]] and loss["values"][40] is None
    assert "161" in page.words


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_short_runs(run_of: Callable[..., Run], steps: int) -> None:
    times = np.linspace(0, 4, steps)
    heard = Score("x", "vitals", 4.0, (), (), times, np.arange(steps))
    page = Page(report_html(run_of(steps=steps, finished=False), [], [heard]))
    assert page.open == [] and "Unfinished" in page.words
    if steps == 0:
        assert "Nothing was recorded" in page.words and "No metric of parameters or modules was observed" in page.words


def test_many_findings_are_folded_not_lost(healthy: Run, finding: Callable[..., Finding]) -> None:
    several = [finding(path=f"layers.{i}") for i in range(30)]
    html = report_html(healthy, several)
    assert html.count('<article class="card') == 30 and "18 further findings" in html


def test_size_of_a_wide_run(run_of: Callable[..., Run]) -> None:
    html = report_html(run_of(steps=2000, parameters=1000), [])
    assert len(html.encode()) < 12e6
    for each in Page(html).data["charts"]:
        assert all(len(curve["values"]) <= 2000 for curve in each["curves"])


def test_layers_are_on_the_page(maker: Any, tensor: Callable[..., TensorDetail]) -> None:
    built = maker("</title><script>alert(1)</script>", steps=100)
    names = tuple(f"<img src=x>.{number}" for number in range(200))
    built.modules = tuple(Module(path, "<b>Tanh</b>" if n % 2 else "Linear", True) for n, path in enumerate(names))
    built.parameters = tuple(Parameter(f"{path}.weight", (30, 10), "float32", True, "0") for path in names[::2])
    built.add("user", "loss", "", np.ones(100))
    random = np.random.default_rng(0)
    units = np.ones(256, np.float32)
    for step in range(9):
        tensors = [
            tensor(kind, f"{path}.weight" if kind in ("param", "grad", "update") else path, random.standard_normal(99))
            for kind in ("activation", "activation_grad", "param", "grad", "update")
            for path in (names if kind.startswith("activation") else names[::2])
        ]
        maps = tuple(
            UnitMap("saturated", path, units, np.arange(256), random.random((256, 64)).astype(np.float32))
            for path in names[1::2]
        )
        built.details[step] = Detail(step, tuple(tensors), maps)
    html = report_html(built.make(), [])
    page = Page(html)
    assert page.open == [] and len(set(page.ids)) == len(page.ids)
    assert not [tag for tag, attributes in page.tags if tag == "b" or (tag == "img" and "alt" not in attributes)]
    assert not [tag for tag, attributes in page.tags if "style" in attributes]
    assert "<b>Tanh</b> (100)" in page.words
    assert len(html.encode()) < 15e6


def test_facts_to_reproduce_the_run(sick_page: str) -> None:
    words = Page(sick_page).words
    for part in (
        "train.py --lr 0.001",
        "8363b45",
        "model.width",
        "torch 2.9",
        "every 8 steps",
        "64 × 64",
        "32,768 elements",
    ):
        assert part in words
    assert "activation_grad_std" in words, "what was not observed is said"


def test_failures_and_changes_of_schedule_are_said(maker: type) -> None:
    built = maker(steps=5)
    built.add("user", "loss", "", np.ones(5))
    built.events = [
        {"kind": "failure", "step": 2, "message": "hook <b>broke</b>"},
        {"kind": "schedule", "step": 3, "every": 4},
    ]
    words = Page(report_html(built.make(), [])).words
    assert "Failure of the monitor at step 2: message hook <b>broke</b>" in words
    assert "Schedule at step 3: every 4" in words


def test_the_same_run_gives_the_same_page(healthy: Run, score: Score) -> None:
    assert report_html(healthy, [], [score]) == report_html(healthy, [], [score])


def test_cards_link_a_consequence_and_its_cause(exploding: Run, finding: Callable[..., Finding]) -> None:
    root = finding(code="U001", name="lr-too-high", step=9, path="")
    follows = finding(code="L001", name="non-finite", step=99, cause=root.key)
    page = report_html(exploding, [follows, root])
    assert 'A consequence of <a href="#finding-1">U001 lr-too-high</a>.' in page
    assert 'Explains <a href="#finding-2">L001 non-finite</a>.' in page


def test_settings_as_long_as_files_and_as_many_as_rows_are_cut_and_counted(healthy: Run) -> None:
    config = {"prompt": "y" * 10_000_000, "k" * 50_000: 1, "table": {f"row {each}": each for each in range(5000)}}
    html = report_html(replace(healthy, info=replace(healthy.info, config=config)), [])
    assert len(html) < len(report_html(healthy, [])) + 200_000
    assert "(10,000,000 characters)" in html and "(50,000 characters)" in html
    assert "the first 1,000 of 5,002 settings" in html
