from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.rules.conftest import audit_of
from torch import nn
from torch.nn import functional

import auscult
from auscult.core.anatomy import Anatomy
from auscult.core.audit import Audit
from auscult.rules.objectives import LossReduction, ShapeBroadcast, TargetsAreInputs, WrongLoss

NOISE = np.random.default_rng(0)
LOGITS = NOISE.normal(0, 0.5, (32, 10))
LABELS = NOISE.integers(0, 10, 32)
ONE_HOT = np.eye(10)[LABELS]
NUMBERS = NOISE.normal(0, 1, (32, 1))
SHARES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
SIGMOIDS = 1 / (1 + np.exp(-LOGITS))


def fit(training, share):
    training.sample("observed_loss", 0.325 * (1 - share))
    training.sample("uninformed_loss", 0.325)


@pytest.mark.parametrize(("loss", "prediction"), [("mse_loss", SHARES), ("binary_cross_entropy", SIGMOIDS)])
def test_one_of_several_classes_is_an_alarm_only_where_nothing_is_learned(training, loss, prediction):
    training.audit = audit_of(loss, prediction, ONE_HOT)
    fit(training, 0.02)
    if loss == "mse_loss":
        training.sample("batch_r2", 0.02)
    (finding,) = WrongLoss().check(training.digest())
    assert (finding.severity, finding.path, finding.step) == ("warning", "", 0) and "10 classes" in finding.summary
    fit(training, 0.8)
    if loss == "mse_loss":
        training.sample("batch_r2", 0.8)
    assert [each.severity for each in WrongLoss().check(training.digest())] == ["info"]


@pytest.mark.parametrize(
    ("loss", "prediction", "target"),
    [
        ("cross_entropy", LOGITS, LABELS),
        ("binary_cross_entropy", SIGMOIDS, NOISE.integers(0, 2, (32, 10)).astype(float)),
        ("binary_cross_entropy_with_logits", LOGITS[:, :2], np.eye(2)[LABELS % 2]),
        ("mse_loss", SIGMOIDS[:, :1], (LABELS[:, None] > 4).astype(float)),
        ("mse_loss", SIGMOIDS, SIGMOIDS),
    ],
    ids=["classes", "labels", "two outputs for yes and no", "one output", "autoencoder"],
)
def test_losses_that_fit_are_silent(training, loss, prediction, target):
    training.audit = audit_of(loss, prediction, target)
    fit(training, 0.0)
    assert not list(WrongLoss().check(training.digest()))


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy_with_logits"])
def test_numbers_as_probabilities(training, loss):
    training.audit = audit_of(loss, LOGITS, NOISE.normal(0, 1, (32, 10)), -62.9)
    (finding,) = WrongLoss().check(training.digest())
    assert finding.severity == "warning" and finding.evidence[2].value == -62.9


def test_cross_entropy_of_a_flat_batch_of_numbers(training):
    """An (N,) input against (N,) float targets: torch takes the batch for classes."""
    flat = audit_of("binary_cross_entropy", NUMBERS, 3 * NUMBERS)
    training.audit = flat.from_dict(
        {**flat.to_dict(), "loss": "cross_entropy", "input_shape": (32,), "target_shape": (32,)}
    )
    assert [each.severity for each in WrongLoss().check(training.digest())] == ["warning"]


def test_a_loss_by_hand_without_activation_is_judged_by_its_accuracy(training):
    training.columns["val/loss", ""] = np.linspace(1.0, 0.002, training.rows)
    training.columns["val/accuracy", ""] = np.full(training.rows, 0.17)
    (finding,) = WrongLoss().check(training.digest())
    assert finding.evidence[0].metric == "val/loss" and finding.step == training.rows - 1
    training.columns["val/accuracy", ""][:] = 0.99
    assert not list(WrongLoss().check(training.digest()))


@pytest.mark.parametrize(
    ("prediction", "target", "severity"),
    [
        ((32, 1), (32,), "warning"),
        ((32,), (32, 1), "warning"),
        ((32, 1), (1, 32), "warning"),
        ((32, 8, 1), (32, 1, 8), "info"),
    ],
)
def test_shapes_that_are_both_stretched(training, prediction, target, severity):
    training.audit = audit_of("mse_loss", np.zeros(prediction) + NUMBERS[0], np.zeros(target) + NUMBERS[1])
    (finding,) = ShapeBroadcast().check(training.digest(1))
    assert (finding.severity, finding.step, finding.phase) == (severity, 0, "loss")
    assert finding.evidence[0].value == np.prod(np.broadcast_shapes(prediction, target))


@pytest.mark.parametrize(
    ("loss", "prediction", "target"),
    [
        ("mse_loss", (32, 1), (32, 1)),
        ("mse_loss", (32, 4), (1, 4)),
        ("mse_loss", (32,), ()),
        ("mse_loss", (1, 1), (1,)),
        ("cross_entropy", (32, 10), (32,)),
    ],
)
def test_equal_shapes_and_one_target_for_all_are_silent(training, loss, prediction, target):
    training.audit = Audit(0, loss, 1.0, None, None, "mean", prediction, target)
    assert not list(ShapeBroadcast().check(training.digest()))


def summed(training, update):
    """Plain SGD at lr 0.01 on a sum over 32 targets: updates are lr times gradients."""
    training.audit = audit_of("cross_entropy", LOGITS, LABELS, 73.7, reduction="sum")
    for each in training.parameters:
        size = training.column("param_norm", each.path)
        training.columns["update_norm", each.path] = update * size
        training.columns["grad_norm", each.path] = 100 * update * size


def test_a_sum_with_updates_too_large(training):
    summed(training, 0.1)
    (finding,) = LossReduction().check(training.digest())
    assert finding.severity == "warning" and "32 times" in finding.summary and "lr 0.32 on the mean" in finding.summary


def test_a_sum_over_few_that_breaks_is_critical(training):
    summed(training, 0.1)
    training.audit = audit_of("mse_loss", NUMBERS[:4], NUMBERS[4:8], reduction="sum")
    for metric in ("param_norm", "update_norm", "grad_norm"):
        training.columns[metric, "layers.0.weight"][200:] = np.nan
    (finding,) = LossReduction().check(training.digest())
    assert finding.severity == "critical" and "sum over 4 targets" in finding.summary


def test_a_sum_with_small_updates_or_under_adam_is_info(training):
    summed(training, 1e-3)
    assert [each.severity for each in LossReduction().check(training.digest())] == ["info"]
    summed(training, 0.1)
    for each in training.parameters:
        training.columns["grad_norm", each.path] = np.full(training.rows, 1e4)
    assert [each.severity for each in LossReduction().check(training.digest())] == ["info"]


def test_a_mean_and_a_small_batch_are_silent(training):
    summed(training, 0.1)
    training.audit = audit_of("cross_entropy", LOGITS, LABELS)
    assert not list(LossReduction().check(training.digest()))
    summed(training, 1e-3)
    training.audit = audit_of("cross_entropy", LOGITS[:8], LABELS[:8], reduction="sum")
    assert not list(LossReduction().check(training.digest()))


def test_a_difference_taken_by_hand(training):
    training.audit = Audit(0, "difference", 2.0, None, None, "none", (32, 1), (32,))
    (finding,) = ShapeBroadcast().check(training.digest(1))
    assert (finding.severity, finding.path, finding.step) == ("warning", "", 0)
    assert finding.evidence[0].value == 32 * 32


class TestTargetsAreInputs:
    @staticmethod
    def reading(training, share):
        training.audit = audit_of("cross_entropy", LOGITS, LABELS, 2.4, counted=32)
        training.anatomy = Anatomy(0, same_token=share)

    def test_is_a_note_until_the_model_copies(self, training):
        self.reading(training, 1.0)
        fit(training, 0.9)
        (finding,) = TargetsAreInputs().check(training.digest())
        assert (finding.severity, finding.path, finding.step, finding.phase) == ("info", "", 0, "loss")
        assert [(each.metric, each.step, each.value) for each in finding.evidence] == [("same_token", 0, 1.0)]
        assert "All 32 targets of cross_entropy" in finding.summary

    def test_is_an_alarm_where_it_does(self, training):
        self.reading(training, 1.0)
        fit(training, 0.99)
        (finding,) = TargetsAreInputs().check(training.digest())
        same, loss = finding.evidence
        assert (finding.severity, finding.step, same.metric, loss.metric) == (
            "warning",
            0,
            "same_token",
            "observed_loss",
        )
        assert loss.value <= loss.bound and loss.step > 0

    @pytest.mark.parametrize(("accuracy", "severity"), [(0.999, "warning"), (0.93, "info")])
    def test_accuracy_tells_it_where_the_loss_has_no_uninformed_level(self, training, accuracy, severity):
        self.reading(training, 1.0)
        training.audit = replace(training.audit, expected=None)
        training.sample("batch_accuracy", accuracy)
        training.sample("largest_class", 0.4)
        (finding,) = TargetsAreInputs().check(training.digest())
        assert finding.severity == severity
        if severity == "warning":
            assert (finding.evidence[1].metric, finding.evidence[1].bound) == ("batch_accuracy", pytest.approx(0.97))

    @pytest.mark.parametrize("share", [None, 0.05, 0.995])
    def test_silent_where_one_target_is_another(self, training, share):
        self.reading(training, share)
        fit(training, 0.99)
        assert not list(TargetsAreInputs().check(training.digest()))

    def test_the_fact_survives_the_store(self):
        assert Anatomy.from_dict(Anatomy(0, same_token=1.0).to_dict()).same_token == 1.0
        assert Anatomy.from_dict({"step": 0}).same_token is None


class Speller(nn.Module):
    """Scores of 12 letters from those before; `inside` moves embeddings by one, so that no letter is read before."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.inside = inside
        self.letters, self.head = nn.Embedding(12, 24), nn.Linear(24, 12)
        self.recurrent = nn.GRU(24, 24, batch_first=True)

    def forward(self, letters: torch.Tensor) -> torch.Tensor:
        read = self.letters(letters)
        if self.inside:
            read = functional.pad(read, (0, 0, 1, -1))
        return self.head(self.recurrent(read)[0])


@pytest.mark.parametrize(
    ("way", "told"), [("forgotten", "warning"), ("inside of the model", "info"), ("outside", None)]
)
def test_whole_trainings_with_and_without_a_shift(way, told, tmp_path):
    torch.manual_seed(0)
    odds, texts = torch.softmax(2 * torch.randn(12, 12), 1), torch.randint(0, 12, (2560, 1))
    for _ in range(16):
        texts = torch.cat([texts, torch.multinomial(odds[texts[:, -1]], 1)], 1)
    model = Speller(way == "inside of the model")
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    with auscult.watch(model, optimizer, tmp_path / "run") as monitor:
        for text in texts.split(16):
            given, asked = (text[:, :-1], text[:, 1:]) if way == "outside" else (text, text)
            loss = functional.cross_entropy(model(given).flatten(0, 1), asked.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
    run = auscult.load(tmp_path / "run")
    found = [each for each in auscult.diagnose(run) if each.code == "H007"]
    assert [(each.severity, each.path, each.step) for each in found] == ([(told, "", 0)] if told else [])
    if told == "warning":
        assert [each.metric for each in found[0].evidence] == ["same_token", "loss"]
        assert found[0].evidence[1].value < found[0].evidence[1].bound and run.series("loss").values[-1] < 0.1
    assert not any(each.severity != "info" for each in auscult.diagnose(run) if each.code != "H007")
