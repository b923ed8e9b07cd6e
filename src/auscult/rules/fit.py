"""Fit: how well a run predicts its own batches by now, as far as its loss calls were seen.

Knows no cause, only whether training gets anywhere.
"""

from math import isfinite, nan
from statistics import median
from typing import Any, NamedTuple

from auscult.core.digest import BLOCK_STEPS, Digest
from auscult.core.finding import Evidence
from auscult.core.state import RECENT_BLOCKS
from auscult.rules.channels import is_broken, loss_has_fallen, state_of, training_loss
from auscult.rules.course import accuracies, course, is_stale

FIT_BLOCKS = 3
REGRESSIONS = frozenset({"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"})
POOR = 0.1
EVALUATED, FEW_CLASSES, BY_CHANCE = 3, 4, 1.5


class Fit(NamedTuple):
    """What the model knows of its own batches, and the figure that says so.

    Attributes:
        share: Of what an uninformed model gets wrong, the share that is explained; 0 is no better, 1 is all.
        metric: Name of the metric behind it.
        step: Step of its last observation.
        value: Its mean of late.
        bound: What an uninformed model has.
    """

    share: float
    metric: str
    step: int
    value: float
    bound: float


def of_late(state: Any, blocks: int = FIT_BLOCKS) -> float:
    """Median of the means of the last blocks, without the first one; NaN if nothing was finite.

    Where there is one block alone it is the last value. A median, because the last block may hold a single small batch.
    """
    if state["blocks"] < 2:
        return float(state["last"])
    return median_of_means(state, min(blocks, int(state["blocks"]) - 1))


def median_of_means(state: Any, blocks: int = RECENT_BLOCKS) -> float:
    """Median of the means of the last blocks; NaN if nothing was finite."""
    finite = [mean for mean in state["recent_mean"][-blocks:].tolist() if isfinite(mean)]
    return median(finite) if finite else nan


def fit_of(digest: Digest) -> Fit | None:
    """The fit of late; None where no loss call was observed that has an uninformed value, or it was not finite.

    Where the batches' own figures are old, the logged loss says it, if it is that of the loss call.
    """
    sampled = state_of(digest, "observed_loss")
    if sampled is not None and is_stale(digest, sampled):
        way = course(digest)
        if way is None or way.uninformed is None or way.name == "observed_loss" or not isfinite(way.standing):
            return None
        return Fit(1 - way.standing, way.name, way.step, way.now, way.uninformed)
    r2 = state_of(digest, "batch_r2")
    if r2 is not None and (digest.audit is None or digest.audit.loss in REGRESSIONS):
        value = of_late(r2)
        return Fit(value, "batch_r2", int(r2["last_step"]), value, 0.0) if isfinite(value) else None
    observed, uninformed = state_of(digest, "observed_loss"), state_of(digest, "uninformed_loss")
    if observed is None or uninformed is None:
        return None
    value, bound = of_late(observed), of_late(uninformed)
    if not (isfinite(value) and isfinite(bound) and bound > 0):
        return None
    return Fit(1 - value / bound, "observed_loss", int(observed["last_step"]), value, bound)


def fit_to_classes(digest: Digest) -> Fit | None:
    """As `fit_of`, but where targets are classes, against those that the batches are drawn from."""
    fit, way = fit_of(digest), course(digest)
    known = digest.audit is not None and digest.audit.classes is not None
    if fit is None or way is None or way.uninformed is None or not known:
        return fit
    return Fit(1 - way.standing, way.name, way.step, way.now, way.uninformed)


def is_poor(digest: Digest, share: float = POOR) -> bool:
    """Whether the run broke, or after a block or more explains less than this share; False where nobody can tell."""
    if is_broken(digest):
        return True
    if digest.step + 1 < BLOCK_STEPS:
        return False
    fit = fit_of(digest)
    if fit is not None:
        return fit.share < share
    if at_chance(digest) is not None:
        return True
    loss = training_loss(digest)
    return loss is not None and not loss_has_fallen(loss, share)


def at_chance(digest: Digest) -> Evidence | None:
    """The accuracy of an evaluation that was never better than 1.5 / C, by C >= 4 outputs; None where it was."""
    classes = _classes(digest)
    return never_above(digest, BY_CHANCE / classes) if classes >= FEW_CLASSES else None


def often_wrong(digest: Digest) -> Evidence | None:
    """The accuracy of an evaluation that was never better than 1/2, by C >= 4 outputs; None where it was."""
    return never_above(digest, 0.5) if _classes(digest) >= FEW_CLASSES else None


def never_above(digest: Digest, bound: float) -> Evidence | None:
    """The best accuracy of the evaluation that was made most often, where three or more never came above a bound."""
    evaluated = accuracies(digest)
    if not evaluated:
        return None
    name, state = evaluated[0]
    if state["rows"] < EVALUATED or state["maximum"] > bound:
        return None
    return Evidence(name, "", int(state["last_step"]), float(state["maximum"]), bound)


def _classes(digest: Digest) -> int:
    """Outputs of a model that returns one row per sample; 0 where that is not so, or not known."""
    shape = digest.anatomy.output_shape if digest.anatomy is not None else None
    return shape[1] if shape is not None and len(shape) == 2 else 0
