"""Dropping: whether dropout drops although the model evaluates."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn import functional

from auscult.metrics.hooks import PausableHook
from auscult.metrics.parameters import unwrap
from auscult.metrics.taps import FunctionTap

PASSES = 4  # of a run, that are listened to
RATES = {
    functional.dropout: 0.5,
    functional.dropout1d: 0.5,
    functional.dropout2d: 0.5,
    functional.dropout3d: 0.5,
    functional.alpha_dropout: 0.5,
    functional.feature_alpha_dropout: 0.5,
}
"""The functions that drop, and at which rate if none is given; all but `alpha_dropout` and its kin do so by default."""
_ALPHA = (functional.alpha_dropout, functional.feature_alpha_dropout)
_ATTENTION = functional.scaled_dot_product_attention
# Modules that compute evaluations otherwise, to the last bits, while anything listens.
_FAST = (nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer)


class _DropoutTap(FunctionTap):
    """Counts the calls that drop."""

    autograd_alone = False

    def __init__(self) -> None:
        super().__init__((*RATES, _ATTENTION))
        self.drops = 0

    def hear(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: object
    ) -> None:
        if function is _ATTENTION:
            rate = args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0)
            self.drops += rate > 0
            return
        values = dict(zip(("input", "p", "training"), args)) | dict(kwargs)
        self.drops += bool(values.get("training", function not in _ALPHA)) and values.get("p", RATES[function]) > 0


class Dropping:
    """Listens to the first evaluation passes of a model.

    Never to one whose evaluations would not be the same to the last bit for being listened to.

    Args:
        model: The model as it is called.
    """

    def __init__(self, model: nn.Module) -> None:
        self._left = 0 if any(isinstance(each, _FAST) for each in unwrap(model).modules()) else PASSES
        self._passes = 0
        self._tap = _DropoutTap()
        self._hook = PausableHook(model, self._on_output, always=True)
        self._hook.pause()

    def evaluation_began(self) -> None:
        """The model is about to be called in evaluation mode."""
        if self._left and not self._tap.active:
            self._left -= 1
            self._passes += 1
            self._hook.resume()
            self._tap.begin()

    def told(self) -> float | None:
        """Calls that dropped, in the passes since this was last asked; None where there was none."""
        if not self._passes:
            return None
        drops, self._tap.drops, self._passes = self._tap.drops, 0, 0
        return float(drops)

    def close(self) -> None:
        """Listen no more."""
        self._left = 0
        self._tap.end()
        self._hook.close()

    def _on_output(self, args: object, output: object) -> None:
        self._hook.pause()
        self._tap.end()
