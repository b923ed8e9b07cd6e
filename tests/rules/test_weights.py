import numpy as np
import pytest
import torch
from tests.rules.conftest import Training, audit_of, parameter
from torch import nn

from auscult.core.anatomy import Anatomy, Feed
from auscult.core.run import Module
from auscult.rules.weights import BadInitScale, SymmetricInit

LOGITS = np.random.default_rng(0).normal(0, 0.5, (32, 10))
LABELS = np.arange(32) % 10


def initialised(training, draw, kind="affine", widths=(64, 64, 64, 10)):
    """Linear layers whose weights were drawn by `draw(weight)`, with the moments that a monitor records."""
    torch.manual_seed(0)
    paths = [f"layers.{number}" for number in range(len(widths) - 1)]
    training.modules = (Module("", "Net", False), *(Module(path, "M", True, kind) for path in paths))
    training.parameters = tuple(
        parameter(f"{path}.weight", out, inputs) for path, inputs, out in zip(paths, widths, widths[1:], strict=False)
    )
    for each in training.parameters:
        weight = torch.empty(each.shape)
        draw(weight)
        training.sample("param_std", float(weight.std()), each.path)
        training.sample("update_std", 1e-3 * float(weight.std()), each.path)
        training.columns["param_norm", each.path] = np.full(training.rows, float(weight.norm()))
        training.columns["update_norm", each.path] = np.full(training.rows, 1e-3 * float(weight.norm()))
    return training


@pytest.mark.parametrize(
    "draw",
    [
        nn.init.kaiming_normal_,
        nn.init.kaiming_uniform_,
        nn.init.xavier_uniform_,
        nn.init.orthogonal_,
        lambda weight: nn.init.kaiming_uniform_(weight, a=5**0.5),  # torch's own
        lambda weight: nn.init.normal_(weight, 0, 0.02),
        lambda weight: nn.init.xavier_normal_(weight, 5 / 3),
        nn.init.zeros_,
    ],
    ids=["he", "he uniform", "glorot", "orthogonal", "torch", "gpt-2", "tanh", "zeros"],
)
def test_usual_initialisations_are_silent(training, draw):
    initialised(training, draw)
    training.audit = audit_of("cross_entropy", LOGITS, LABELS, 2.35)
    assert not list(BadInitScale().check(training.digest()))


def test_standard_normal_weights_with_a_loud_start(training):
    initialised(training, nn.init.normal_)
    training.audit = audit_of("cross_entropy", LOGITS, LABELS, 250.0)
    (finding,) = BadInitScale().check(training.digest())
    assert (finding.severity, finding.path, finding.step) == ("warning", "layers.2.weight", 0)
    assert finding.evidence[0].value == pytest.approx(1, abs=0.1)
    assert finding.evidence[0].bound == pytest.approx(4.2 / 8)
    assert "0.18" in finding.advice[0]  # sqrt(2 / 64)


def test_standard_normal_weights_that_do_no_harm_are_info(training):
    initialised(training, nn.init.normal_)
    training.audit = audit_of("cross_entropy", LOGITS, LABELS, 2.4)
    assert [each.severity for each in BadInitScale().check(training.digest())] == ["info"]


def test_one_loud_layer_is_named(training):
    initialised(training, nn.init.kaiming_normal_)
    training.sample("param_std", 2.0, "layers.1.weight")
    training.sample("saturated_fraction", 0.9, "layers.1")
    (finding,) = BadInitScale().check(training.digest())
    assert (finding.severity, finding.path) == ("warning", "layers.1.weight")


def test_a_large_first_update_is_no_large_initialisation(training):
    initialised(training, nn.init.kaiming_normal_)
    training.audit = audit_of("cross_entropy", LOGITS, LABELS, 250.0)
    for each in training.parameters:
        training.sample("param_std", 3.0, each.path)
        training.sample("update_std", 2.9, each.path)
    assert not list(BadInitScale().check(training.digest()))


def test_embeddings_and_layers_before_a_normalisation_are_silent(training):
    training.audit = audit_of("cross_entropy", LOGITS, LABELS, 250.0)
    assert not list(BadInitScale().check(initialised(training, nn.init.normal_, "embedding").digest()))
    initialised(training, nn.init.normal_)
    norms = [Module(f"norms.{number}", "M", True, "normalisation") for number in range(3)]
    training.modules = (*training.modules, *norms)
    training.anatomy = Anatomy(0, feeds=tuple(Feed(f"layers.{number}", f"norms.{number}") for number in range(3)))
    assert not list(BadInitScale().check(training.digest()))


def test_tiny_weights_are_an_alarm_only_where_nothing_is_learned(training):
    initialised(training, lambda weight: nn.init.normal_(weight, 0, 1e-3))
    training.column("loss")[:] = 2.3
    (finding,) = BadInitScale().check(training.digest())
    assert (finding.severity, finding.step) == ("warning", 0)
    assert [each.severity for each in BadInitScale().check(initialised(Training(), tiny).digest())] == ["info"]


def tiny(weight):
    nn.init.normal_(weight, 0, 1e-3)


def test_units_that_stay_the_same(training):
    for each in training.parameters[2::2]:
        training.sample("twin_fraction", 1.0, each.path)
    (finding,) = SymmetricInit().check(training.digest())
    assert (finding.severity, finding.path, finding.step) == ("warning", "layers.1.weight", 0)
    assert "layers.2.weight and layers.3.weight" in finding.summary
    assert finding.evidence[0].bound == 1 / 32


def test_a_head_that_begins_at_zero_breaks_the_symmetry(training):
    twins = np.full(training.rows, 1 / 32)
    twins[0] = 1.0
    training.sample("twin_fraction", twins, "layers.3.weight")
    assert not list(SymmetricInit().check(training.digest()))
    training.sample("twin_fraction", 1.0, "layers.3.weight")
    assert not list(SymmetricInit().check(training.digest(16)))  # a single observation so far


def test_a_layer_that_is_never_updated_is_no_symmetry(training):
    training.sample("twin_fraction", 1.0, "layers.1.weight")
    training.columns["update_norm", "layers.1.weight"] = np.zeros(training.rows)
    assert not list(SymmetricInit().check(training.digest()))


def test_a_single_unit_is_no_twin(training):
    training.parameters = (parameter("layers.0.weight", 1, 32),)
    training.sample("twin_fraction", 1.0, "layers.0.weight")
    assert not list(SymmetricInit().check(training.digest()))


def test_an_adapter_that_begins_at_zero_is_not_small(training):
    initialised(training, nn.init.kaiming_normal_)
    for path in ("layers.1.weight", "layers.2.weight"):
        training.sample("param_std", 1e-3, path)
        training.sample("update_std", 1e-3, path)
    training.column("loss")[:] = 2.3
    assert not list(BadInitScale().check(training.digest()))


def zero(training, *layers):
    for each in training.parameters:
        quiet = each.path.split(".")[1] in layers
        training.columns["param_norm", each.path][:] *= not quiet
        training.columns["grad_norm", each.path][:] = 0.0
        training.columns["update_norm", each.path][:] = 0.0
    return training.digest()


def test_layers_that_are_all_zero_and_stay_there(training):
    (finding,) = SymmetricInit().check(zero(training, "1", "3"))
    assert (finding.severity, finding.path, finding.step) == ("critical", "layers.1.weight", 0)
    assert finding.evidence[0].value == 0


def test_a_single_layer_at_zero_or_one_that_leaves_it_is_silent(training):
    assert not list(SymmetricInit().check(zero(training, "3")))
    again = Training()
    again.columns["param_norm", "layers.1.weight"][:] = 0.0
    again.columns["param_norm", "layers.3.weight"][:] = 0.0
    assert not list(SymmetricInit().check(again.digest()))  # gradients flow


@pytest.mark.parametrize(("given", "severity"), [(26.7, "warning"), (3.0, "info")])
def test_large_weights_in_front_of_a_sigmoid(training, given, severity):
    initialised(training, nn.init.normal_)
    training.audit = audit_of("cross_entropy", LOGITS, LABELS, 2.35)
    training.modules = (*training.modules[:2], Module("gate", "M", True, "activation"), *training.modules[2:])
    training.anatomy = Anatomy(0, feeds=(Feed("layers.0", "gate"),))
    training.sample("activation_std", given, "layers.0")
    training.sample("activation_std", 0.48, "gate")
    (finding,) = BadInitScale().check(training.digest())
    assert finding.severity == severity
    if severity == "warning":
        assert (finding.evidence[1].path, finding.evidence[1].value) == ("layers.0", pytest.approx(given))
