"""The browser's renderer against the one in NumPy, in a real Chromium."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

from auscult.core.score import TIMBRES, Score, Voice
from auscult.sound.earcons import EARCONS, earcon_voice
from auscult.sound.level import leveled
from auscult.sound.synth import Synth, render

RATE = 44_100
FRAME = 4410  # samples
SOURCE = files("auscult.pages").joinpath("assets", "sound.js").read_text("utf-8")
RENDER = """
async ([score, options, rate]) => {
  const { window: [start, stop] = [0, score.duration], pieces = 1, part, ...rest } = options;
  const context = new OfflineAudioContext(score.channels, Math.round((stop - start) * rate), rate);
  const heard = (voice) => !part || voice.part === part;
  const performance = perform(score, context, { at: 0, from: start, heard, ...rest });
  for (let piece = 1; piece <= pieces; piece += 1) performance.extend(start + ((stop - start) * piece) / pieces);
  const audio = await context.startRendering();
  const encode = (channel) => {
    const bytes = new Uint8Array(audio.getChannelData(channel).buffer);
    let text = "";
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    return btoa(text);
  };
  return Array.from({ length: score.channels }, (_, channel) => encode(channel));
}
"""

pytestmark = pytest.mark.browser

Samples = NDArray[np.float32]
Play = Callable[..., Samples]


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """An empty page in which `perform` of sound.js is at hand."""
    context = browser.new_context()
    page = context.new_page()
    page.add_script_tag(content=SOURCE + "\nwindow.perform = perform;", type="module")
    page.wait_for_function("typeof window.perform === 'function'")
    yield page
    context.close()


@pytest.fixture(scope="module")
def play(page: Page) -> Play:
    """Renders a score in an OfflineAudioContext: samples `(frames, channels)`."""

    def rendered(score: Score, **options: Any) -> Samples:
        encoded = page.evaluate(RENDER, [score.to_dict(), options, RATE])
        return np.stack([np.frombuffer(base64.b64decode(each), "<f4") for each in encoded], axis=1)

    return rendered


def random_score(seed: int) -> Score:
    """Three gliding voices in random timbres, one of tones and one earcon, 3 s."""
    generator = np.random.default_rng(seed)
    timbres = sorted(TIMBRES)
    voices: list[Voice] = []
    for number in range(3):
        start = 0.0 if number < 2 else generator.uniform(0.2, 0.8)
        times = np.unique(np.round(np.concatenate([[start, 3.0], generator.uniform(start, 3.0, 25)]), 6))
        walk = np.cumsum(generator.normal(0, 0.15, len(times)))
        voices.append(
            Voice(
                f"glide {number}",
                times,
                np.clip(523.25 * 2**walk, 131, 2093),
                generator.uniform(0.05, 0.25, len(times)) * (generator.random(len(times)) > 0.1),
                timbre=timbres[generator.integers(len(timbres))],
                pan=float(generator.uniform(-1, 1)),
            )
        )
    at = np.arange(0.1, 2.8, 0.3)
    voices.append(
        Voice(
            "tones",
            at,
            generator.uniform(131, 2093, len(at)),
            np.full(len(at), 0.1),
            durations=generator.uniform(0.01, 0.25, len(at)),
            timbre="hollow",
            pan=0.3,
        )
    )
    voices.append(earcon_voice(sorted(EARCONS)[seed % len(EARCONS)], [float(generator.uniform(0.5, 1.5))]))
    return leveled(Score(f"random {seed}", "test", 3.0, tuple(voices)))


def peak(frame: Samples) -> tuple[float, float]:
    """Frequency in Hz and level in dB of the strongest partial of a frame."""
    window = np.blackman(len(frame))
    magnitude = np.abs(np.fft.rfft(frame * window, 8 * len(frame)))
    k = int(np.clip(magnitude.argmax(), 1, len(magnitude) - 2))
    left, centre, right = 20 * np.log10(magnitude[k - 1 : k + 2] + 1e-12)
    shift = 0.5 * (left - right) / (left - 2 * centre + right) if left + right < 2 * centre else 0.0
    return (k + shift) * RATE / (8 * len(frame)), centre - 0.25 * (left - right) * shift


@pytest.mark.parametrize("seed", range(20))
def test_twenty_scores_sound_as_in_numpy(seed: int, play: Play) -> None:
    score = random_score(seed)
    ours, theirs = play(score), render(score, RATE).samples
    assert ours.shape == theirs.shape
    cents, decibels = apart(ours, theirs)
    assert cents <= 1 and decibels <= 0.1


def apart(ours: Samples, theirs: Samples) -> tuple[float, float]:
    """The largest distance between the strongest partials of any frame and channel, in cents and in dB."""
    cents, decibels = [0.0], [0.0]
    for start in range(0, len(ours), FRAME):
        for one, other in zip(ours[start : start + FRAME].T, theirs[start : start + FRAME].T):
            if np.abs(other).max() > 1e-3:
                (f, level), (g, expected) = peak(one), peak(other)
                cents.append(abs(1200 * np.log2(f / g)))
                decibels.append(abs(level - expected))
    return max(cents), max(decibels)


def test_scheduled_piece_by_piece_it_is_the_same(play: Play) -> None:
    """A long score is scheduled a few seconds ahead of the clock, not at once."""
    score = random_score(3)
    np.testing.assert_allclose(play(score, pieces=13), play(score), atol=1e-6)


@pytest.mark.parametrize("start", [0.7, 1.3333, 2.2])
def test_from_anywhere_it_is_the_file_from_there(start: float, play: Play) -> None:
    score = random_score(5)
    score = replace(score, voices=tuple(each for each in score.voices if each.durations is None))
    ours = play(score, window=[start, 3.0])
    first = round(start * RATE)
    theirs = Synth(score, RATE).block(first, first + len(ours))
    cents, decibels = apart(ours[FRAME:], theirs[FRAME:])  # it fades in
    assert cents <= 1 and decibels <= 0.1


def test_speed_changes_time_and_leaves_pitch(play: Play) -> None:
    times = np.array([0.0, 1.0, 1.001, 2.0])
    voice = Voice("v", times, np.array([300.0, 300.0, 700.0, 700.0]), np.full(4, 0.3))
    samples = play(Score("t", "test", 2.0, (voice,), channels=1), speed=2.0)[:, 0]
    assert peak(samples[2205:19845])[0] == pytest.approx(300, rel=1e-4)
    assert peak(samples[24255:41895])[0] == pytest.approx(700, rel=1e-4)
    assert not samples[RATE + 10 :].any()


def test_alerts_alone(play: Play) -> None:
    score = random_score(1)
    ours = play(score, part="alerts")
    alerts = replace(score, voices=tuple(each for each in score.voices if each.part == "alerts"))
    cents, decibels = apart(ours, render(alerts, RATE).samples)
    assert cents <= 1 and decibels <= 0.1 and ours.any()


def test_a_score_that_is_too_loud_is_held_below_full_scale(play: Play) -> None:
    samples = play(replace(random_score(2), gain=20.0))
    assert np.isfinite(samples).all() and 0.9 < np.abs(samples).max() <= 0.98


def test_a_voice_that_grows_while_it_is_heard_has_no_jumps(page: Page) -> None:
    """Points come in time, too late, and not for a while; between them the last one is held."""
    encoded = page.evaluate(
        """async (rate) => {
          const context = new OfflineAudioContext(1, 2 * rate, rate);
          const voice = {name: "v", part: "layers", partials: [[1, 1]], pan: 0, ramp: 0.005, durations: null,
                         times: [0, 0.01, 0.5], frequencies: [400, 400, 400], amplitudes: [0, 0.3, 0.3]};
          const score = {duration: 1e9, channels: 1, gain: 1, voices: [voice]};
          const performance = perform(score, context, {at: 0, growing: true});
          performance.extend(1e9);
          const add = (time, frequency) => {
            voice.times.push(time); voice.frequencies.push(frequency); voice.amplitudes.push(0.3);
            performance.extend(1e9);
          };
          context.suspend(0.4).then(() => { add(0.8, 500); context.resume(); });
          context.suspend(1.2).then(() => { add(1.1, 600); add(1.5, 700); context.resume(); });
          const audio = await context.startRendering();
          return Array.from(audio.getChannelData(0));
        }""",
        RATE,
    )
    samples = np.array(encoded)
    slope = 0.3 * 2 * np.sin(np.pi * 700 / RATE)
    assert np.abs(np.diff(samples)).max() <= 1.05 * slope
    assert peak(samples[35280 + 2000 : 52000])[0] == pytest.approx(500, rel=1e-3)
    assert peak(samples[66150 + 1000 : 88000])[0] == pytest.approx(700, rel=1e-3)
