"""Rivals: what a watcher for NaN and plateaus and four published threshold tables say of the same runs.

Thresholds as published; where a table asks for an element-wise or per-epoch quantity, `Traits` says what stands in for
it. What a run does not hold is never an alarm. Left out, because a recorded run cannot answer them:

- AutoTrainer: sums of the last activation where the loss takes logits, as PyTorch's cross entropy does.
- DeepDiagnosis: nothing that its table holds; its inputs are judged by the first batch alone.
- UMLAUT: image height and width, integer inputs, activations after the last layer.
- TheDeepChecker: finite differences, fitting a single batch, half batches, training against evaluation mode on one
  batch, the penalty's gradient, and initialisation tests against a named scheme.
"""

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from auscult.clinic.taxonomy import UNKNOWN
from auscult.clinic.traits import Traits

Claim = tuple[bool, str]
PATIENCE = 10
"""Periods without improvement that make a plateau, as `ReduceLROnPlateau` and its kind have it by default."""


def watcher(traits: Traits) -> Iterable[Claim]:
    """A watcher for NaN and plateaus: what most training loops have."""
    yield bool(traits.nonfinite), "non_finite"
    yield traits.stale_periods >= PATIENCE, UNKNOWN


def autotrainer(traits: Traits) -> Iterable[Claim]:
    """AutoTrainer (Zhang et al., ICSE 2021), `monitor.py` and `reproduce.py`."""
    vanishing = traits.gradient_ratio_least < 1e-3 and traits.gradient_first < 1e-4
    yield vanishing, "vanishing_gradient"
    exploding = traits.gradient_ratio_largest > 70 or traits.loss_largest >= 1e3 or bool(traits.nonfinite)
    yield exploding, "exploding_gradient"
    yield traits.gradient_zeros >= 0.7, "dead_units"
    yield traits.missing_softmax == 1, "wrong_output_activation"
    yield traits.input_rms >= 10 or traits.activation_rms >= 10, "input_not_normalised"
    yield traits.weight_largest > 5, "bad_init_scale"
    yield traits.oscillation_share >= 0.2, "lr_too_high"
    yield traits.accuracy_last < 0.6, "lr_too_low"
    yield traits.evaluation_gap >= (0.1 if traits.accuracy_last <= 0.9 else 0.07), "overfitting"


def deepdiagnosis(traits: Traits) -> Iterable[Claim]:
    """DeepDiagnosis (Wardat et al., ICSE 2022), `callbacks.py`."""
    yield bool(traits.nonfinite), "non_finite"
    yield traits.input_least < -1 or traits.input_largest > 1, "input_not_normalised"
    yield traits.nonpositive_share >= 0.7, "dead_units"
    yield traits.preactivation_share > 0.5, "saturated"
    yield traits.gradient_mean_least < 1e-7, "vanishing_gradient"
    yield traits.weight_variance_least < 1e-5 or traits.weight_variance_largest > 10, "bad_init_scale"
    yield traits.lr_effect_largest > 0.1, "lr_too_high"
    yield traits.lr_effect_least < 1e-5, "lr_too_low"


def umlaut(traits: Traits) -> Iterable[Claim]:
    """UMLAUT (Schoop et al., CHI 2021), `heuristics.py`."""
    yield bool(traits.nonfinite), "non_finite"
    yield traits.input_least < -1 or traits.input_largest > 1, "input_not_normalised"
    yield traits.missing_softmax == 1, "wrong_output_activation"
    yield traits.affine_chain == 1, "missing_nonlinearity"
    yield traits.lr > 0.01, "lr_too_high"
    yield traits.lr < 1e-7, "lr_too_low"
    yield traits.evaluation_rise > 1, "overfitting"
    yield traits.evaluation_accuracy > 0.95 or traits.evaluation_gap < -0.05, "data_leak"
    yield traits.dropout > 0.5, "over_regularised"


def deepchecker(traits: Traits) -> Iterable[Claim]:
    """TheDeepChecker (Ben Braiek and Khomh, TOSEM 2022), `settings.yaml`."""
    yield bool(traits.nonfinite), "non_finite"
    yield traits.untouched_weights > 0, "params_not_updated"
    yield traits.twin_share == 1, "symmetric_init"
    yield traits.output_spread == 0, "wrong_output_activation"
    yield traits.first_std_least < 0.5 or traits.first_std_largest > 2, "bad_init_scale"
    yield traits.update_ratio_largest > 1e-1 or traits.loss_rebound >= 2, "lr_too_high"
    yield traits.update_ratio_least < 1e-4, "lr_too_low"
    yield traits.gradient_mean_least < 1e-6 or traits.gradient_decay < 0.5, "vanishing_gradient"
    yield traits.gradient_mean_largest > 1e6 or traits.gradient_growth > 2, "exploding_gradient"
    yield traits.dead_share > 0.5, "dead_units"
    yield traits.saturated_share > 0.5, "saturated"
    yield traits.correlation < 0.5, "wrong_loss"
    yield traits.class_perplexity < 0.5, "class_imbalance"
    yield traits.stagnant_share == 1, "undertrained"
    yield traits.loss_drop > 1 - 1e-5, "overfitting"


RIVALS: Mapping[str, Callable[[Traits], Iterable[Claim]]] = MappingProxyType(
    {
        "NaN + plateau watcher": watcher,
        "AutoTrainer": autotrainer,
        "DeepDiagnosis": deepdiagnosis,
        "UMLAUT": umlaut,
        "TheDeepChecker": deepchecker,
    }
)
"""By name, the claims of each in the order in which it ranks them: exact before step-0 facts before trends."""


def opinions(traits: Traits) -> dict[str, tuple[str, ...]]:
    """What each rival says of a run: the classes that it names, ranked; empty where it is silent."""
    return {
        name: tuple(dict.fromkeys(cause for holds, cause in table(traits) if holds)) for name, table in RIVALS.items()
    }
