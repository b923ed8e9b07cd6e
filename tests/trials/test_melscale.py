"""The mel_scale story, seeds 0 to 9: ten times the gradient, most of all in front, and the gain named as the cause."""

import numpy as np
import pytest

import auscult
from auscult.clinic.melscale import SETTINGS, STEPS, train
from auscult.core.run import Run

pytestmark = pytest.mark.trial

SEEDS = range(10)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[tuple[str, int], Run]:
    """Both runs of each seed; about five minutes."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        (name, seed): auscult.load(train(setting, folder / f"{name}-{seed}", seed).path)
        for seed in SEEDS
        for name, setting in SETTINGS.items()
    }


def last_quarter(run: Run, path: str = "") -> float:
    """Median of the gradient norm before clipping."""
    values = run.series("grad_norm", path).values
    assert len(values) == STEPS
    return float(np.median(values[-(STEPS // 4) :]))


def test_the_gradient_stays_ten_times_as_large(runs) -> None:
    ratios = [last_quarter(runs["mel-scale", seed]) / last_quarter(runs["mel-scale-repaired", seed]) for seed in SEEDS]
    assert sum(ratio >= 10 for ratio in ratios[:5]) >= 4, ratios
    assert sum(ratio >= 10 for ratio in ratios) >= 8, ratios


@pytest.mark.parametrize("seed", SEEDS)
def test_it_grows_towards_the_front(seed, runs) -> None:
    sick, repaired = (
        {path: last_quarter(runs[name, seed], path) for path in ("front", "blocks.0", "blocks.1", "blocks.2", "head")}
        for name in SETTINGS
    )
    assert sick["front"] > sick["blocks.0"] > sick["blocks.1"] > sick["blocks.2"]
    assert all(sick["front"] >= 5 * norm for path, norm in sick.items() if path != "front")
    ratios = {path: norm / repaired[path] for path, norm in sick.items()}
    assert min(ratios.values()) > 1 and ratios["front"] >= 10
    assert all(ratios["front"] > 1.5 * ratio for path, ratio in ratios.items() if path != "front")
    scale, bias = (
        last_quarter(runs[each, seed], path) for each, path in zip(SETTINGS, ("mel_scale", "mel_bias"), strict=True)
    )
    assert scale > 50 * bias


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gain_is_named_first_and_nothing_is_said_of_the_repaired_run(seed, runs) -> None:
    first = auscult.diagnose(runs["mel-scale", seed])[0]
    assert (first.code, first.path, first.step) == ("I002", "mel_scale", 0)
    assert auscult.diagnose(runs["mel-scale-repaired", seed]) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_the_repaired_run_learns_better(seed, runs) -> None:
    """Squared error of qualities of variance 1."""
    sick, repaired = (float(runs[name, seed].series("loss").values[-(STEPS // 4) :].mean()) for name in SETTINGS)
    assert repaired < 0.05 and sick > 4 * repaired
