"""Attributes: everything a model keeps in plain Python, put back as it was after a forward pass that must not count."""

import functools
import io
import random
import threading
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableSet
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from auscult.metrics.reach import Variable, variables_of

REACH, BYTES = 2_000, 256 * 2**20
MEMBER_BYTES = 64  # of a container, about
_ATOMS = (str, bytes, int, float, complex, bool, type(None), type, torch.dtype, torch.device, torch.Size)
_OPAQUE = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
# What holds one of these is no state of a model but a service (a logger, a trainer), and other threads may change it.
_SERVICES = (threading.Thread, type(threading.Lock()), type(threading.RLock()), io.IOBase)

Back = Callable[[], object]


class CannotPutBack(Exception):  # noqa: N818  (what it is)
    """State of a model that cannot be made what it was."""


class TooMuchState(CannotPutBack):
    """More tensors, arrays and members of containers than can be put back."""


class _Service(Exception):  # noqa: N818
    """An object that is left alone."""


class Attributes:
    """Remembers what a forward pass may change besides parameters and buffers, which its caller gives it copies of.

    That is what the attributes of the modules hold, the attributes of their classes, and the globals and closures that
    their methods use: containers, small objects, tensors, arrays, random generators. Not reached are hooks, what is
    reached through an imported module, and objects that reach a thread, a lock, a file or more than 2,000 others.

    Raises:
        CannotPutBack: if an iterator is among them, as `itertools.count()`: what it has given it cannot take back.
        TooMuchState: if tensors, arrays and containers together exceed 256 MiB.
    """

    def __init__(self, model: nn.Module) -> None:
        self._seen = {id(each) for each in (*model.parameters(), *model.buffers())}
        self._services: set[int] = set()
        self._back: list[Back] = []
        self._bytes = 0
        modules = list(model.modules())
        self._seen.update(id(each) for each in modules)
        for module in modules:
            held = vars(module)
            self._back.append(functools.partial(_refill_dict, held, dict(held)))
            for name, value in held.items():
                if "_hooks" not in name:
                    self._remember(value)
        for each in variables_of(model):
            self._back.append(functools.partial(_rebind, each))
            self._remember(each.value)

    def put_back(self) -> None:
        """Make everything what it was."""
        with torch.no_grad():
            for each in self._back:
                each()

    def _remember(self, root: object) -> None:
        """Keep everything that one attribute reaches, or nothing of it where it reaches a service."""
        if isinstance(root, (*_ATOMS, *_OPAQUE)) or id(root) in self._seen:
            return
        seen: set[int] = set()
        back: list[Back] = []
        stack, objects = [root], 0
        spent: type | None = None
        while stack:
            value = stack.pop()
            if isinstance(value, (*_ATOMS, *_OPAQUE)) or id(value) in seen or id(value) in self._seen:
                continue
            seen.add(id(value))
            try:
                objects += _is_object(value)
                if objects > REACH or isinstance(value, _SERVICES) or id(value) in self._services:
                    raise _Service
                if isinstance(value, Iterator):
                    spent = spent or type(cast("object", value))
                stack.extend(self._take(value, back))
            except _Service:
                self._services.add(id(root))
                return
        if spent is not None:
            raise CannotPutBack(f"the model uses an iterator ({spent.__name__}), which cannot be put back")
        self._seen |= seen
        self._back += back

    def _take(self, value: object, back: list[Back]) -> Iterable[object]:
        """How to put one object back, added to `back`; returns what it holds."""
        if isinstance(value, Tensor):
            if not value.is_meta and not hasattr(value, "to_local"):
                self._count(value.numel() * value.element_size())
                back.append(functools.partial(_refill_tensor, value, value.detach().clone(), value._version))
            return ()
        if isinstance(value, np.ndarray):
            self._count(value.nbytes)
            back.append(functools.partial(_refill_array, value, value.copy()))
            return ()
        if isinstance(value, (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)):
            back.append(_generator(value))
            return ()
        if isinstance(value, types.MethodType):
            return (value.__self__,)
        if isinstance(value, functools.partial):
            return (value.func, *value.args, *value.keywords.values())
        if isinstance(value, (tuple, frozenset)):
            return cast("Iterable[object]", value)
        if isinstance(value, (dict, list, set, deque)):
            self._count(MEMBER_BYTES * len(cast("list[Any]", value)))
        return _take_container(value, back)

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > BYTES:
            raise TooMuchState("the model holds more in plain attributes and variables than can be put back")


def _is_object(value: object) -> bool:
    """Whether it is an instance of a class of somebody's own, neither a container nor a module."""
    return (hasattr(value, "__dict__") or bool(_slots(value))) and not isinstance(
        value, (nn.Module, Tensor, dict, list, set, deque)
    )


def _take_container(value: object, back: list[Back]) -> list[object]:
    held: list[object] = []
    if isinstance(value, dict):
        mapping = cast("dict[Any, Any]", value)
        back.append(functools.partial(_refill_dict, mapping, dict(mapping)))
        held += mapping.values()
    elif isinstance(value, (list, deque)):
        series = cast("list[Any]", value)
        back.append(functools.partial(_refill_series, series, list(series)))
        held += series
    elif isinstance(value, MutableSet):
        members = cast("set[Any]", value)
        back.append(functools.partial(_refill_set, members, set(members)))
    if type(value).__module__.startswith("auscult."):
        raise _Service
    if hasattr(value, "__dict__"):
        own = vars(value)
        back.append(functools.partial(_refill_dict, own, dict(own)))
        held += (each for name, each in own.items() if not (isinstance(value, nn.Module) and "_hooks" in name))
    for name in _slots(value):
        if hasattr(value, name):
            held.append(getattr(value, name))
            back.append(functools.partial(object.__setattr__, value, name, held[-1]))  # of a frozen one, too
    return held


def _slots(value: object) -> list[str]:
    """Names of the attributes that an object of a user's own class keeps in `__slots__`."""
    own = [vars(each).get("__slots__", ()) for each in type(value).__mro__ if each.__module__ != "builtins"]
    listed = [(each,) if isinstance(each, str) else tuple(each) for each in own]
    return [name for each in listed for name in each if name not in ("__dict__", "__weakref__")]


def _generator(value: "torch.Generator | random.Random | np.random.Generator | np.random.RandomState") -> Back:
    if isinstance(value, torch.Generator):
        return functools.partial(value.set_state, value.get_state())
    if isinstance(value, random.Random):
        return functools.partial(value.setstate, value.getstate())
    if isinstance(value, np.random.RandomState):
        return functools.partial(value.set_state, value.get_state())
    return functools.partial(setattr, value.bit_generator, "state", value.bit_generator.state)


def _rebind(variable: Variable) -> None:
    holder, name, value = variable
    if isinstance(holder, types.CellType):
        holder.cell_contents = value
    elif isinstance(holder, type):
        if vars(holder).get(name) is not value:
            setattr(holder, name, value)
    elif holder.get(name) is not value:
        holder[name] = value


def _refill_dict(mapping: dict[Any, Any], before: dict[Any, Any]) -> None:
    same = len(mapping) == len(before) and all(
        a is c and b is d for (a, b), (c, d) in zip(mapping.items(), before.items(), strict=True)
    )
    if not same:
        mapping.clear()
        mapping.update(before)


def _refill_series(series: list[Any], before: list[Any]) -> None:
    if len(series) != len(before) or any(a is not b for a, b in zip(series, before, strict=True)):
        series.clear()
        series.extend(before)


def _refill_set(members: set[Any], before: set[Any]) -> None:
    if members != before:
        members.clear()
        members.update(before)


def _refill_array(array: "np.ndarray[Any, Any]", before: "np.ndarray[Any, Any]") -> None:
    if array.tobytes() != before.tobytes():
        array[...] = before


def _refill_tensor(tensor: Tensor, before: Tensor, version: int) -> None:
    if tensor._version != version or not torch.equal(tensor, before):  # batch norm does not count what it writes
        tensor.detach().copy_(before)
