"""Sighting: what was seen of one training pass: the model's input and output, the loss call, and the model's mode."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from auscult.core.anatomy import Anatomy
from auscult.core.audit import Audit, Spread
from auscult.metrics import batch
from auscult.metrics.feeds import FirstPass
from auscult.metrics.losscall import LossCall, LossFacts
from auscult.metrics.sample import find_tensor, wide
from auscult.metrics.stretch import Stretch, StretchFacts

TOKENS = 2**20  # of an input, that are kept to be compared with the targets
NEXT = 0.9  # share of targets that are the next tokens


class Sighting:
    """Keeps no tensor of the user's; what it measures stays on its device.

    Attributes:
        training: Whether the model was in training mode.
        figures: Values of the step by metric.
        fingerprint: Shape and fingerprint of the input; None where it had no tensor.
        within: Whether the loss was called inside of the model.
        ended: Whether the model has returned.

    Args:
        training: See above.
        closely: Whether the facts of `Audit` and `Anatomy` are measured as well.
    """

    def __init__(self, training: bool, closely: bool) -> None:
        self.training = training
        self.figures: dict[str, Tensor | float] = {}
        self.fingerprint: tuple[tuple[int, ...], Tensor] | None = None
        self.within = False
        self.ended = False
        self._closely = closely
        self._dtype = ""
        self._input: Tensor | None = None  # its spread
        self._features: Tensor | None = None
        self._output_shape: tuple[int, ...] | None = None
        self._output: Tensor | None = None  # its spread
        self._shares: tuple[Tensor | None, Tensor | None] = (None, None)  # of the output's rows and columns
        self._loss: LossFacts | StretchFacts | None = None
        self._tokens: list[Tensor] = []  # copies of the inputs, where the first has whole numbers
        self._next: Tensor | None = None  # share of the targets that are the next of these
        self._same: Tensor | None = None  # share that are these themselves

    @property
    def has_loss(self) -> bool:
        """Whether the loss call has been seen."""
        return "observed_loss" in self.figures

    def see_input(self, given: Sequence[Any], share_in_evaluation: float | None) -> None:
        """The model is about to be called.

        Args:
            given: Its arguments.
            share_in_evaluation: Share of the modules that act differently in evaluation which are in that mode.
        """
        if share_in_evaluation is not None:
            self.figures["evaluation_mode"] = share_in_evaluation
        tensor = find_tensor(tuple(given), floating=False)
        if tensor is None:
            return
        self.fingerprint = tuple(tensor.shape), batch.fingerprint(tensor)
        self._dtype = str(tensor.dtype).removeprefix("torch.")
        if not tensor.is_floating_point():
            if self._closely:
                others = [each for each in given if isinstance(each, Tensor)]
                first = next((place for place, each in enumerate(others) if each is tensor), len(others))
                several = tensor, *others[:first], *others[first + 1 :]  # one may be given twice, as labels too
                self._tokens = [each.detach().to(torch.int64, copy=True) for each in several if _has_tokens(each)]
            return
        mean, std, largest = batch.moments(tensor)
        self.figures |= {"input_mean": mean, "input_largest": largest}
        if tensor.numel() > 1:
            self.figures["input_std"] = std
        if self._closely:
            self._input = batch.spread(tensor)
            self._features = batch.features(tensor) if tensor.ndim > 1 else None

    def see_output(self, output: object) -> None:
        """The model has been called."""
        self.ended, self.within = True, self.has_loss
        tensor = find_tensor(output, floating=True)
        if tensor is None:
            return
        self._output_shape = tuple(tensor.shape)
        spread = batch.spread_over_batch(tensor)
        if spread is not None:
            self.figures["output_spread"] = spread
        if self._closely:
            self._output = batch.spread(tensor)
            self._shares = batch.sums_to_one(tensor, 1), batch.sums_to_one(tensor, 0)

    def see_loss(self, call: LossCall) -> None:
        """The first loss call has been made."""
        self.figures |= call.figures()
        if self._closely:
            self._loss = LossFacts(call)
            following = [batch.next_share(each, call.target) for each in self._tokens]
            self._next = self._next_share(following)
            self._same = None if call.ignored is None else self._same_share(call.target, call.ignored, following)

    def _next_share(self, following: list[Tensor | None]) -> Tensor | None:
        """Share of the targets that are the next token; NaN where several inputs have them, as source and target do.

        Where the model makes the loss itself, the labels are an input too, and only the first one is compared.
        """
        shares = following if self.ended else following[:1]
        known = [each for each in shares if each is not None]
        if not known or shares[0] is None:
            return None
        several = (torch.stack(known) >= NEXT).sum() > 1
        return torch.where(several, torch.nan, shares[0])

    def _same_share(self, target: Tensor, ignored: int, following: list[Tensor | None]) -> Tensor | None:
        """Share of the targets that are the token at their own position; NaN where an input holds the next ones.

        Where the model makes the loss itself, the labels are an input too: it must be so of two.
        """
        shares: list[Tensor] = []
        taught: list[Tensor] = []
        for each, share in zip(self._tokens, following, strict=True):
            same = batch.same_share(each, target, ignored)
            if same is not None:
                shares.append(same)
            if share is not None:
                taught.append((share >= NEXT) & (same is None or same < 1))
        needed = 1 if self.ended else 2
        if len(shares) < needed:
            return None
        least = torch.stack(shares).sort(descending=True).values[needed - 1]
        return torch.where(torch.stack(taught).any(), torch.nan, least)

    def see_stretch(self, stretch: Stretch) -> None:
        """A difference was taken between every prediction and every target, where the first is the model's output."""
        if self._closely and self.ended and tuple(stretch.prediction.shape) == self._output_shape:
            self._loss = StretchFacts(stretch)

    def see_loss_gradient(self, gradient: Tensor, scale: Tensor | None) -> None:
        """A backward pass begins at that loss, multiplied by the scale; of several passes the first counts."""
        if "loss_gradient" not in self.figures:
            total = wide(gradient.detach()).sum()
            self.figures["loss_gradient"] = total if scale is None else total / scale.to(total.device)

    def audit(self, step: int) -> Audit | None:
        """What the loss call looked like; waits for the device."""
        return None if self._loss is None else self._loss.audit(step)

    def anatomy(self, step: int, showed: FirstPass) -> Anatomy:
        """What the pass showed of the model; waits for the device.

        Args:
            step: The step it belongs to.
            showed: What it showed of the leaf modules.
        """
        scale, offset = (None, None) if self._features is None else map(_or_none, self._features.unbind())
        rows, columns = map(_or_none, self._shares)
        over_batch = self.figures.get("output_spread")
        return Anatomy(
            step=step,
            input_shape=None if self.fingerprint is None else self.fingerprint[0],
            input_dtype=self._dtype,
            input=_spread(self._input),
            feature_scale=scale,
            feature_offset=offset,
            output_shape=self._output_shape,
            output=_spread(self._output),
            output_spread=_or_none(over_batch),
            output_rows_sum_to_one=rows,
            output_columns_sum_to_one=columns,
            feeds=showed.feeds,
            sums_to_one=showed.sums_to_one,
            given_shares=showed.given_shares,
            next_token=_or_none(self._next),
            same_token=_or_none(self._same),
        )


def _has_tokens(tensor: Tensor) -> bool:
    whole = find_tensor(tensor, floating=False) is not None and not tensor.is_floating_point()
    whole = whole and tensor.dtype != torch.bool
    return whole and tensor.ndim == 2 and tensor.numel() <= TOKENS


def on_host(figures: Mapping[str, Tensor | float]) -> dict[str, float]:
    """Numbers by name; those on one accelerator are brought here together."""
    told: dict[str, float] = {}
    away: dict[torch.device, dict[str, Tensor]] = {}
    for name, value in figures.items():
        if isinstance(value, Tensor) and not value.is_cpu:
            away.setdefault(value.device, {})[name] = wide(value)
        else:
            told[name] = float(value)
    for some in away.values():
        told.update(zip(some, torch.stack(list(some.values())).tolist(), strict=True))
    return told


def _spread(values: Tensor | None) -> Spread | None:
    return None if values is None else Spread(*values.tolist())


def _or_none(value: Tensor | float | None) -> float | None:
    """A number on the host; None for NaN."""
    number = None if value is None else float(value)
    return number if number == number else None
