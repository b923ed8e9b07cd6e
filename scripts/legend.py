"""The legend of docs/sound.md: every sound as a clip and as a spectrogram with its name, in docs/images.

make legend
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from auscult.sound.legend import legend
from auscult.sound.synth import render

mpl.use("agg")
IMAGES = Path(__file__).parents[1] / "docs" / "images"
RATE = 32_000
WINDOW, HOP = 2048, 512
LOWEST, HIGHEST = 60, 60_000  # Hz, with room for the names above what is heard
QUIETEST = -80  # dB below the strongest


def main() -> None:
    """Write both files and say where."""
    score = legend()
    audio = render(score, RATE)
    clip = audio.write(IMAGES / "sound-legend.mp3")
    for twin in (".txt", ".vtt"):
        clip.with_suffix(twin).unlink()  # the page says the same
    print(clip)
    mono = audio.samples.sum(1)
    frames = np.lib.stride_tricks.sliding_window_view(mono, WINDOW)[::HOP]
    level = 20 * np.log10(np.abs(np.fft.rfft(frames * np.hanning(WINDOW))).T + 1e-9)
    level -= level.max()
    figure, axes = plt.subplots(2, 1, figsize=(13, 9), dpi=100, layout="constrained")
    half = len(score.events) // 2
    cuts = (0.0, score.events[half].time - 0.3, score.duration)
    for axis, start, stop in zip(axes, cuts, cuts[1:]):
        times = (np.arange(level.shape[1]) * HOP + WINDOW / 2) / RATE
        frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE)
        shown = (times >= start) & (times <= stop)
        axis.pcolormesh(
            times[shown], frequencies[1:], level[1:, shown], vmin=QUIETEST, vmax=0, cmap="magma", rasterized=True
        )
        axis.set_facecolor("black")
        axis.set(yscale="log", ylim=(LOWEST, HIGHEST), xlim=(start, stop), ylabel="Hz", xlabel="seconds")
        axis.set_yticks([131, 262, 523, 1046, 2093, 4186], ["131", "262", "523 (C5)", "1046", "2093", "4186"])
        axis.minorticks_off()
        for number, event in enumerate(score.events, 1):
            if start <= event.time < stop:
                axis.axvline(event.time, color="white", lw=0.6, alpha=0.6)
                text = event.text.split(":")[0].split(";")[0]
                axis.text(
                    event.time + 0.06, 52_000, f"{number} {text}", color="white", fontsize=8, rotation=90, va="top"
                )
    picture = IMAGES / "sound-legend.png"
    figure.savefig(picture)
    print(picture)


if __name__ == "__main__":
    main()
