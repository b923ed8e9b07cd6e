"""Rivals: the traits of real runs against torch and NumPy, and every claim of a table where it begins to hold."""

from math import isnan, nan

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import auscult
from auscult.clinic.rivals import RIVALS, opinions
from auscult.clinic.taxonomy import FAULTS, UNKNOWN
from auscult.clinic.traits import TRAITS, Traits, traits_of
from auscult.core.run import Run

STEPS = 60


def train(path, lr: float, scale: float = 1.0) -> Run:
    """Two layers that learn which of three numbers is the largest."""
    torch.manual_seed(0)
    inputs = scale * torch.randn(256, 3)
    targets = inputs.argmax(1)
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with auscult.watch(model, optimizer, path, every=1) as monitor:
        for step in range(STEPS):
            rows = slice(32 * (step % 8), 32 * (step % 8) + 32)
            loss = functional.cross_entropy(model(inputs[rows]), targets[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
        monitor.log_evaluation("val", accuracy=0.9)
    return auscult.load(monitor.path)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Run:
    return train(tmp_path_factory.mktemp("runs") / "healthy", 0.1)


@pytest.fixture(scope="module")
def exploding(tmp_path_factory) -> Run:
    return train(tmp_path_factory.mktemp("runs") / "exploding", 1e30, scale=100.0)


def test_traits_are_those_of_the_recorded_numbers(healthy) -> None:
    traits = traits_of(healthy)
    loss = np.asarray(healthy.series("loss"))
    parts = loss.reshape(20, -1).mean(1)
    assert traits.loss_largest == loss.max()
    assert traits.loss_drop == pytest.approx(1 - parts[-1] / parts[0], rel=1e-12) and traits.loss_drop > 0.1
    assert traits.loss_rebound == pytest.approx((parts[1:] / np.minimum.accumulate(parts)[:-1]).max())
    assert traits.stagnant_share == pytest.approx(np.mean(parts[1:] > 0.95 * parts[:-1]))
    assert traits.lr == pytest.approx(0.1) and traits.nonfinite == 0 and traits.untouched_weights == 0
    assert traits.evaluation_accuracy == 0.9 and isnan(traits.attention_entropy) and isnan(traits.dropout)
    norms = [
        np.median(np.asarray(healthy.series("grad_norm", each)).reshape(20, -1), 1) for each in ("0.weight", "2.weight")
    ]
    assert traits.gradient_first == pytest.approx(norms[0].min())
    assert traits.gradient_ratio_largest == pytest.approx((norms[0] / norms[1]).max())
    ratios = [float(np.median(np.asarray(healthy.series("update_ratio", each)))) for each in ("0.weight", "2.weight")]
    assert (traits.update_ratio_least, traits.update_ratio_largest) == pytest.approx((min(ratios), max(ratios)))
    effects = [float(np.median(np.asarray(healthy.series("effective_lr", each)))) for each in ("0.weight", "2.weight")]
    assert effects == pytest.approx([0.1, 0.1], rel=1e-3)  # plain SGD, so that lr * ||g|| / ||theta|| is the ratio
    assert traits.lr_effect_largest == pytest.approx(traits.update_ratio_largest, rel=0.05)


def test_shares_of_elements_are_those_of_the_tensors(healthy) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(256, 3)[:32]
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 3))
    hidden = model[0](inputs)
    traits = traits_of(healthy)
    assert healthy.details == (0,)
    assert traits.nonpositive_share == pytest.approx((hidden <= 0).float().mean().item(), abs=1e-6)
    stds = [hidden.std().item(), hidden.relu().std().item()]
    assert (traits.first_std_least, traits.first_std_largest) == pytest.approx((min(stds), max(stds)), rel=1e-4)
    assert traits.weight_largest == pytest.approx(
        max(each.weight.abs().max().item() for each in (model[0], model[2])), rel=0.1
    )
    assert traits.preactivation_share == 0 and traits.dead_share <= 0.5


def test_a_healthy_run_is_left_alone_by_the_watcher(healthy) -> None:
    said = opinions(traits_of(healthy))
    assert set(said) == set(RIVALS) and said["NaN + plateau watcher"] == ()
    assert "lr_too_high" in said["UMLAUT"]  # its bound of .01 is crossed by lr .1, as published


def test_an_exploding_run_is_seen_by_all_that_look_for_it(exploding) -> None:
    traits = traits_of(exploding)
    said = opinions(traits)
    assert traits.nonfinite == 1
    assert said["NaN + plateau watcher"][0] == "non_finite" and "exploding_gradient" in said["AutoTrainer"]
    assert said["DeepDiagnosis"][0] == said["UMLAUT"][0] == said["TheDeepChecker"][0] == "non_finite"


def test_an_empty_run_has_traits_and_raises_no_alarm(tmp_path) -> None:
    model = nn.Linear(2, 2)
    monitor = auscult.watch(model, torch.optim.SGD(model.parameters(), lr=0.005), tmp_path / "empty")
    monitor.close()
    traits = traits_of(auscult.load(monitor.path))
    assert len(traits.numbers()) == len(TRAITS)
    assert not any(opinions(traits).values())


def test_what_was_not_observed_is_no_alarm() -> None:
    assert not any(opinions(Traits()).values())


@pytest.mark.parametrize(
    ("who", "cause", "inside", "outside"),
    [
        ("NaN + plateau watcher", UNKNOWN, {"stale_periods": 10}, {"stale_periods": 9}),
        ("NaN + plateau watcher", "non_finite", {"nonfinite": 1}, {"nonfinite": 0}),
        ("AutoTrainer", "vanishing_gradient", {"gradient_ratio_least": 9e-4, "gradient_first": 9e-5},
         {"gradient_ratio_least": 9e-4, "gradient_first": 2e-4}),
        ("AutoTrainer", "exploding_gradient", {"gradient_ratio_largest": 71}, {"gradient_ratio_largest": 70}),
        ("AutoTrainer", "dead_units", {"gradient_zeros": 0.7}, {"gradient_zeros": 0.69}),
        ("AutoTrainer", "lr_too_high", {"oscillation_share": 0.2}, {"oscillation_share": 0.19}),
        ("AutoTrainer", "overfitting", {"evaluation_gap": 0.08, "accuracy_last": 0.95},
         {"evaluation_gap": 0.08, "accuracy_last": 0.85}),
        ("DeepDiagnosis", "dead_units", {"nonpositive_share": 0.7}, {"nonpositive_share": 0.69}),
        ("DeepDiagnosis", "input_not_normalised", {"input_least": -1.1}, {"input_least": -1.0, "input_largest": 1.0}),
        ("DeepDiagnosis", "lr_too_low", {"lr_effect_least": 9e-6}, {"lr_effect_least": 1.1e-5}),
        ("UMLAUT", "over_regularised", {"dropout": 0.6}, {"dropout": 0.5}),
        ("UMLAUT", "data_leak", {"evaluation_accuracy": 0.96}, {"evaluation_accuracy": 0.95, "evaluation_gap": -0.05}),
        ("UMLAUT", "missing_nonlinearity", {"affine_chain": 1}, {"affine_chain": 0}),
        ("TheDeepChecker", "bad_init_scale", {"first_std_least": 0.49},
         {"first_std_least": 0.5, "first_std_largest": 2}),
        ("TheDeepChecker", "lr_too_high", {"loss_rebound": 2}, {"loss_rebound": 1.9, "update_ratio_largest": 0.1}),
        ("TheDeepChecker", "symmetric_init", {"twin_share": 1}, {"twin_share": 0.5}),
    ],
)  # fmt: skip
def test_thresholds_are_the_published_ones(who, cause, inside, outside) -> None:
    assert cause in opinions(Traits(**inside))[who]
    assert cause not in opinions(Traits(**outside))[who]


def test_every_claim_names_a_known_class(exploding) -> None:
    traits = traits_of(exploding)
    assert {cause for table in RIVALS.values() for _, cause in table(traits)} <= {*FAULTS, UNKNOWN}


def test_a_number_that_is_nan_is_kept_apart_from_zero() -> None:
    assert all(isnan(value) for name, value in zip(TRAITS, Traits(nonfinite=nan).numbers()) if name)
