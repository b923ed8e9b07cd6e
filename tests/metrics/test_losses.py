"""The loss audit and losses by category, against closed forms."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from auscult.core.audit import Audit
from auscult.core.errors import SetupError
from auscult.metrics.losscall import LossCall, LossFacts
from auscult.metrics.losses import LossTap, by_category
from auscult.metrics.stretch import Stretch, StretchFacts


def seen_of(call: Callable[[], object]) -> LossCall | None:
    """The first loss call that is made."""
    calls: list[LossCall] = []
    tap = LossTap(calls.append)
    tap.begin()
    try:
        call()
    finally:
        tap.end()
    assert torch.overrides._get_current_function_mode_stack() == [] and len(calls) < 2
    return calls[0] if calls else None


def audited(call: Callable[[], object]) -> Audit:
    seen = seen_of(call)
    assert seen is not None
    return LossFacts(seen).audit(0)


def test_cross_entropy_expects_the_log_of_the_classes() -> None:
    seen = audited(lambda: nn.CrossEntropyLoss()(torch.zeros(6, 27, requires_grad=True), torch.arange(6)))
    assert (seen.loss, seen.classes, seen.input_shape, seen.target_shape) == ("cross_entropy", 27, (6, 27), (6,))
    assert seen.expected == pytest.approx(math.log(27)) and seen.value == pytest.approx(math.log(27))


def test_other_losses() -> None:
    targets = torch.tensor([1.0, 2.0, 6.0])
    seen = audited(lambda: functional.mse_loss(torch.zeros(3, requires_grad=True), targets))
    assert seen.expected == pytest.approx(float(targets.var(correction=0)))
    seen = audited(
        lambda: functional.binary_cross_entropy_with_logits(torch.zeros(3, requires_grad=True), torch.ones(3))
    )
    assert seen.expected == pytest.approx(math.log(2))
    weighted = torch.ones(5)
    seen = audited(lambda: functional.nll_loss(torch.zeros(2, 5, requires_grad=True), torch.tensor([0, 1]), weighted))
    assert seen.classes == 5 and seen.expected is None


def test_evaluation_losses_are_not_taken_for_the_first_loss() -> None:
    def call() -> None:
        with torch.no_grad():
            functional.mse_loss(torch.zeros(3), torch.ones(3))

    assert seen_of(call) is None


def test_it_never_gets_between_a_mode_and_its_exit() -> None:
    class Other(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    calls: list[LossCall] = []
    tap = LossTap(calls.append)
    with Other():
        tap.begin()
        functional.mse_loss(torch.zeros(3, requires_grad=True), torch.ones(3))
    assert not tap.active
    tap.begin()
    with Other():
        tap.end()  # another mode is on top: stay, but keep quiet
    functional.mse_loss(torch.zeros(3, requires_grad=True), torch.ones(3))
    assert calls == []
    tap.end()
    assert torch.overrides._get_current_function_mode_stack() == []


def test_category_losses_are_normalised_by_length() -> None:
    sums = by_category(torch.tensor([2.0, 9.0, 4.0]), ["a", "b", "a"], lengths=[1, 3, 4])
    means = {key: above / below if below else above for key, (above, below) in sums.items()}
    assert means == {
        ("category_loss", "a"): 1.5,
        ("category_count", "a"): 2.0,
        ("category_loss_per_token", "a"): pytest.approx(6 / 5),
        ("category_loss", "b"): 3.0,
        ("category_count", "b"): 1.0,
        ("category_loss_per_token", "b"): 3.0,
    }


def test_category_losses_that_do_not_fit() -> None:
    with pytest.raises(SetupError, match="reduction='none'"):
        by_category(torch.tensor(1.0), ["a", "b"])
    with pytest.raises(SetupError, match="to be positive"):
        by_category([1.0], ["a"], [0])


@pytest.mark.parametrize("swapped", [False, True])
def test_a_difference_of_every_prediction_and_every_target(swapped) -> None:
    prediction, target = torch.tensor([[1.0], [2.0]], requires_grad=True), torch.tensor([0.0, 4.0])
    found = stretches(lambda: ((target - prediction) if swapped else (prediction - target)).square().mean())
    (audit,) = [StretchFacts(each).audit(3) for each in found]
    assert (audit.step, audit.loss, audit.input_shape, audit.target_shape) == (3, "difference", (2, 1), (2,))
    assert audit.value == pytest.approx((1 + 9 + 4 + 4) / 4)
    assert audit.prediction is not None and audit.prediction.maximum == 2


def test_differences_that_are_meant() -> None:
    column, row = torch.randn(3, 1, requires_grad=True), torch.randn(3)
    centres, both = torch.randn(5), torch.randn(3, requires_grad=True)
    assert not stretches(lambda: column - row[:, None])
    assert not stretches(lambda: column[:, 0] - row)
    assert not stretches(lambda: column - 1.0)
    assert not stretches(lambda: column - centres)  # to each of other things
    assert not stretches(lambda: column - both)  # pairs of predictions
    assert not stretches(lambda: torch.randn(3, 4, requires_grad=True) - torch.randn(4))


def stretches(call: Callable[[], object]) -> list[Stretch]:
    found: list[Stretch] = []
    tap = LossTap(lambda loss: None, found.append)
    tap.begin()
    try:
        call()
    finally:
        tap.end()
    return found
