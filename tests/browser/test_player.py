"""The player in a real Chromium: silent until asked, one key from silence, in step with what is seen."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page
from tests.browser.conftest import Visits

import auscult
from auscult.core.score import Score, SoundEvent, Voice
from auscult.pages.report import report_html
from auscult.sound.earcons import earcon_voice

pytestmark = pytest.mark.browser

WATCHED = """
window.contexts = [];
const Plain = AudioContext;
window.AudioContext = class extends Plain {
  constructor(...options) {
    super(...options);
    this.tap = new AnalyserNode(this, { fftSize: 4096 });
    contexts.push(this);
  }
};
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode && this !== target.context.tap) connect.call(this, target.context.tap);
  return connect.call(this, target, ...rest);
};
window.samples = () => {
  const found = new Float32Array(4096);
  contexts[0].tap.getFloatTimeDomainData(found);
  return found;
};
window.level = () => Math.max(...window.samples().map(Math.abs));
"""
ONSET = """
(place) => new Promise((done) => {
  const [context] = contexts;
  const line = document.querySelector('#chart-grad_norm .running.playhead');
  const places = [];
  let sounded = null;
  const look = () => {
    const now = performance.now();
    const found = samples();
    const first = found.findIndex((each) => Math.abs(each) > 1e-3);
    const clock = context.currentTime;
    if (sounded === null && first > 0) {
      const ahead = clock - (found.length - first) / context.sampleRate + context.baseLatency + context.outputLatency;
      sounded = now + 1000 * (ahead - clock);
    }
    const x = new DOMMatrix(getComputedStyle(line).transform).m41;
    places.push([now, x / line.parentElement.clientWidth]);
    if (sounded !== null && now > sounded + 300) done([sounded, places]);
    else setTimeout(look, 4);
  };
  look();
})
"""
SILENT = 1.5  # seconds before the first sound of `crafted`


def crafted(run: auscult.Run) -> Score:
    """Silence, then a tone that begins at once; an alarm in the middle of the tone."""
    steps = run.steps
    times = np.linspace(0, 6.0, len(steps))
    tone = Voice("tone", np.array([SILENT, 6.0]), np.full(2, 523.25), np.full(2, 0.3), pan=-1.0)
    alarm = earcon_voice("nan", [4.0])
    return Score("t", "vitals", 6.0, (tone, alarm), (SoundEvent(4.0, "nan", "NaN", 90),), times, steps)


@pytest.fixture
def opened(visits: Visits, run_path: Callable[[str], Path], tmp_path: Path) -> Callable[..., Page]:
    """Opens the report of a healthy run with some scores; every audio context it makes can be listened to."""
    run = auscult.load(run_path("healthy"))

    def open_page(*more: Score, **options: str) -> Page:
        target = tmp_path / "report.html"
        target.write_text(report_html(run, [], [crafted(run), *more]), encoding="utf-8")
        return visits.open(target.as_uri(), **{"script": WATCHED, **options})

    return open_page


def contexts(page: Page) -> list[str]:
    return page.evaluate("contexts.map((each) => each.state)")


def seconds(page: Page) -> float:
    return float(page.inner_text("#now").split(" s")[0])


def drag(page: Page, to: int) -> None:
    """Move the slider to so many thousandths."""
    page.locator("#position").evaluate("(each, to) => { each.value = to; each.dispatchEvent(new Event('input')); }", to)


def wait_until(page: Page, moment: float) -> None:
    page.wait_for_function("(moment) => parseFloat(document.getElementById('now').textContent) >= moment", arg=moment)


def test_there_is_no_sound_before_a_gesture(opened: Callable[..., Page]) -> None:
    page = opened()
    page.wait_for_timeout(300)
    assert contexts(page) == [], "nothing is made that could sound"


def test_what_a_page_makes_before_a_gesture_is_suspended(opened: Callable[..., Page], visits: Visits) -> None:
    visits.tolerated = "AudioContext was not allowed to start"
    page = opened(script="const early = new AudioContext(); setTimeout(() => (window.found = early.state), 100);")
    page.wait_for_function("() => window.found")
    assert page.evaluate("found") == "suspended"


def test_keyboard_alone(opened: Callable[..., Page]) -> None:
    """Stop is the first control, then play; Escape silences from anywhere."""
    page = opened()
    order = "[...document.querySelectorAll('#player :is(button, input, select)')].map((each) => each.id)"
    assert page.evaluate(order) == ["stop", "play", "position", "mode", "heard", "speed", "volume", "scale"]
    page.evaluate("document.querySelector('#sound').scrollIntoView()")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#player') !== null"):
            break
    assert page.evaluate("document.activeElement.id") == "stop", "the first of the player that is reached"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    wait_until(page, 0.3)
    assert contexts(page) == ["running"] and page.inner_text("#play") == "Pause"
    page.keyboard.press("Tab")
    for _ in range(3):
        page.keyboard.press("PageUp")
    assert seconds(page) > 1.8, "the slider moves it"
    page.wait_for_function("() => level() > 0.05")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Escape")
    assert page.inner_text("#play") == "Play" and seconds(page) == 0
    page.wait_for_function("() => level() === 0", timeout=1000)


def test_playhead_and_sound_agree_within_50_ms(opened: Callable[..., Page]) -> None:
    page = opened()
    page.click("#play")
    wait_until(page, 0.5)
    sounded, places = page.evaluate(ONSET)
    first, last = page.evaluate("JSON.parse(document.getElementById('data').textContent).steps")
    room = max(0.5, (last - first) * 0.005)
    when, shares = np.array(places).T
    moments = (first - room + shares * (last - first + 2 * room) - first) / (last - first) * 6.0
    shown = np.interp(SILENT, moments, when)
    assert abs(shown - sounded) <= 50


@pytest.mark.parametrize("speed", ["0.5", "2"])
def test_speed_leaves_pitch(opened: Callable[..., Page], speed: str) -> None:
    page = opened()
    page.select_option("#speed", speed)
    page.click("#play")
    wait_until(page, SILENT + 0.3)
    found = np.array(page.evaluate("Array.from(samples())"))
    rate = page.evaluate("contexts[0].sampleRate")
    spectrum = np.abs(np.fft.rfft(found * np.hanning(len(found)), 1 << 17))
    assert abs(1200 * np.log2(spectrum.argmax() * rate / (1 << 17) / 523.25)) < 10
    began = seconds(page), page.evaluate("performance.now()")
    page.wait_for_timeout(500)
    assert (seconds(page) - began[0]) / (page.evaluate("performance.now()") - began[1]) * 1000 == pytest.approx(
        float(speed), rel=0.25
    )


def test_volume_alerts_only_and_seeking(opened: Callable[..., Page]) -> None:
    page = opened()
    page.evaluate("document.getElementById('volume').value = 25")
    page.click("#play")
    page.click("#twin summary")
    page.click("button.moment")
    assert seconds(page) >= 4.0
    page.select_option("#heard", "alerts")
    page.click("button.moment")
    page.wait_for_function("() => level() > 0.02")
    drag(page, 400)
    page.wait_for_timeout(200)
    assert 2.4 <= seconds(page) < 3.5 and page.evaluate("level()") == 0, "the tone is no alert"
    page.select_option("#heard", "all")
    page.wait_for_function("() => level() > 0.01")
    assert page.evaluate("level()") < 0.3 * 0.25 * 1.05


def test_another_way_to_hear_it_keeps_the_step(opened: Callable[..., Page], run_path: Callable[[str], Path]) -> None:
    steps = auscult.load(run_path("healthy")).steps
    voice = Voice("v", np.array([0.0, 30.0]), np.full(2, 441.0), np.full(2, 0.1))
    page = opened(Score("t", "vitals", 30.0, (voice,), (), np.linspace(0, 30.0, len(steps)), steps, mode="arpeggio"))
    page.click("#twin summary")
    page.click("button.moment")
    assert seconds(page) == 4.0
    page.select_option("#mode", "1")
    assert seconds(page) == pytest.approx(20.0, abs=0.1)
    assert page.locator(".words").nth(0).is_hidden() and not page.locator(".words").nth(1).get_attribute("hidden")


def test_whoever_wants_less_motion_hears_alerts_only(opened: Callable[..., Page]) -> None:
    page = opened(motion="reduce")
    assert page.input_value("#heard") == "alerts"
    page.click("#play")
    wait_until(page, SILENT + 0.5)
    assert page.evaluate("level()") == 0


def test_the_scale_is_heard_and_ends(opened: Callable[..., Page]) -> None:
    page = opened()
    page.click("#scale")
    page.wait_for_function("() => contexts[0] && level() > 0.1")
    page.wait_for_timeout(1700)
    assert page.evaluate("level()") == 0 and page.inner_text("#play") == "Play"


def test_the_end(opened: Callable[..., Page]) -> None:
    page = opened()
    page.click("#play")
    drag(page, 990)
    page.wait_for_function("() => document.getElementById('play').textContent === 'Play'", timeout=3000)
    assert seconds(page) == 0
