from dataclasses import replace

import numpy as np
import pytest
from tests.rules.conftest import parameter

from auscult.core.anatomy import Anatomy, Feed
from auscult.core.run import Module
from auscult.rules.structure import HiddenSoftmax, MissingNonlinearity


def chain(training, *kinds, cut=(), widths=None, sums_to_one=()):
    """A chain of leaf modules `0`, `1`, ... of these kinds; those in `cut` were called with something computed."""
    training.modules = (
        Module("", "Net", False),
        *(Module(str(number), "M", True, kind) for number, kind in enumerate(kinds)),
    )
    training.anatomy = Anatomy(
        0,
        feeds=tuple(Feed(str(number - 1), str(number)) for number in range(1, len(kinds)) if number not in cut),
        sums_to_one=sums_to_one,
    )
    widths = widths or [32] * (len(kinds) + 1)
    training.parameters = tuple(
        parameter(f"{number}.weight", widths[number + 1], widths[number])
        for number, kind in enumerate(kinds)
        if kind == "affine"
    )
    return training


@pytest.mark.parametrize(
    "kinds",
    [
        ("affine", "affine", "affine"),
        ("shape", "affine", "dropout", "affine", "normalisation", "dropout", "affine", "activation"),
    ],
)
def test_a_network_without_activations(training, kinds):
    (finding,) = MissingNonlinearity().check(chain(training, *kinds).digest(1))
    first = str(kinds.index("affine"))
    assert (finding.severity, finding.path, finding.step) == ("warning", first, 0)
    assert "the whole network is one affine map" in finding.summary


@pytest.mark.parametrize(
    ("kinds", "cut"),
    [
        (("affine", "activation", "affine", "activation", "affine"), ()),
        (("affine", "affine", "affine"), (1, 2)),  # activations as functions
        (("affine",), ()),
        (("affine", "activation"), ()),
        (("recurrent", "affine"), ()),
        (("affine", "normalisation", "activation", "affine"), ()),
    ],
)
def test_activations_of_any_kind_are_silent(training, kinds, cut):
    assert not list(MissingNonlinearity().check(chain(training, *kinds, cut=cut).digest()))


def test_one_missing_activation_is_info_at_its_place(training):
    (finding,) = MissingNonlinearity().check(
        chain(training, "affine", "activation", "affine", "affine", "activation", "affine").digest()
    )
    assert (finding.severity, finding.path) == ("info", "2")
    assert "What comes out of module 2 goes into module 3" in finding.summary
    assert finding.advice[0] == "Put an activation after module 2, as torch.nn.ReLU()."


def test_several_missing_activations_are_told_together(training):
    kinds = ("affine", "activation", "affine", "affine", "affine", "activation", "affine")
    (finding,) = MissingNonlinearity().check(chain(training, *kinds).digest())
    assert "What comes out of modules 2 and 3 goes into modules 3 and 4" in finding.summary


def test_activations_as_functions_leave_a_pair_at_info(training):
    (finding,) = MissingNonlinearity().check(chain(training, "affine", "affine", "affine", cut=(1,)).digest())
    assert (finding.severity, finding.path) == ("info", "1")


def test_a_low_rank_pair_is_silent_and_a_linear_autoencoder_is_info(training):
    narrow = chain(training, "affine", "activation", "affine", "affine", widths=[32, 32, 32, 4, 32])
    assert not list(MissingNonlinearity().check(narrow.digest()))
    (finding,) = MissingNonlinearity().check(chain(training, "affine", "affine", widths=[32, 4, 32]).digest())
    assert finding.severity == "info"


def test_a_depthwise_convolution_before_a_pointwise_one_is_silent(training):
    chain(training, "affine", "activation", "affine", "affine")
    training.parameters = (
        parameter("0.weight", 16, 3, 3, 3),
        parameter("2.weight", 16, 1, 3, 3),
        parameter("3.weight", 32, 16, 1, 1),
    )
    assert not list(MissingNonlinearity().check(training.digest()))


def test_a_recurrent_body_with_two_layers_on_top_is_info(training):
    (finding,) = MissingNonlinearity().check(chain(training, "recurrent", "affine", "affine").digest())
    assert finding.severity == "info"


def test_a_softmax_between_layers(training):
    chain(training, "affine", "other", "dropout", "affine", sums_to_one=("1",))
    training.column("loss")[:] = 2.3
    (finding,) = HiddenSoftmax().check(training.digest())
    assert (finding.severity, finding.path, finding.step) == ("warning", "1", 0)


def test_a_softmax_between_layers_of_a_run_that_learns_is_info(training):
    chain(training, "affine", "other", "affine", sums_to_one=("1",))
    training.sample("observed_loss", 2.3 * np.exp(-np.arange(training.rows) / 50))
    training.sample("uninformed_loss", 2.3)
    assert [each.severity for each in HiddenSoftmax().check(training.digest())] == ["info"]


def test_attention_gates_and_the_last_softmax_are_silent(training):
    training.column("loss")[:] = 2.3
    chain(training, "affine", "other", "affine", cut=(2,), sums_to_one=("1",))
    assert not list(HiddenSoftmax().check(training.digest()))
    chain(training, "affine", "activation", "affine", "activation", sums_to_one=("3",))
    assert not list(HiddenSoftmax().check(training.digest()))


@pytest.mark.parametrize(("inner", "outer", "severity"), [(8, 200, "info"), (64, 200, "warning"), (32, 10, "warning")])
def test_shares_of_a_few_topics_between_wider_layers_are_info(training, inner, outer, severity):
    chain(training, "affine", "other", "affine", widths=(64, inner, inner, outer), sums_to_one=("1",))
    training.column("loss")[:] = 2.3
    assert [each.severity for each in HiddenSoftmax().check(training.digest())] == [severity]


def test_a_softmax_that_is_no_module(training):
    chain(training, "affine", "affine", "affine", cut=(1,))
    training.anatomy = replace(training.anatomy, given_shares=("0", "1"))  # the data are shares too
    training.column("loss")[:] = 2.3
    (finding,) = HiddenSoftmax().check(training.digest())
    assert (finding.severity, finding.path, finding.evidence[0].metric) == ("warning", "1", "row_sum")
    training.anatomy = replace(training.anatomy, given_shares=("0",))
    assert not list(HiddenSoftmax().check(training.digest()))
