"""MelScale: a transformer on log-mel frames that a bare gain, drawn from N(0, 1), holds back; and its repair.

The story is that of "Training run diagnostic metrics" (Drevo, 2026): `mel_scale = nn.Parameter(torch.randn(n_mels))`,
multiplied onto frames in decibels at the start of the forward pass. A bin at -80 dB times -1 is 80 dB; hardly any bin
is left where it was. The repair adds a bias instead, zeros at first: a factor in power is a term in decibels.

Over seeds 0 to 9, in the last quarter of the steps, the median gradient norm before clipping is 13 to 28 times that of
the repaired run, and the loss 6 to 15 times (0.16 to 0.32 against 0.02 to 0.03). The norm grows from the last block to
the front in both runs, but the convolution in front has 13 to 19 times that of the first block, repaired 1.3 to 1.7
times. Against the repaired run it is 17 to 37 times as large there, and 1.6 to 9 times everywhere behind.

What that rests on (ratio of the runs, seeds 0 and 1; 14 and 28 as it is):

- The frames are standardised behind the gain, by constants of the data. With a mean of -83 dB and a standard
  deviation of 12.5 dB, a gain s moves a bin by 6.6 |1 - s| standard deviations, so that the front works on inputs 8 to
  10 times too large. On raw decibels, without constants, both runs are ill-conditioned: 0.2 and 0.8.
- AdamW at 1e-3 after a warm-up, held there, and clipping at 1: the story's own recipe. A cosine decay to 0 gives 11 and
  15, no clipping 9 and 16. SGD with momentum 0.9 gives 4 and 6 at lr 0.005; at 0.05 the sick run learns nothing.
- No last normalisation, as in `torch.nn.TransformerEncoder` by default; with one it is 13 and 21.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from os import PathLike

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from auscult.core.finding import Finding
from auscult.monitor import Monitor, watch
from auscult.monitor.silent import SilentMonitor

SAMPLE_RATE, WINDOW, HOP = 16_000, 512, 256
FRAMES, MELS = 32, 40
FLOOR = 1e-10
SOUNDS, PARTIALS, QUALITIES = 1024, 12, 4
WIDTH, BLOCKS, HEADS = 32, 3, 4
BATCH, LR, WARM_UP, MAX_NORM = 32, 1e-3, 40, 1.0
STEPS = 400


@dataclass(frozen=True, slots=True)
class Setting:
    """One of the two runs.

    Attributes:
        name: Its name.
        about: The same in words.
        scaled: Whether frames are multiplied by a gain drawn from N(0, 1); a bias of zeros is added otherwise.
    """

    name: str
    about: str
    scaled: bool


SETTINGS = {
    each.name: each
    for each in (
        Setting("mel-scale", "a transformer on log-mel frames, which a gain drawn from N(0, 1) multiplies", True),
        Setting("mel-scale-repaired", "the same with a bias added in its place, zeros at first", False),
    )
}


class Hearer(nn.Module):
    """Weighs the mel bins, standardises, then a convolution, transformer blocks and a linear layer.

    Args:
        mean: Mean of all frames, in dB.
        std: Their standard deviation, in dB.
        scaled: As in `Setting`.
    """

    def __init__(self, mean: float, std: float, scaled: bool) -> None:
        super().__init__()
        self.mean, self.std = mean, std
        self.front = nn.Conv1d(MELS, WIDTH, 3, padding=1)
        self.position = nn.Parameter(0.02 * torch.randn(1, FRAMES, WIDTH))
        self.blocks = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    WIDTH, HEADS, 2 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
                )
                for _ in range(BLOCKS)
            )
        )
        self.head = nn.Linear(WIDTH, QUALITIES)
        self.mel_scale = nn.Parameter(torch.randn(MELS)) if scaled else None
        self.mel_bias = None if scaled else nn.Parameter(torch.zeros(MELS))

    def forward(self, frames: Tensor) -> Tensor:
        """Qualities `(N, 4)` of frames `(N, 32, 40)` in dB."""
        if self.mel_scale is not None:
            frames = frames * self.mel_scale
        if self.mel_bias is not None:
            frames = frames + self.mel_bias
        frames = (frames - self.mean) / self.std
        hidden = functional.gelu(self.front(frames.mT)).mT + self.position
        return self.head(self.blocks(hidden).mean(1))


def make_sounds(seed: int) -> tuple[Tensor, Tensor]:
    """Half a second of 1,024 tones as log-mel frames, and what they sound like.

    Each is a harmonic tone and some noise, both dying away, over the noise of a quiet room.

    Args:
        seed: Seeds everything that is drawn.

    Returns:
        Frames `(1024, 32, 40)` in dB relative to a full-scale sine, -100 dB at the least; qualities `(1024, 4)`, each
        of mean 0 and standard deviation 1: pitch in octaves, fall of the partials, decay and level in dB.
    """
    generator = torch.Generator().manual_seed(seed)
    pitch, fall, breath, decay, level = (_uniform(generator) for _ in range(5))
    time = torch.arange((FRAMES - 1) * HOP) / SAMPLE_RATE
    phase = 2 * pi * 150.0 * 2.0 ** (2 * pitch) * time  # 150 to 600 Hz
    tone = torch.zeros(SOUNDS, len(time))
    for partial in range(1, PARTIALS + 1):
        tone += partial ** -(1 + 1.5 * fall) * torch.sin(partial * phase + 2 * pi * _uniform(generator))
    tone /= tone.square().mean(1, keepdim=True).sqrt()
    tone += 0.2 * breath * torch.randn(tone.shape, generator=generator)
    tone *= _amplitude(-(4 + 26 * decay) * time / time[-1]) * _amplitude(-60 + 20 * level)
    tone += 1e-5 * torch.randn(tone.shape, generator=generator)
    qualities = torch.cat([pitch, fall, decay, level], 1)
    return log_mel(tone), (qualities - qualities.mean(0)) / qualities.std(0)


def log_mel(waves: Tensor) -> Tensor:
    """Log-mel frames `(N, 1 + S // 256, 40)` of waves `(N, S)`, in dB of a full-scale sine, floored at -100."""
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(waves, WINDOW, HOP, window=window, return_complex=True).abs() / (window.sum() / 2)
    return 10 * torch.log10((_mel_filters() @ spectrum.square()).clamp_min(FLOOR)).mT.contiguous()


def _uniform(generator: Generator) -> Tensor:
    return torch.rand(SOUNDS, 1, generator=generator)


def _amplitude(decibels: Tensor) -> Tensor:
    return 10.0 ** (decibels / 20)


def _mel_filters() -> Tensor:
    """Triangles of height 1 `(40, 257)`, evenly from 50 Hz to 8 kHz on the mel scale 2595 log10(1 + f/700)."""
    low, high = (2595 * torch.log10(torch.tensor(1 + hertz / 700)) for hertz in (50, SAMPLE_RATE / 2))
    edges = 700 * (10 ** (torch.linspace(float(low), float(high), MELS + 2) / 2595) - 1)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = torch.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    return torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp_min(0)


def train(
    setting: Setting,
    path: str | PathLike[str],
    seed: int = 0,
    steps: int = STEPS,
    on_step: Callable[[int], object] | None = None,
    on_finding: Callable[[Finding], object] | None = None,
) -> Monitor | SilentMonitor:
    """Train one run on a fixed schedule: norms at every step, samples at every eighth.

    With one seed, both runs have the same sounds, batches and other parameters.

    Args:
        setting: Which of the two.
        path: Directory of the run.
        seed: Seeds sounds, initialisation and sampling.
        steps: Number of updates.
        on_step: Called with the number of updates made.
        on_finding: Passed on to `watch`.

    Returns:
        The closed monitor.
    """
    frames, qualities = make_sounds(seed)
    torch.manual_seed(seed)
    model = Hearer(float(frames.mean()), float(frames.std()), setting.scaled)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARM_UP))
    generator = torch.Generator().manual_seed(seed)
    config = {"optimizer": "adamw", "lr": LR, "batch": BATCH, "max_norm": MAX_NORM, "seed": seed}
    with watch(model, optimizer, path, steps=steps, config=config, every=(1, 8), on_finding=on_finding) as monitor:
        for step in range(steps):
            chosen = torch.randint(0, SOUNDS, (BATCH,), generator=generator)
            loss = functional.mse_loss(model(frames[chosen]), qualities[chosen])
            loss.backward()
            monitor.clip_grad_norm_(MAX_NORM)
            optimizer.step()
            optimizer.zero_grad()
            warm_up.step()
            monitor.log(loss=loss)
            if on_step is not None:
                on_step(step + 1)
    return monitor
