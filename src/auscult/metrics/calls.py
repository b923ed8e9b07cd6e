"""Calls: one forward and backward pass, module call by module call, and where finite numbers became non-finite."""

import math
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from auscult.metrics.norms import is_transformed, measurable

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)
# They make infinities on purpose, or hand out memory that nobody has written to yet.
_MASKS = frozenset(
    ("masked_fill", "masked_fill_", "fill_", "full", "full_like", "new_full", "where", "__setitem__", "triu", "tril")
)
_UNWRITTEN = ("empty", "new_empty", "__get__")


class Flaw(IntEnum):
    """The worst of a tensor's elements; a negative infinity alone may be a mask."""

    NONE = 0
    MASKED = 1
    INFINITE = 2
    NAN = 3


@dataclass(frozen=True, slots=True)
class Operation:
    """A torch function that made a non-finite number of finite ones.

    Attributes:
        name: Its name, as `log`.
        line: The nearest line outside torch that called it, as `model.py:57`; `""` where there is none.
        flaw: What it made.
        dtype: Dtype of what it made.
    """

    name: str
    line: str
    flaw: Flaw
    dtype: str


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where the flaw of a tensor came from, followed from operation to operation.

    Attributes:
        call: The call in whose own code it arose, or was met.
        operation: What made it of finite numbers, or was the first to use `met`.
        met: A tensor that had the flaw before and that no operation of the pass is known to have made; None where the
            operation made it.
    """

    call: "Call"
    operation: Operation
    met: Tensor | None = None


@dataclass(slots=True, eq=False)
class Call:
    """One call of one module.

    Attributes:
        path: The module's qualified name.
        module: The module.
        parent: The call it was made in; None for the outermost.
        arguments: The tensors among its arguments, kept for the model itself only.
        inputs: Worst flaw among its arguments.
        output: Worst flaw of what it returned.
        dtype: Dtype of the tensor with that flaw.
        operation: The first operation of its own code (not of a module called in it) that made a flaw.
        source: Where the flaw of its output came from; None where it could not be followed.
        output_grad: Worst flaw of a gradient that reached its output; None where none was seen to.
        input_grad: Worst flaw of its own contribution to the gradient of an argument.
        grad_flaw: Flaw of the first of these gradients that had one.
        grad_dtype: Its dtype.
        finished: How many calls were finished before it was.
    """

    path: str
    module: nn.Module
    parent: "Call | None"
    inputs: Flaw
    arguments: tuple[Tensor, ...] = ()
    output: Flaw = Flaw.NONE
    dtype: str = ""
    operation: Operation | None = None
    source: Source | None = None
    output_grad: Flaw | None = None
    input_grad: Flaw = Flaw.NONE
    grad_flaw: Flaw = Flaw.NONE
    grad_dtype: str = ""
    finished: int = -1

    def ancestors(self) -> Iterator["Call"]:
        """The calls it was made in, innermost first."""
        call = self.parent
        while call is not None:
            yield call
            call = call.parent


class CallTrace(TorchFunctionMode):
    """Follows the calls of a model's modules, through hooks that its owner puts on, and every torch function in them.

    Attributes:
        calls: The calls in the order in which they began; the first is the outermost.
        order: The calls in the order in which their gradients became non-finite.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.order: list[Call] = []
        self._stack: list[Call] = []
        self._sources: dict[int, tuple[Tensor, Source | None]] = {}  # of every tensor with a flaw, by id
        self._finished = 0
        self._looking = False
        self._over = False

    def follow(self, path: str, module: nn.Module) -> None:
        """Put the hooks on a module; whoever asks takes them off."""
        module.register_forward_pre_hook(partial(self._began, path), with_kwargs=True)
        module.register_forward_hook(self._ended)

    def end_forward(self) -> None:
        """From here on, calls are recomputations (activation checkpointing)."""
        self._over = True

    def _began(
        self, path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self._over:
            return None
        parent = self._stack[-1] if self._stack else None
        with self._look():
            call = Call(path, module, parent, flaw((args, kwargs)))
            if len(self.calls) == 1:
                call.arguments = tuple(tensors((args, kwargs)))
            self.calls.append(call)
            self._stack.append(call)
            # Aliases, so that the gradient of this call is told apart from that of others with the same argument.
            return replace_tensors((args, kwargs), partial(self._alias, call))

    def _ended(self, module: nn.Module, args: object, output: object) -> None:
        if self._over or all(call.module is not module for call in self._stack):
            return
        while (call := self._stack.pop()).module is not module:
            pass  # left by an exception that the model has caught
        with self._look():
            call.output, call.dtype = worst(output)
            bad = _worst_of(output)
            call.source = None if bad is None else self._source_of(bad)
            call.finished = self._finished
            self._finished += 1
            for each in tensors(output):
                if each.requires_grad and not each.is_leaf:
                    each.register_hook(partial(self._on_output_grad, call))

    def _alias(self, call: Call, tensor: Tensor) -> Tensor:
        if not tensor.requires_grad or tensor.layout != torch.strided:
            return tensor
        alias = tensor.view_as(tensor)
        alias.register_hook(partial(self._on_input_grad, call))
        if id(tensor) in self._sources:
            self._sources[id(alias)] = (alias, self._source_of(tensor))
        return alias

    def _on_output_grad(self, call: Call, gradient: Tensor) -> None:
        call.output_grad = max(call.output_grad or Flaw.NONE, self._found(call, gradient))

    def _on_input_grad(self, call: Call, gradient: Tensor) -> None:
        call.input_grad = max(call.input_grad, self._found(call, gradient))

    def _found(self, call: Call, gradient: Tensor) -> Flaw:
        with self._look():
            found, dtype = worst(gradient)
        if found and call not in self.order:
            self.order.append(call)
            call.grad_flaw, call.grad_dtype = found, dtype
        return found

    @contextmanager
    def _look(self) -> Generator[None]:
        """While the trace itself looks at tensors, it does not follow its own operations."""
        before, self._looking = self._looking, True
        try:
            yield
        finally:
            self._looking = before

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        call = self._stack[-1] if self._stack else None
        if self._looking or call is None:
            return func(*args, **given)
        name = getattr(func, "__name__", "")
        used = _worst_of((args, given))
        before = flaw(used)
        result = func(*args, **given)
        made = args[0] if name == "__setitem__" else result
        after, dtype = worst(made)
        source = None
        on_purpose = name in _MASKS or name.startswith(_UNWRITTEN)
        known = used is not None and (id(used) in self._sources or id(used._base) in self._sources)
        if after:
            operation = Operation(name.strip("_"), _line(), after, dtype)
            if before <= Flaw.MASKED and after > before and not on_purpose:
                call.operation = call.operation or operation
                source = Source(call, operation)
            if known and used is not None:
                source = self._source_of(used) or source
            elif used is not None and before > Flaw.MASKED:
                source = Source(call, operation, used)
        for each in tensors(made):
            self._sources.pop(id(each), None)
            if flaw(each):
                self._sources[id(each)] = (each, source)
                if each._base is not None:  # it may have been written through a view
                    self._sources.setdefault(id(each._base), (each._base, source))
        return result

    def _source_of(self, tensor: Tensor) -> Source | None:
        of_base = self._sources.get(id(tensor._base), (tensor, None))
        return self._sources.get(id(tensor), of_base)[1]


def tensors(value: object, depth: int = 0) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif depth < 8:
        held: Iterable[object] = ()
        if isinstance(value, (tuple, list)):
            held = cast("Iterable[object]", value)
        elif isinstance(value, Mapping):
            held = cast("Mapping[object, object]", value).values()
        elif is_dataclass(value) and not isinstance(value, type):
            held = [getattr(value, each.name) for each in fields(value)]
        for each in held:
            yield from tensors(each, depth + 1)


def flaw(value: object) -> Flaw:
    """The worst element of all tensors in a nested value."""
    return worst(value)[0]


def _worst_of(value: object) -> Tensor | None:
    """The first tensor with the worst flaw; None where there is no flaw."""
    found = [(_flaw_of(each), each) for each in tensors(value)]
    best = max(found, key=lambda each: each[0], default=None)
    return best[1] if best is not None and best[0] else None


def worst(value: object) -> tuple[Flaw, str]:
    """The worst element of all tensors in a nested value, and the dtype of the tensor that holds it."""
    found = [(_flaw_of(each), _name(each.dtype)) for each in tensors(value)]
    best = max(found, key=lambda each: each[0], default=(Flaw.NONE, ""))
    return best if best[0] else (Flaw.NONE, "")


def _flaw_of(tensor: Tensor) -> Flaw:
    if not measurable(tensor) or is_transformed(tensor):
        return Flaw.NONE
    values = tensor.detach()
    if values.layout != torch.strided:
        values = values.coalesce().values() if values.layout == torch.sparse_coo else values.values()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    if not values.is_floating_point():
        return Flaw.NONE
    if values.element_size() == 1:
        values = values.float()
    if math.isfinite(values.sum().item()) or bool(torch.isfinite(values).all()):  # a sum shows every flaw, and is fast
        return Flaw.NONE
    if bool(torch.isnan(values).any()):
        return Flaw.NAN
    return Flaw.INFINITE if bool((values == torch.inf).any()) else Flaw.MASKED


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def replace_tensors(value: Any, by: Callable[[Tensor], Tensor]) -> Any:
    """The same nested tuples, lists and dicts with other tensors; what else holds tensors keeps its own."""
    if isinstance(value, Tensor):
        return by(value)
    if type(value) is tuple or type(value) is list:
        return type(value)(replace_tensors(each, by) for each in value)
    if type(value) is dict:
        return {key: replace_tensors(each, by) for key, each in value.items()}
    return value


def _line() -> str:
    """The nearest line outside torch that led to the operation under way; `""` where there is none before our own."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_HERE):
            return ""
        if not file.startswith((_TORCH, "<")):
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
