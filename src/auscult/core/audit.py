"""Audit: what the first loss call looked like."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from auscult.core.finding import number_to_json


@dataclass(frozen=True, slots=True)
class Spread:
    """How the elements of a tensor were spread: their extremes and first two moments; NaN and infinities stand."""

    minimum: float
    maximum: float
    mean: float
    std: float

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any] | None) -> "Spread | None":
        """From JSON; None stays None."""
        if plain is None:
            return None
        return cls(*(float(plain[name]) for name in ("minimum", "maximum", "mean", "std")))


@dataclass(frozen=True, slots=True)
class Audit:
    """What the first loss call looked like.

    Attributes:
        step: The step it belongs to.
        loss: Name of the loss function, as `cross_entropy`.
        value: The loss it returned.
        expected: The loss of an uninformed model: -log(1/C) for C classes, the targets' variance for squared error.
        classes: C for a classification loss.
        reduction: `mean`, `sum` or `none`.
        input_shape: Shape of the predictions.
        target_shape: Shape of the targets.
        prediction: How the predictions were spread.
        target: How the targets were spread.
        rows_sum_to_one: Share of the predictions' rows (over the classes) that are not negative and sum to 1; None
            where they have no rows of two or more.
        rows_log_sum_to_one: Share of these rows that are log-probabilities: their exponentials sum to 1.
        columns_sum_to_one: As `rows_sum_to_one`, over the batch (dimension 0) in place of the classes; for
            nll_loss, which takes logarithms, also of their exponentials.
        one_hot_targets: Whether every row of the targets has a single 1 and 0 elsewhere; None where they have no rows.
        whole_targets: Whether every target is a whole number.
        counted: How many class indices are not `ignore_index`; None for other targets.
    """

    step: int
    loss: str
    value: float
    expected: float | None
    classes: int | None
    reduction: str
    input_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    prediction: Spread | None = None
    target: Spread | None = None
    rows_sum_to_one: float | None = None
    rows_log_sum_to_one: float | None = None
    columns_sum_to_one: float | None = None
    one_hot_targets: bool | None = None
    whole_targets: bool | None = None
    counted: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types; non-finite numbers as strings."""
        plain = asdict(self)
        plain["value"] = number_to_json(self.value)
        return {
            name: plain_spread(value) if name in ("prediction", "target") else value for name, value in plain.items()
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Audit":
        """From its event in the store; other keys are ignored, and facts that older runs did not record are None."""
        known = {name: plain[name] for name in cls.__dataclass_fields__ if name in plain}
        shapes = {name: tuple(plain[name]) for name in ("input_shape", "target_shape")}
        spreads = {name: Spread.from_dict(plain.get(name)) for name in ("prediction", "target")}
        fields = {**known, **shapes, **spreads, "value": float(plain["value"])}
        return cls(**cast("dict[str, Any]", fields))


def plain_spread(spread: Mapping[str, float] | None) -> dict[str, float | str] | None:
    """A spread, as `dataclasses.asdict` gives it, in strict JSON."""
    return None if spread is None else {name: number_to_json(value) for name, value in spread.items()}
