"""Scaling: what a GradScaler has done to the gradients of an optimizer, and whether it let the update happen.

Nothing here waits for an accelerator: scales and flags that live there are handed on as tensors.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial, wraps
from threading import RLock
from typing import Any
from weakref import ref

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from auscult.metrics.hooks import inner_optimizer


@dataclass(frozen=True, slots=True)
class ScalerStep:
    """One call of `GradScaler.step`, seen when it is over.

    Attributes:
        optimizer: The optimizer it was called with.
        scale: What the loss had been multiplied by, 0-d on its device.
        unscaled: Whether the user had called `unscale_` before; otherwise whatever he did to the gradients, clipping
            included, he did to gradients multiplied by `scale`.
        skipped: Whether no update was made, because a gradient was not finite. A tensor (0-d, above 0 where skipped)
            for fused optimizers, which decide on the device.
    """

    optimizer: Optimizer
    scale: Tensor
    unscaled: bool
    skipped: bool | Tensor


class _Attempt:
    """A call of `GradScaler.step` in progress."""

    def __init__(self) -> None:
        self.reached = False
        self.found_inf: Tensor | None = None


class ScaleTap:
    """Sees what gradient scalers do to a few optimizers.

    Make it before any other hook of the same optimizers that asks for `factor`, so that it is the first to know of a
    step. Not seen are scalers that share no code with `torch.amp.GradScaler`, `step` of a subclass that does not call
    its parent's, and calls from a function that is compiled. Closes itself when it is garbage.

    Attributes:
        stepped: Told of each call of `GradScaler.step`; must not raise. Not called for a scaler that is disabled.
        uses: How often a scaler has been used on a loss.

    Args:
        optimizers: The optimizers, or wrappers that keep them in `.optimizer`.
        stepped: See above.
    """

    def __init__(self, optimizers: Iterable[Optimizer], stepped: Callable[[ScalerStep], None]) -> None:
        self.stepped = stepped
        self.uses = 0
        self._inner: dict[int, Optimizer] = {}
        self._outer: dict[int, int] = {}  # what users call an optimizer by, and what it is
        self._attempts: dict[int, _Attempt] = {}
        self._scalers: dict[int, ref[GradScaler] | None] = {}  # None: it steps by itself
        self._latest: ref[GradScaler] | None = None
        for each in optimizers:
            inner = inner_optimizer(each)
            self._inner[id(inner)] = inner
            self._outer.update({id(each): id(inner), id(inner): id(inner)})
        self._handles = [each.register_step_pre_hook(self._on_step) for each in self._inner.values()]
        _open(self)

    def close(self) -> None:
        """See nothing more; with the last tap, torch is what it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        _close(self)

    def factor(self, optimizer: Optimizer) -> Tensor | None:
        """What the gradients of an optimizer are multiplied by at this moment, 0-d; None for 1.

        Before the first step of an optimizer it is taken for granted that the scaler last used scales its loss.
        """
        known = self._outer.get(id(optimizer))
        if known is None:
            return None
        inner = self._inner[known]
        if hasattr(inner, "grad_scale"):  # inside the step of one that unscales by itself
            return _copy(getattr(inner, "grad_scale", None))
        reference = self._scalers.get(known, self._latest)
        scaler = None if reference is None else reference()
        if scaler is None or not scaler.is_enabled() or self._stage(scaler, known) != "READY":
            return None
        return _copy(getattr(scaler, "_scale", None))

    def scale(self) -> Tensor | None:
        """What the scaler last used multiplies losses by, 0-d; None for 1."""
        scaler = None if self._latest is None else self._latest()
        return None if scaler is None or not scaler.is_enabled() else _copy(getattr(scaler, "_scale", None))

    def used(self, scaler: GradScaler) -> None:
        """A scaler has been used on a loss."""
        self.uses += 1
        if self._latest is None or self._latest() is not scaler:
            self._latest = ref(scaler)

    def step(self, scaler: GradScaler, optimizer: Optimizer, run: Callable[[], Any]) -> Any:
        """Run a call of `GradScaler.step` and tell of it."""
        known = self._outer.get(id(optimizer))
        scale = _copy(getattr(scaler, "_scale", None))
        if known is None or scale is None or known in self._attempts or not scaler.is_enabled():
            return run()
        self._scalers[known] = ref(scaler)
        unscaled = self._stage(scaler, known) == "UNSCALED"
        attempt = self._attempts[known] = _Attempt()
        try:
            result = run()
        finally:
            del self._attempts[known]
        skipped = not attempt.reached if attempt.found_inf is None else attempt.found_inf
        self.stepped(ScalerStep(optimizer, scale, unscaled, skipped))
        return result

    def _on_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            return
        attempt = self._attempts.get(id(optimizer))
        if attempt is None:
            self._scalers[id(optimizer)] = None
            return
        attempt.reached = True
        attempt.found_inf = getattr(optimizer, "found_inf", None)

    def _stage(self, scaler: GradScaler, known: int) -> str:
        """Where a scaler stands with an optimizer: READY (gradients still scaled), UNSCALED or STEPPED."""
        states: dict[int, dict[str, Any]] = getattr(scaler, "_per_optimizer_states", {})
        own = [states[name] for name, inner in self._outer.items() if inner == known and name in states]
        return own[0]["stage"].name if own else "READY"


def _copy(value: object) -> Tensor | None:
    """A scale as it is now; `GradScaler.update` changes its own in place."""
    return value.detach().clone() if isinstance(value, Tensor) else None


_lock = RLock()
_taps: tuple[ref[ScaleTap], ...] = ()
_replaced: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}  # name of the method: torch's own, ours


def _listening() -> list[ScaleTap]:
    return [tap for each in _taps if (tap := each()) is not None]


def _see_scale(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def scale(self: GradScaler, *args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            for tap in _listening():
                tap.used(self)
        return method(self, *args, **kwargs)

    return scale


def _see_step(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def step(self: GradScaler, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        run = partial(method, self, optimizer, *args, **kwargs)
        if not torch.compiler.is_compiling():
            for tap in _listening():
                run = partial(tap.step, self, optimizer, run)
        return run()

    return step


def _open(tap: ScaleTap) -> None:
    global _taps
    with _lock:
        if not _replaced:
            for name, see in (("scale", _see_scale), ("step", _see_step)):
                method = vars(GradScaler).get(name)
                if callable(method):
                    _replaced[name] = (method, see(method))
                    setattr(GradScaler, name, _replaced[name][1])
        _taps = (*_taps, ref(tap, lambda _: _close(None)))


def _close(tap: ScaleTap | None) -> None:
    """Forget a tap, and those that are garbage; the last one gives the class its methods back."""
    global _taps
    with _lock:
        _taps = tuple(each for each in _taps if each() is not None and each() is not tap)
        if _taps:
            return
        for name, (method, ours) in _replaced.items():
            if vars(GradScaler).get(name) is ours:  # otherwise somebody came after us, whose method calls ours
                setattr(GradScaler, name, method)
        _replaced.clear()
