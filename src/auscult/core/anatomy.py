"""Anatomy: what the first training pass showed of the model's input, its output, and of what feeds what inside."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from auscult.core.audit import Spread, plain_spread


@dataclass(frozen=True, slots=True)
class Feed:
    """The output of one leaf module reached another one as it was: no operation came between.

    Attributes:
        source: Path of the module whose output it was.
        target: Path of the module that was called with it.
    """

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What the first training pass showed of a model.

    Attributes:
        step: The step it belongs to.
        input_shape: Shape of the first tensor that the model was called with; None where there was none.
        input_dtype: Its dtype, as `float32`.
        input: How its elements were spread; None where it had no floating-point numbers.
        feature_scale: Largest / smallest standard deviation over its features (the last dimension of two-dimensional
            input, the channels otherwise) that vary; None where there are fewer than two such features or samples.
        feature_offset: Largest |mean| / standard deviation over these features.
        output_shape: Shape of the first floating-point tensor that the model returned; None where there was none.
        output: How its elements were spread.
        output_spread: Root mean square over its columns of their standard deviation over the batch (dimension 0): 0
            where every sample gets the same; None for fewer than two samples.
        output_rows_sum_to_one: Share of its rows (over dimension 1, of two or more) that are not negative and sum to 1.
        output_columns_sum_to_one: Likewise over dimension 0.
        feeds: Which leaf modules were called with the untouched output of another one, in the order of the calls. A
            view of it is untouched; what returns its input (dropout in evaluation) or a view of it (`Flatten`) comes
            between and yet hands on the output before it, so that both feed the next.
        sums_to_one: Leaf modules whose outputs, in all calls, are not negative and sum to 1 within 1e-3 over the last
            dimension, of two or more.
        given_shares: Leaf modules whose every floating-point input, in all calls, is such a distribution.
        next_token: Share of the targets of the first loss call that equal the model's input one position later (along
            the last dimension of whole-number inputs); None where they cannot be compared, or where several inputs hold
            the next tokens, as a source and a target do.
        same_token: Share of the targets of the first loss call that equal the model's input at their own position; None
            where they cannot be compared, where an input holds the next tokens, or where the targets vary too little
            to tell.
    """

    step: int
    input_shape: tuple[int, ...] | None = None
    input_dtype: str = ""
    input: Spread | None = None
    feature_scale: float | None = None
    feature_offset: float | None = None
    output_shape: tuple[int, ...] | None = None
    output: Spread | None = None
    output_spread: float | None = None
    output_rows_sum_to_one: float | None = None
    output_columns_sum_to_one: float | None = None
    feeds: tuple[Feed, ...] = ()
    sums_to_one: tuple[str, ...] = ()
    given_shares: tuple[str, ...] = ()
    next_token: float | None = None
    same_token: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        plain = asdict(self)
        spreads = {name: plain_spread(plain[name]) for name in ("input", "output")}
        return {**plain, **spreads, "feeds": [[each.source, each.target] for each in self.feeds]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Anatomy":
        """From its event in the store; other keys are ignored."""
        known = {name: plain[name] for name in cls.__dataclass_fields__ if name in plain}
        shapes = {
            name: None if plain.get(name) is None else tuple(plain[name]) for name in ("input_shape", "output_shape")
        }
        spreads = {name: Spread.from_dict(plain.get(name)) for name in ("input", "output")}
        feeds = tuple(Feed(*each) for each in plain.get("feeds", ()))
        lists = {name: tuple(plain.get(name, ())) for name in ("sums_to_one", "given_shares")}
        fields = {**known, **shapes, **spreads, **lists, "feeds": feeds}
        return cls(**cast("dict[str, Any]", fields))
