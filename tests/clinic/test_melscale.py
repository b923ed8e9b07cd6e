"""MelScale: frames against NumPy in float64 and closed forms, the twins, and the facts of the first steps."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import auscult
from auscult.clinic.melscale import BATCH, SETTINGS, Hearer, log_mel, make_sounds, train
from auscult.core.finding import Finding
from auscult.core.run import Run

STEPS = 10


@pytest.fixture(scope="module")
def sounds() -> tuple[Tensor, Tensor]:
    return make_sounds(0)


def twin(scaled: bool, frames: Tensor, seed: int = 0) -> Hearer:
    torch.manual_seed(seed)
    return Hearer(float(frames.mean()), float(frames.std()), scaled)


def reference(wave: np.ndarray) -> np.ndarray:
    """Log-mel frames `(T, 40)` of one wave `(S,)` at 16 kHz: Hann windows of 512 every 256, triangles from 50 Hz on."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    padded = np.pad(wave.astype(np.float64), 256, mode="reflect")
    pieces = np.stack([padded[start : start + 512] for start in range(0, len(wave) + 1, 256)])
    power = np.abs(np.fft.rfft(pieces * window) / (512 / 4)) ** 2  # a full-scale sine has amplitude 1
    mels = np.linspace(*(2595 * np.log10(1 + np.array([50, 8000]) / 700)), 42)
    edges, bins = 700 * (10 ** (mels / 2595) - 1), np.arange(257) * 16_000 / 512
    filters = [np.interp(bins, edges[each : each + 3], [0, 1, 0], 0, 0) for each in range(40)]
    return 10 * np.log10(np.maximum(power @ np.array(filters).T, 1e-10))


def test_frames_are_those_of_numpy_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    decay = torch.exp(-torch.arange(7936) / 2000)
    waves = 0.1 * torch.randn((3, 7936), generator=generator) * decay
    frames = log_mel(waves)
    assert frames.shape == (3, 32, 40)
    for wave, made in zip(waves.numpy(), frames.numpy()):
        np.testing.assert_allclose(made, reference(wave), atol=1e-3)


def test_a_pure_tone_lies_where_the_mel_scale_has_it() -> None:
    """1 kHz is 1,000 mel. A Hann window gives the bins on both sides of a tone half of its amplitude."""
    tone = np.sin(2 * np.pi * 1000 * np.arange(7936) / 16_000).astype(np.float32)
    frame = log_mel(torch.from_numpy(tone)[None])[0, 16].numpy()
    mels = np.linspace(*(2595 * np.log10(1 + np.array([50, 8000]) / 700)), 42)
    assert frame.argmax() == np.abs(mels[1:-1] - 1000).argmin()
    edges = 700 * (10 ** (mels / 2595) - 1)
    for each in range(40):
        low, middle, high = np.interp([968.75, 1000, 1031.25], edges[each : each + 3], [0, 1, 0], 0, 0)
        power = middle + (low + high) / 4
        expected = 10 * np.log10(power) if power else -100.0
        assert frame[each] == pytest.approx(expected, abs=1e-3), each


def test_silence_is_at_the_floor() -> None:
    assert (log_mel(torch.zeros(1, 1024)) == -100).all()


def test_a_factor_in_power_is_a_term_in_decibels() -> None:
    """Why the repair is an addition."""
    waves = 0.01 * torch.randn((2, 4096), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(log_mel(10 * waves), log_mel(waves) + 20, atol=1e-3, rtol=0)


def test_sounds_are_far_from_zero_and_their_qualities_standardised(sounds) -> None:
    frames, qualities = sounds
    assert frames.shape == (1024, 32, 40) and qualities.shape == (1024, 4)
    assert frames.isfinite().all() and frames.min() >= -100 and frames.max() < 0
    assert -85 < frames.mean() < -81 and 12 < frames.std() < 13
    torch.testing.assert_close(qualities.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(qualities.std(0), torch.ones(4))


def test_louder_and_higher_tones_are_so_in_the_frames(sounds) -> None:
    frames, qualities = sounds
    decibels = frames.numpy().astype(np.float64)
    loudest = decibels.max((1, 2))
    assert np.corrcoef(loudest, qualities[:, 3])[0, 1] > 0.9
    onset = 10 ** (decibels[:, 1] / 10)
    centroid = np.log((onset * np.arange(40)).sum(1) / onset.sum(1))
    assert np.corrcoef(centroid, qualities[:, 0])[0, 1] > 0.6


def test_the_twins_differ_in_the_gain_alone(sounds) -> None:
    frames, _ = sounds
    sick, repaired = twin(True, frames), twin(False, frames)
    gains = dict(sick.named_parameters()), dict(repaired.named_parameters())
    scale, bias = (gain.pop(name) for gain, name in zip(gains, ("mel_scale", "mel_bias")))
    assert gains[0].keys() == gains[1].keys()
    assert all(torch.equal(each, gains[1][name]) for name, each in gains[0].items())
    assert scale.shape == bias.shape == (40,) and not bias.any()
    with torch.no_grad():
        before = repaired(frames[:4])
        assert not torch.allclose(sick(frames[:4]), before)
        scale.fill_(1.0)  # the identity, as the bias of zeros is
        assert torch.equal(sick(frames[:4]), before)


@pytest.mark.parametrize("seed", range(10))
def test_the_gain_flips_about_half_of_the_bins_and_makes_the_inputs_nine_times_too_large(seed, sounds) -> None:
    frames, _ = sounds
    model = twin(True, frames, seed)
    assert model.mel_scale is not None
    scale = model.mel_scale.detach().double()
    assert 10 <= int((scale < 0).sum()) <= 30  # 20 in the mean, with a standard deviation of 3.2
    assert int(((scale - 1).abs() < 0.1).sum()) <= 8  # 2 in the mean, as N(0, 1) has it
    standardised = (frames.double() * scale - model.mean) / model.std
    squares = float((scale**2).mean()) * (model.mean**2 + model.std**2) - 2 * float(scale.mean()) * model.mean**2
    expected = ((squares + model.mean**2) / model.std**2) ** 0.5  # if all bins had the same moments
    assert float(standardised.square().mean().sqrt()) == pytest.approx(expected, rel=0.1)
    assert 7 < expected < 11


def train_bare(scaled: bool, sounds: tuple[Tensor, Tensor]) -> tuple[list[float], list[float]]:
    """Losses and pre-clip gradient norms of the recipe in plain PyTorch."""
    frames, qualities = sounds
    model = twin(scaled, frames)
    optimizer = torch.optim.AdamW(model.parameters())
    generator = torch.Generator().manual_seed(0)
    losses, norms = [], []
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 1e-3 * (step + 1) / 40
        chosen = torch.randint(0, len(frames), (BATCH,), generator=generator)
        optimizer.zero_grad()
        loss = functional.mse_loss(model(frames[chosen]), qualities[chosen])
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, norms


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, tuple[Run, list[Finding]]]:
    """The first ten steps of both runs, and what was found while they were made."""
    found: dict[str, tuple[Run, list[Finding]]] = {}
    for setting in SETTINGS.values():
        live: list[Finding] = []
        monitor = train(setting, tmp_path_factory.mktemp("runs") / "run", steps=STEPS, on_finding=live.append)
        found[setting.name] = auscult.load(monitor.path), live
    return found


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_the_run_is_the_plain_recipe_measured_before_clipping(setting, sounds, trained) -> None:
    run, _ = trained[setting.name]
    losses, norms = train_bare(setting.scaled, sounds)
    np.testing.assert_array_equal(run.series("loss").values, losses)
    np.testing.assert_allclose(run.series("grad_norm").values, norms, rtol=1e-5)
    assert run.info.config["max_norm"] == 1.0 and run.info.config["lr"] == 1e-3


def test_the_gain_is_named_at_the_first_step_with_its_figures(sounds, trained) -> None:
    run, live = trained["mel-scale"]
    alarms = [(each.code, each.path, each.step) for each in live if each.severity != "info"]
    assert alarms == [("I002", "mel_scale", 0)]
    assert {each.code for each in live} <= {"I002", "D001"}  # decibels are large inputs as well
    assert auscult.diagnose(run)[0] == live[0]
    frames, _ = sounds
    model = twin(True, frames)
    assert model.mel_scale is not None
    scale = model.mel_scale.detach().double()
    with torch.no_grad():
        chosen = torch.randint(0, len(frames), (BATCH,), generator=torch.Generator().manual_seed(0))
        inputs = (frames[chosen] * model.mel_scale - model.mean) / model.std
        outputs = model.front(inputs.mT).double()
    mean, std, loud = live[0].evidence
    assert mean.value == pytest.approx(scale.mean().item(), abs=1e-4)  # the first update is 1e-3 / 40
    assert std.value == pytest.approx(scale.std().item(), abs=1e-4)
    assert loud.path == "front" and loud.value == pytest.approx(outputs.std().item(), rel=0.05)  # a sample of them


def test_nothing_is_said_of_the_repaired_run(trained) -> None:
    run, live = trained["mel-scale-repaired"]
    assert auscult.diagnose(run) == live == []


def test_the_first_gradient_is_larger_everywhere_and_most_of_all_in_front(trained) -> None:
    sick, repaired = (trained[name][0] for name in SETTINGS)
    paths = ("front", "blocks.0", "blocks.1", "blocks.2", "head")
    ratios = {
        path: sick.series("grad_norm", path).values[0] / repaired.series("grad_norm", path).values[0] for path in paths
    }
    assert ratios["front"] > 10
    assert ratios["front"] == max(ratios.values()) and min(ratios.values()) > 1
