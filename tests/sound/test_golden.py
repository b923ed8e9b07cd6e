"""S15: sounds as lists of spectral peaks, second by second, within 5 cents and 1 dB of those kept in golden.json.

Nine are of trainings of the clinic, eight of closed formulas. Where a change of sound is meant,
`AUSCULT_GOLDEN=write pytest tests/sound/test_golden.py` writes them anew.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from auscult.sound.mappings import sonify_run
from auscult.sound.request import Request
from auscult.sound.synth import render

KEPT = Path(__file__).with_name("golden.json")
TRAININGS = Path(__file__).with_name("trainings.npz")
RATE = 22_050
SECONDS = 8.0
PEAKS = 4  # of a second
DEPTH = 24.0  # dB below the strongest within which a peak counts


def runs(make_run):
    """Name to run of 80 steps and six layers, by closed formulas: what trainings of these kinds look like."""
    step = np.arange(80.0)[:, None]
    layer = np.arange(6.0)
    wave = 10 ** (0.1 * np.sin(0.9 * step + 1.7 * layer) + layer / 4)
    dead, broken, vanished = wave.copy(), wave.copy(), wave.copy()
    dead[32:, 4:] = 0
    broken[48:] = np.nan
    vanished[:, :2] *= 10 ** (-step / 16)
    spike = wave.copy()
    spike[40, 2] *= 1e3
    return {
        "calm": make_run(wave),
        "learning": make_run(wave * 10 ** (-step / 80)),
        "exploding": make_run(wave * 10 ** (step / 16)),
        "nan": make_run(broken),
        "dead layers": make_run(dead),
        "vanishing early": make_run(vanished),
        "spike": make_run(spike),
        "updates": make_run(1e-3 * wave / wave[0], metric="update_to_data"),
    }


def peaks(samples):
    """For each second its strongest peaks as (Hz, dB), by frequency."""
    found = []
    for start in range(0, len(samples) - RATE + 1, RATE):
        part = samples[start : start + RATE]
        level = 20 * np.log10(np.abs(np.fft.rfft(part * np.hanning(RATE), 4 * RATE)) / RATE + 1e-7)
        tops = np.flatnonzero((level[1:-1] > level[:-2]) & (level[1:-1] >= level[2:])) + 1
        tops = tops[(level[tops] > level.max() - DEPTH) & (level[tops] > -90)]
        chosen = []
        for k in tops[np.argsort(-level[tops])].tolist():  # peaks at least 20 Hz apart: not the lobes of one
            if all(abs(k - other) > 80 for other in chosen) and len(chosen) < PEAKS:
                chosen.append(k)
        refined = []
        for k in sorted(chosen):
            left, centre, right = level[k - 1 : k + 2]
            refined.append([round((k + 0.5 * (left - right) / (left - 2 * centre + right)) / 4, 3), round(centre, 2)])
        found.append(refined)
    return found


def trained(make_run):
    """Name to run of the trainings that trainings.py kept, by the norms of their weights."""
    return {name: make_run(norms) for name, norms in np.load(TRAININGS).items()}


def test_trainings_sound_as_what_became_of_them(make_run):
    """The NaN at its step, the hum of zero where layers are dead, a steady C5 nowhere else."""
    said = {}
    for name, run in trained(make_run).items():
        score = sonify_run(run)
        hums = sum(voice.name.endswith(", zero") for voice in score.voices)
        said[name] = [event.step for event in score.events if event.kind == "nan"], hums
    assert said.pop("sgd-1e30-batch-256") == ([1], 0)
    assert said.pop("dead-layer") == ([], 2)
    assert said.pop("sgd-1.0")[1] >= 1 and said.pop("sgd-1.0-batch-256")[1] >= 1
    assert set(said) == {"mel-scale", "mel-scale-repaired", "sgd-0.01", "sgd-0.1", "adam-0.01"}
    assert all(each == ([], 0) for each in said.values())


def test_sounds_are_as_they_were(make_run):
    made = {}
    for name, run in {**runs(make_run), **trained(make_run)}.items():
        metric = "update_to_data" if name == "updates" else None
        score = sonify_run(run, (), Request(seconds=SECONDS, metric=metric))
        made[name] = peaks(render(score, RATE).samples.sum(1).astype(np.float64))
    if os.environ.get("AUSCULT_GOLDEN") == "write":
        KEPT.write_text(json.dumps(made, separators=(",", ":")).replace(']]],"', ']]],\n"') + "\n")
        pytest.fail("written anew; look at the difference")
    kept = json.loads(KEPT.read_text())
    assert list(kept) == list(made)
    for name, seconds in kept.items():
        for second, (old, new) in enumerate(zip(seconds, made[name], strict=True)):
            assert len(old) == len(new), (name, second)
            for (old_hertz, old_level), (hertz, level) in zip(old, new):
                assert abs(1200 * np.log2(hertz / old_hertz)) <= 5, (name, second)
                assert abs(level - old_level) <= 1, (name, second)
