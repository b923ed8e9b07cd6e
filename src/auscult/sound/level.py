"""Level: the gain at which a score has its loudness, measured on its sound.

It is one number for the whole sound and stands in the score, so that every renderer plays at the same level without a
meter, and no limiter is needed.
"""

from dataclasses import replace

import numpy as np

from auscult.core.score import Score
from auscult.sound.loudness import CEILING, integrated_loudness, true_peak
from auscult.sound.synth import render

TARGET = -23.0  # LUFS
SAMPLE_RATE = 24_000  # enough to measure partials of up to 12 kHz
MARGIN = 0.5  # dB, for what another sample rate finds between these samples


def leveled(score: Score) -> Score:
    """The score with the gain that brings it to -23 LUFS, or to a true peak of -1.5 dBTP where that comes first.

    Silence stays as it is.
    """
    samples = render(replace(score, gain=1.0), SAMPLE_RATE).samples
    loudness = integrated_loudness(samples, SAMPLE_RATE)
    if not np.isfinite(loudness):
        return replace(score, gain=1.0)
    loud = 10 ** ((TARGET - loudness) / 20)
    return replace(score, gain=float(min(loud, 10 ** ((CEILING - MARGIN) / 20) / true_peak(samples))))
