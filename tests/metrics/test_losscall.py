"""What a loss call says of its batch, against scikit-learn, NumPy, and torch's own losses of constant predictions."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, r2_score
from torch import Tensor
from torch.nn import functional

from auscult.core.audit import Audit
from auscult.metrics.losscall import KINDS, LossCall, LossFacts

REDUCTIONS = ("mean", "sum", "none")


def read(function: Callable[..., Tensor], *args: Tensor, **kwargs: object) -> LossCall:
    found = LossCall.read(function, args, kwargs, function(*args, **kwargs))
    assert found is not None
    return found


def figures(function: Callable[..., Tensor], *args: Tensor, **kwargs: object) -> dict[str, float]:
    return {name: float(value) for name, value in read(function, *args, **kwargs).figures().items()}


def audit(function: Callable[..., Tensor], *args: Tensor, **kwargs: object) -> Audit:
    return LossFacts(read(function, *args, **kwargs)).audit(3)


def classes(*shape: int, count: int = 5, ignored: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    found = torch.randint(count, shape, generator=generator).clamp(min=1)  # class 0 never comes, class 1 twice as often
    return torch.where(torch.rand(shape, generator=generator) < 0.2, -100, found) if ignored else found


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(40,), (6, 7), (4, 3, 5)])
@pytest.mark.parametrize("ignored", [False, True])
def test_classes_by_index(shape: tuple[int, ...], ignored: bool, reduction: str) -> None:
    targets = classes(*shape, ignored=ignored)
    scores = torch.randn(shape[0], 5, *shape[1:])
    found = figures(functional.cross_entropy, scores, targets, reduction=reduction)
    counted = targets[targets >= 0].numpy()
    shares = np.bincount(counted, minlength=5) / len(counted)
    entropy = -sum(p * math.log(p) for p in shares if p)
    assert found["target_entropy"] == pytest.approx(entropy)
    assert found["largest_class"] == pytest.approx(shares.max())
    predicted = scores.argmax(1)[targets >= 0].numpy()
    assert found["batch_accuracy"] == pytest.approx(accuracy_score(counted, predicted))
    prior = torch.tensor(shares).log().clamp(min=-1e3).reshape(1, 5, *(1 for _ in shape[1:])).expand(scores.shape)
    best = functional.cross_entropy(prior, targets, reduction=reduction).mean()
    assert found["uninformed_loss"] == pytest.approx(float(best))
    loss = functional.cross_entropy(scores, targets, reduction=reduction).mean()
    assert found["observed_loss"] == pytest.approx(float(loss))
    assert "target_mean" not in found and "batch_r2" not in found


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_classes_by_probability(reduction: str) -> None:
    soft = torch.randn(9, 4, 3, dtype=torch.float64).softmax(1)
    scores = torch.randn(9, 4, 3, dtype=torch.float64)
    found = figures(functional.cross_entropy, scores, soft, reduction=reduction)
    prior = soft.mean((0, 2)).log().reshape(1, 4, 1).expand(scores.shape)
    best = functional.cross_entropy(prior, soft, reduction=reduction).mean()
    assert found["uninformed_loss"] == pytest.approx(float(best))
    assert found["batch_accuracy"] == pytest.approx(
        accuracy_score(soft.argmax(1).flatten().numpy(), scores.argmax(1).flatten().numpy())
    )
    assert found["largest_class"] == pytest.approx(float(soft.mean((0, 2)).amax()))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(30,), (30, 1), (30, 4), (6, 2, 3, 3)])
def test_pairs(shape: tuple[int, ...], reduction: str) -> None:
    targets = (torch.rand(shape) < 0.3).double()
    logits = torch.randn(shape, dtype=torch.float64)
    found = figures(functional.binary_cross_entropy_with_logits, logits, targets, reduction=reduction)
    columns = [each for each in range(len(shape)) if each != 1]
    prior = targets.mean(columns, keepdim=True).expand(shape)
    best = functional.binary_cross_entropy(prior, targets, reduction=reduction).mean()
    assert found["uninformed_loss"] == pytest.approx(float(best))
    named = figures(functional.binary_cross_entropy, logits.sigmoid(), targets, reduction=reduction)
    right = accuracy_score(targets.flatten().numpy(), (logits > 0).flatten().double().numpy())
    assert found["batch_accuracy"] == named["batch_accuracy"] == pytest.approx(right)
    share = float(targets.mean())
    if len(shape) == 1 or shape[1] == 1:
        assert found["largest_class"] == pytest.approx(max(share, 1 - share))
        assert found["target_entropy"] == pytest.approx(-share * math.log(share) - (1 - share) * math.log(1 - share))
    else:
        assert "largest_class" not in found
    assert found["target_mean"] == pytest.approx(share)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(31,), (31, 1), (8, 3)])
def test_numbers(shape: tuple[int, ...], reduction: str) -> None:
    targets, predictions = torch.randn(shape) * 3 + 50, torch.randn(shape) + 50
    found = figures(functional.mse_loss, predictions, targets, reduction=reduction)
    best = functional.mse_loss(targets.double().mean().expand(shape), targets.double(), reduction=reduction).mean()
    assert found["uninformed_loss"] == pytest.approx(float(best))
    assert found["batch_r2"] == pytest.approx(r2_score(targets.flatten().numpy(), predictions.flatten().numpy()), 1e-5)
    assert found["target_mean"] == pytest.approx(float(targets.double().mean()))
    assert found["target_std"] == pytest.approx(float(targets.double().std()))
    found = figures(functional.l1_loss, predictions, targets, reduction=reduction)
    best = functional.l1_loss(targets.double().median().expand(shape), targets.double(), reduction=reduction).mean()
    assert found["uninformed_loss"] == pytest.approx(float(best))
    for function, bend in ((functional.huber_loss, {"delta": 0.7}), (functional.smooth_l1_loss, {"beta": 2.0})):
        found = figures(function, predictions, targets, reduction=reduction, **bend)
        best = function(targets.double().median().expand(shape), targets.double(), reduction=reduction, **bend).mean()
        assert found["uninformed_loss"] == pytest.approx(float(best)) and "batch_r2" in found


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_numbers_that_are_broadcast(reduction: str) -> None:
    """The sum runs over all pairs, and the best constant is the targets' mean all the same."""
    targets, predictions = torch.randn(12, dtype=torch.float64), torch.randn(12, 1, dtype=torch.float64)
    found = figures(functional.mse_loss, predictions, targets, reduction=reduction)
    best = functional.mse_loss(targets.mean().expand(12, 1), targets, reduction=reduction).mean()
    assert found["uninformed_loss"] == pytest.approx(float(best)) and "batch_r2" not in found


def test_what_another_function_of_the_targets_would_need_is_not_observed() -> None:
    scores, targets, weight = torch.randn(6, 5), classes(6), torch.ones(5)
    for changed in (
        figures(functional.cross_entropy, scores, targets, weight=weight),
        figures(functional.cross_entropy, scores, targets, weight),
        figures(functional.cross_entropy, scores, targets, label_smoothing=0.1),
    ):
        assert "uninformed_loss" not in changed and "batch_accuracy" in changed
    pairs = (torch.randn(6), torch.ones(6))
    found = figures(functional.binary_cross_entropy_with_logits, *pairs, pos_weight=torch.tensor(2.0))
    assert "uninformed_loss" not in found


def test_targets_of_no_variance_have_no_r2() -> None:
    assert math.isnan(figures(functional.mse_loss, torch.randn(4), torch.ones(4))["batch_r2"])


def test_all_targets_ignored() -> None:
    found = figures(functional.cross_entropy, torch.randn(4, 3), torch.full((4,), -100))
    assert all(math.isnan(found[name]) for name in ("batch_accuracy", "target_entropy", "uninformed_loss"))


@pytest.mark.parametrize(
    ("given", "reduction"),
    [({}, "mean"), ({"size_average": False}, "sum"), ({"reduce": False}, "none"), ({"reduction": "sum"}, "sum")],
)
@pytest.mark.filterwarnings("ignore:size_average and reduce args")
def test_reduction_by_the_argument_of_today_and_of_old(given: dict[str, object], reduction: str) -> None:
    assert read(functional.mse_loss, torch.randn(4), torch.ones(4), **given).reduction == reduction


def test_a_part_of_large_predictions_tells_the_accuracy() -> None:
    """7.9 million scores, of which the even columns are right and the odd ones are wrong."""
    targets = torch.arange(30 * 128).reshape(1, 30, 128).expand(41, 30, 128) % 50
    scores = functional.one_hot(targets, 50).movedim(-1, 1).float()
    assert figures(functional.cross_entropy, scores, targets)["batch_accuracy"] == 1.0
    wrong = (torch.arange(41) % 2)[:, None, None].expand(targets.shape).bool()
    found = figures(functional.cross_entropy, scores, torch.where(wrong, (targets + 1) % 50, targets))
    assert 0.3 < found["batch_accuracy"] < 0.7


OTHERS = {
    "kl_div": lambda: audit(
        functional.kl_div, torch.randn(6, 4).log_softmax(-1), torch.ones(6, 4) / 4, reduction="batchmean"
    ),
    "multi_margin_loss": lambda: audit(functional.multi_margin_loss, torch.randn(6, 4), classes(6, count=4)),
    "soft_margin_loss": lambda: audit(functional.soft_margin_loss, torch.randn(6), torch.ones(6)),
    "gaussian_nll_loss": lambda: audit(functional.gaussian_nll_loss, torch.randn(6), torch.ones(6), torch.ones(6)),
    "poisson_nll_loss": lambda: audit(functional.poisson_nll_loss, torch.randn(6), torch.ones(6)),
    "smooth_l1_loss": lambda: audit(functional.smooth_l1_loss, torch.randn(6), torch.ones(6)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_losses_that_are_only_named(name: str) -> None:
    seen = OTHERS[name]()
    assert (seen.loss, seen.expected, seen.classes, seen.input_shape[0]) == (name, None, None, 6)
    assert name in {each.__name__ for each in KINDS}


def test_audit_tells_distributions_from_scores() -> None:
    scores, targets = torch.randn(32, 10) * 3, classes(32, count=10)
    plain = audit(functional.cross_entropy, scores, targets)
    assert (plain.rows_sum_to_one, plain.rows_log_sum_to_one, plain.columns_sum_to_one) == (0, 0, 0)
    double = audit(functional.cross_entropy, scores.softmax(1), targets)
    assert (double.rows_sum_to_one, double.rows_log_sum_to_one, double.columns_sum_to_one) == (1, 0, 0)
    logs = audit(functional.nll_loss, scores.log_softmax(1), targets)
    assert (logs.rows_sum_to_one, logs.rows_log_sum_to_one, logs.columns_sum_to_one) == (0, 1, 0)
    wrong = audit(functional.nll_loss, scores.softmax(0), targets)
    assert (wrong.rows_sum_to_one, wrong.columns_sum_to_one) == (0, 1)
    assert audit(functional.nll_loss, scores.log_softmax(0), targets).columns_sum_to_one == 1
    halves = audit(functional.cross_entropy, scores.bfloat16().softmax(1), targets)
    assert halves.rows_sum_to_one == 1
    image = audit(functional.cross_entropy, torch.randn(4, 6, 5, 5).softmax(1), classes(4, 5, 5))
    assert image.rows_sum_to_one == 1 and image.classes == 6
    single = audit(functional.mse_loss, torch.randn(8, 1), torch.randn(8, 1))
    assert single.rows_sum_to_one is None and single.columns_sum_to_one == 0


def test_audit_tells_what_targets_are_like() -> None:
    indices = audit(functional.cross_entropy, torch.randn(8, 5), classes(8))
    assert (indices.one_hot_targets, indices.whole_targets, indices.counted) == (None, True, 8)
    ignored = torch.tensor([[1, -100, 3], [-100, -100, 0]])
    assert audit(functional.cross_entropy, torch.randn(2, 5, 3), ignored).counted == 3
    hot = functional.one_hot(classes(8), 5).float()
    assert (audit(functional.mse_loss, torch.randn(8, 5), hot).one_hot_targets) is True
    assert (audit(functional.mse_loss, torch.randn(8, 5), hot * 2).one_hot_targets) is False
    numbers = audit(functional.mse_loss, torch.randn(6), torch.tensor([0.5, 1.0, 2.0, 3.0, 4.0, 9.5]))
    assert numbers.whole_targets is False and numbers.counted is None and numbers.target is not None
    values = np.array([0.5, 1.0, 2.0, 3.0, 4.0, 9.5])
    assert (numbers.target.minimum, numbers.target.maximum) == (0.5, 9.5)
    assert (numbers.target.mean, numbers.target.std) == (
        pytest.approx(values.mean()),
        pytest.approx(values.std(ddof=1)),
    )


def test_audit_of_a_loss_that_is_not_finite() -> None:
    seen = audit(functional.mse_loss, torch.tensor([math.nan, 1.0]), torch.ones(2))
    assert math.isnan(seen.value) and seen.prediction is not None and math.isnan(seen.prediction.maximum)
    back = Audit.from_dict(seen.to_dict())
    assert math.isnan(back.value) and back.input_shape == (2,)


def test_arguments_without_values_are_not_read() -> None:
    meta = torch.randn(3, device="meta")
    assert LossCall.read(functional.mse_loss, (meta, meta), {}, functional.mse_loss(meta, meta)) is None
    seen: list[object] = []

    def loss(inputs: Tensor) -> Tensor:
        result = functional.mse_loss(inputs, inputs + 1)
        seen.append(LossCall.read(functional.mse_loss, (inputs, inputs + 1), {}, result))
        return result

    torch.func.vmap(loss)(torch.randn(4, 3))
    assert seen == [None]


def test_nothing_to_measure() -> None:
    empty = torch.empty(0, 3)
    assert set(figures(functional.mse_loss, empty, empty)) == {"observed_loss"}
    assert audit(functional.mse_loss, empty, empty).prediction is None
    assert figures(functional.cross_entropy, torch.randn(5), torch.tensor(2))["largest_class"] == 1
