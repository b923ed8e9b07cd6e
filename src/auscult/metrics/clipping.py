"""Clipping: torch's own gradient clipping, seen while it happens, by whatever name the user calls it.

`torch.nn.utils` wraps the bodies of its clipping functions to turn autograd off. Here the body inside that wrapper is
exchanged, for as long as a tap is open. The functions themselves, their names and signatures stay what they are, so
that names imported long before are heard too, and whatever the user has put in their place stays in place.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import signature
from threading import RLock, local
from types import CellType, FunctionType
from typing import Any, Literal, NamedTuple
from weakref import ref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grad

from auscult.metrics.hooks import is_in_graph
from auscult.metrics.norms import is_unsafe

SHARED_ELEMENTS = 2**20
"""Largest tensor whose norm is taken over from torch, which adds up naively in float32 on CPU. At this size it is 1e-5
off for normally distributed elements, 1e-4 for log-normal ones, at worst (all equal) 4e-4; at 65,536 elements 5e-7,
5e-6 and 2e-5."""

_SHARED_TYPES = (torch.float32, torch.float64)


class Sum(NamedTuple):
    """A total norm that torch has computed.

    Attributes:
        total: The total, as long as somebody keeps it.
        order: Its order.
        marks: Identity and version of the gradients whose own norms were overheard; empty where nothing was.
        norms: These norms, `(len(marks),)`.
    """

    total: ref[Tensor]
    order: float
    marks: Sequence[tuple[int, int]]
    norms: Tensor | None


class Clip(NamedTuple):
    """One call that clips gradients, as torch was told; costs next to nothing until it is asked.

    Attributes:
        kind: `"norm"` multiplies all gradients by `coefficient`, `"value"` clamps every element to [-bound, bound].
        bound: `max_norm` or `clip_value`, as given.
        total: Total norm before clipping, 0-d, over all parameters `given`; None for `"value"`.
        given: All parameters that the call was given.
        watched: The parameters of the tap, by identity.
        sum: What is known of `total`; None where torch did not compute it.
    """

    kind: Literal["norm", "value"]
    bound: float | Tensor
    total: Tensor | None
    given: Sequence[Tensor]
    watched: Mapping[int, Tensor]
    sum: Sum | None

    @property
    def coefficient(self) -> Tensor | None:
        """What the gradients are multiplied by, in [0, 1] or NaN, to the bit; None for `"value"`."""
        return None if self.total is None else (float(self.bound) / (self.total + 1e-6)).clamp(max=1.0)

    @property
    def order(self) -> float | None:
        """Order of the total norm; None where torch did not compute it."""
        return None if self.sum is None else self.sum.order

    def parameters(self) -> list[Tensor]:
        """The tap's parameters among those given, each once, without those that have no gradient."""
        own = {id(each): each for each in self.given if id(each) in self.watched}
        return [each for each in own.values() if each.grad is not None]

    def others(self) -> int:
        """How many parameters were given that are not the tap's."""
        return sum(id(each) not in self.watched for each in self.given)

    def shared(self) -> tuple[list[Tensor], NDArray[np.float64]]:
        """Those of `parameters()` whose L2 norm torch has computed itself, and these norms before clipping.

        To be asked before the gradients are clipped. Left out is what torch computes too coarsely: half precision,
        tensors above `SHARED_ELEMENTS`, squares outside of the float32 range.

        Returns:
            N parameters, and their norms, float64 `(N,)`; nothing where norms live on an accelerator.
        """
        if self.sum is None or self.sum.norms is None:
            return [], np.empty(0)
        norms = self.sum.norms.double().numpy()
        safe = (~is_unsafe(norms)).tolist()
        places = {mark: place for place, mark in enumerate(self.sum.marks) if safe[place]}
        found: dict[int, Tensor] = {}
        for each in self.given:
            grad = each.grad if id(each) in self.watched else None
            if grad is not None and _is_shareable(grad):
                place = places.get((id(grad), grad._version))
                if place is not None:
                    found[place] = each
        return list(found.values()), norms[list(found)]


class _Listener:
    """`torch` to torch's own code, and an ear at the norms of single tensors that the code asks for."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, int]] = []
        self.norms: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def _foreach_norm(self, tensors: list[Tensor], *args: Any, **kwargs: Any) -> Sequence[Tensor]:
        self.marks += [(id(each), each._version) for each in tensors]
        return torch._foreach_norm(tensors, *args, **kwargs)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]

    def stack(self, tensors: list[Tensor], *args: Any, **kwargs: Any) -> Tensor:
        stacked = torch.stack(tensors, *args, **kwargs)
        if len(stacked) == len(self.marks) and stacked.is_cpu:
            self.norms = stacked
        return stacked


class ClipTap:
    """Calls `before` and `after` around every call of torch that clips some of a few parameters.

    Heard are `clip_grad_norm_`, `clip_grads_with_norm_`, `clip_grad_value_` and the deprecated `clip_grad_norm`, from
    any thread. Not heard are gradients changed by hand (`auscult.metrics.marks`), calls inside a graph that is compiled
    or traced, and calls that raise before anything is clipped. Closes itself when it is garbage.

    Attributes:
        parameters: The parameters by identity.
        sharing: Whether to listen for the norms that torch computes anyway (`Clip.shared`).
        unheard: Names of the functions in `torch.nn.utils` that cannot be heard in this version of torch.

    Args:
        parameters: The parameters to hear of; kept alive.
        before: Called with gradients not yet clipped, autograd off. Must not raise.
        after: Called with the same gradients clipped. Must not raise.
    """

    def __init__(
        self, parameters: Iterable[Tensor], before: Callable[[Clip], None], after: Callable[[Clip], None]
    ) -> None:
        self.sharing = False
        self.before = before
        self.after = after
        self.parameters = {id(each): each for each in parameters}
        self.unheard = _open(self)

    def close(self) -> None:
        """Hear nothing more; with the last tap, torch is what it was."""
        _close(self)

    def concerned(self, given: Sequence[Tensor]) -> bool:
        """Whether a call has anything to do with the tap's parameters."""
        return any(id(each) in self.parameters and each.grad is not None for each in given)


def _is_shareable(grad: Tensor) -> bool:
    return type(grad) is Tensor and grad.dtype in _SHARED_TYPES and grad.numel() <= SHARED_ELEMENTS


# -- what torch's functions do while a tap is open --------------------------------------------------------------------

_lock = RLock()
_taps: tuple[ref[ClipTap], ...] = ()
_swapped: dict[str, "_Swap"] = {}
_memory = local()


class _Swap(NamedTuple):
    """A function of torch whose body is exchanged."""

    cell: CellType
    body: FunctionType
    heard: Callable[..., Any]


def _listening() -> list[ClipTap]:
    return [tap for each in _taps if (tap := each()) is not None]


def _last_sum(total: Tensor | None) -> Sum | None:
    """What is known of a total norm, if it is the last that this thread computed."""
    last: Sum | None = getattr(_memory, "sum", None)
    return last if last is not None and total is not None and last.total() is total else None


def _around(kind: Literal["norm", "value"], parameters: Any, bound: Any, total: Any, clip: Callable[[Any], Any]) -> Any:
    given = parameters if isinstance(parameters, (Tensor, list, tuple)) else list(parameters)  # a generator serves once
    tensors: Sequence[Tensor] = [given] if isinstance(given, Tensor) else given
    heard: list[tuple[ClipTap, Clip]] = []
    for tap in _listening():
        if tap.concerned(tensors):
            found = Clip(kind, bound, total, tensors, tap.parameters, _last_sum(total))
            heard.append((tap, found))
            tap.before(found)
    result = clip(given)
    for tap, found in heard:
        tap.after(found)
    return result


def _hear_norm_clip(body: Callable[..., Any]) -> Callable[..., Any]:
    def heard(parameters: Any, max_norm: Any, total_norm: Any, *rest: Any, **named: Any) -> Any:
        if is_in_graph():
            return body(parameters, max_norm, total_norm, *rest, **named)
        try:
            return _around(
                "norm",
                parameters,
                max_norm,
                total_norm,
                lambda given: body(given, max_norm, total_norm, *rest, **named),
            )
        finally:
            _memory.sum = None

    return heard


def _hear_value_clip(body: Callable[..., Any]) -> Callable[..., Any]:
    def heard(parameters: Any, clip_value: Any, *rest: Any, **named: Any) -> Any:
        if is_in_graph():
            return body(parameters, clip_value, *rest, **named)
        return _around("value", parameters, clip_value, None, lambda given: body(given, clip_value, *rest, **named))

    return heard


def _hear_sum(body: FunctionType) -> Callable[..., Any]:
    """Runs torch's own code, to the bit; where norms are to be shared, with an ear at the norms of single tensors."""

    def heard(tensors: Any, norm_type: Any = 2.0, *rest: Any, **named: Any) -> Any:
        if is_in_graph():
            return body(tensors, norm_type, *rest, **named)
        if norm_type != 2 or not any(tap.sharing for tap in _listening()):
            total = body(tensors, norm_type, *rest, **named)
            _memory.sum = Sum(ref(total), float(norm_type), (), None)
            return total
        listener = _Listener()
        seen = {**body.__globals__, "torch": listener}
        run = FunctionType(body.__code__, seen, body.__name__, body.__defaults__, body.__closure__)
        run.__kwdefaults__ = body.__kwdefaults__
        total = run(tensors, norm_type, *rest, **named)
        _memory.sum = Sum(ref(total), float(norm_type), listener.marks, listener.norms)
        return total

    return heard


class _Heard(NamedTuple):
    """How a function of torch is heard: its first arguments, and what is put around its body."""

    arguments: tuple[str, ...]
    around: Callable[[FunctionType], Callable[..., Any]]


_HEARD = {
    "_get_total_norm": _Heard(("tensors", "norm_type"), _hear_sum),
    "_clip_grads_with_norm_": _Heard(("parameters", "max_norm", "total_norm"), _hear_norm_clip),
    "clip_grad_value_": _Heard(("parameters", "clip_value"), _hear_value_clip),
}


def _body(name: str, arguments: tuple[str, ...]) -> tuple[CellType, FunctionType] | None:
    """The cell with the body of a function of torch, and the body; None in a torch that is built otherwise."""
    function = getattr(clip_grad, name, None)
    if not isinstance(function, FunctionType) or "func" not in function.__code__.co_freevars:
        return None
    cell = (function.__closure__ or ())[function.__code__.co_freevars.index("func")]
    body = cell.cell_contents
    if not isinstance(body, FunctionType) or tuple(signature(body).parameters)[: len(arguments)] != arguments:
        return None
    return cell, body


def _unheard() -> tuple[str, ...]:
    """Names of the functions that cannot be heard; `clip_grad_norm_` is heard by what it calls."""
    names = [name.lstrip("_") for name in _HEARD if name not in _swapped]
    whole = _body("clip_grad_norm_", ("parameters", "max_norm", "norm_type"))
    called = () if whole is None else whole[1].__code__.co_names
    heard = "_clip_grads_with_norm_" in called and "_clip_grads_with_norm_" in _swapped
    return tuple(names if heard else [*names, "clip_grad_norm_"])


def _open(tap: ClipTap) -> tuple[str, ...]:
    """Let a tap hear; returns the names that cannot be heard."""
    global _taps
    with _lock:
        if not _swapped:
            for name, (arguments, around) in _HEARD.items():
                found = _body(name, arguments)
                if found is not None:
                    cell, body = found
                    cell.cell_contents = heard = around(body)
                    _swapped[name] = _Swap(cell, body, heard)
        _taps = (*_taps, ref(tap, lambda _: _close(None)))
        return _unheard()


def _close(tap: ClipTap | None) -> None:
    """Forget a tap, and those that are garbage; the last one gives torch its bodies back."""
    global _taps
    with _lock:
        _taps = tuple(each for each in _taps if each() is not None and each() is not tap)
        if _taps:
            return
        for swap in _swapped.values():
            if swap.cell.cell_contents is swap.heard:  # otherwise somebody came after us, whose body calls ours
                swap.cell.cell_contents = swap.body
        _swapped.clear()
