"""Loudness: the gated meter of ITU-R BS.1770-4, and true peak.

Knows nothing of scores. NumPy alone: filters are applied piece by piece in the frequency domain.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Samples = NDArray[np.float32] | NDArray[np.float64]

CEILING = -1.0  # dBTP
ABSOLUTE_GATE = -70.0  # LUFS
RELATIVE_GATE = -10.0  # LU below the mean of what passed the absolute gate
WARM_UP = 0.25  # seconds after which the K-weighting has forgotten its past (its slowest pole is at 38 Hz)
PIECE = 1 << 17  # samples filtered at a time
TAPS = 24  # per phase of the oversampling filter


def k_weighting(sample_rate: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The two biquads of BS.1770-4 at any sample rate, each as (b0, b1, b2, a0, a1, a2) with a0 = 1.

    The recommendation prints coefficients for 48 kHz only; these are the bilinear transforms of the analogue filters
    behind them (a +4 dB high shelf at 1682 Hz, a high-pass at 38 Hz).
    """
    k = np.tan(np.pi * 1681.974450955533 / sample_rate)
    quality, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    shelf = np.array(
        [high + band * k / quality + k * k, 2 * (k * k - high), high - band * k / quality + k * k,
         1 + k / quality + k * k, 2 * (k * k - 1), 1 - k / quality + k * k]
    )  # fmt: skip
    k = np.tan(np.pi * 38.13547087602444 / sample_rate)
    quality = 0.5003270373238773
    norm = 1 + k / quality + k * k
    high_pass = np.array([1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / norm, (1 - k / quality + k * k) / norm])
    return shelf / shelf[3], high_pass


def integrated_loudness(samples: Samples, sample_rate: int) -> float:
    """Integrated loudness in LUFS: 400 ms blocks, 75 % overlap, gated at -70 LUFS and 10 LU below the mean.

    Sound shorter than 400 ms counts as one block.

    Args:
        samples: `(frames, channels)`; one or two channels of weight 1.
        sample_rate: Frames per second.

    Returns:
        LUFS; -inf for silence.
    """
    energy, count = _tenths(samples, sample_rate)
    width = min(4, len(energy))
    if width == 0:
        return -np.inf
    blocks = sliding_window_view(energy, width).sum(-1) / sliding_window_view(count, width).sum(-1)
    loud = blocks[_lufs(blocks) > ABSOLUTE_GATE]
    if len(loud) == 0:
        return -np.inf
    loud = loud[_lufs(loud) > _lufs(loud.mean()) + RELATIVE_GATE]
    return float(_lufs(loud.mean()))


def true_peak(samples: Samples) -> float:
    """Largest magnitude of the sound between and at its samples, by 4x oversampling; linear, 0 for silence."""
    return float(_peaks(samples).max(initial=0.0))


def _lufs(power: NDArray[np.float64] | np.floating) -> NDArray[np.float64]:
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-30))


def _tenths(samples: Samples, sample_rate: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Energy, summed over channels, and number of frames of each whole tenth of a second after K-weighting."""
    tenths = max(len(samples) * 10 // sample_rate, int(len(samples) > 0))
    edges = np.arange(tenths + 1) * sample_rate // 10
    if len(samples) < edges[-1]:  # shorter than one tenth
        edges[-1] = len(samples)
    power = np.zeros(len(samples))
    for start in range(0, len(samples), PIECE):
        weighted = _weighted(samples, start, min(start + PIECE, len(samples)), sample_rate)
        power[start : start + len(weighted)] = (weighted * weighted).sum(1)
    total = np.concatenate([[0.0], np.cumsum(power)])
    return np.diff(total[edges]), np.diff(edges)


def _weighted(samples: Samples, start: int, stop: int, sample_rate: int) -> NDArray[np.float64]:
    """K-weighted samples [start, stop), each piece begun early enough for the filter to have settled."""
    warm_up = round(WARM_UP * sample_rate)
    early = max(0, start - warm_up)
    length = 1 << int(stop - early + warm_up - 1).bit_length()
    turn = np.exp(-2j * np.pi * np.fft.rfftfreq(length))
    response = np.ones(len(turn), np.complex128)
    for b0, b1, b2, a0, a1, a2 in k_weighting(sample_rate):
        response *= (b0 + b1 * turn + b2 * turn**2) / (a0 + a1 * turn + a2 * turn**2)
    spectrum = np.fft.rfft(samples[early:stop].astype(np.float64), length, axis=0)
    return np.fft.irfft(spectrum * response[:, None], length, axis=0)[start - early : stop - early]


def _peaks(samples: Samples) -> NDArray[np.float64]:
    """Largest magnitude over channels at each sample and the three points after it, `(frames,)`."""
    position = np.arange(-TAPS // 2 + 1, TAPS // 2 + 1)
    peaks = np.abs(samples).max(1, initial=0.0).astype(np.float64)
    for quarter in (0.25, 0.5, 0.75):
        offset = position - quarter
        taps = np.sinc(offset) * np.cos(np.pi * offset / (TAPS + 1)) ** 2
        for channel in range(samples.shape[1] if len(samples) else 0):
            between = np.convolve(samples[:, channel], taps[::-1] / taps.sum())
            np.maximum(peaks, np.abs(between[TAPS // 2 :][: len(samples)]), out=peaks)
    return peaks
