import numpy as np

from auscult.sound.earcons import EARCONS
from auscult.sound.legend import ENTRIES, legend
from auscult.sound.loudness import integrated_loudness, true_peak
from auscult.sound.synth import render

RATE = 22_050


def test_every_earcon_is_in_the_legend_and_every_entry_is_heard_where_it_says():
    score = legend()
    assert {voice.name for voice in score.voices} >= set(EARCONS)
    assert [event.text for event in score.events] == [entry.meaning for entry in ENTRIES]
    samples = np.abs(render(score, RATE).samples).max(1)
    for event, entry in zip(score.events, ENTRIES):
        start = round(event.time * RATE)
        assert not samples[start - round(0.3 * RATE) : start - 100].any()
        heard = samples[start : start + round(entry.seconds * RATE)].any()
        assert heard == (not entry.meaning.startswith("silence"))


def test_the_legend_is_as_loud_as_any_sound():
    samples = render(legend(), RATE).samples
    assert abs(integrated_loudness(samples, RATE) + 23) <= 1 and 20 * np.log10(true_peak(samples)) <= -1
