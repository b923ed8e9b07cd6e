"""Reach: the variables that the code of a model's classes uses besides the model itself."""

import dis
import functools
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any, NamedTuple, cast

from torch import nn

FUNCTIONS = 1_000
_NOT_FOLLOWED = ("torch.", "numpy.", "auscult.", "builtins.")


class Variable(NamedTuple):
    """A variable outside of the model: the attribute of a class, a global, or a cell of a closure.

    Attributes:
        holder: The class, the dictionary of globals or the cell.
        name: Its name in the holder; `cell_contents` in a cell.
        value: What it holds.
    """

    holder: Any
    name: str
    value: object


def variables_of(model: nn.Module) -> Iterator[Variable]:
    """The variables that the methods of a model's own classes use, and the functions and classes these call.

    Of functions, methods and classes that live in torch, NumPy or auscult nothing is told, nor of what is reached
    through a module (`settings.scale`).

    Args:
        model: The model.
    """
    stack: list[object] = []
    for module in model.modules():
        stack += [type(module), *(each for each in vars(module).values() if isinstance(each, FunctionType))]
    seen: set[int] = set()
    while stack and len(seen) < FUNCTIONS:
        value = _function_in(stack.pop())
        if id(value) in seen or f"{getattr(value, '__module__', '')}.".startswith(_NOT_FOLLOWED):
            continue
        if not isinstance(value, (type, FunctionType)):
            continue
        seen.add(id(value))
        for each in _of_class(value) if isinstance(value, type) else _of_function(value):
            stack.append(each.value)
            if not isinstance(_function_in(each.value), FunctionType):
                yield each
        if isinstance(value, type):
            stack += value.__bases__


def _of_class(kind: type) -> Iterator[Variable]:
    for name, value in vars(kind).items():
        if not name.startswith("__") or isinstance(value, FunctionType):
            yield Variable(kind, name, value)


def _of_function(function: FunctionType) -> Iterator[Variable]:
    around = function.__globals__
    for name in _global_names(function.__code__):
        if name in around:
            yield Variable(around, name, around[name])
    for cell in function.__closure__ or ():
        try:
            yield Variable(cell, "cell_contents", cell.cell_contents)
        except ValueError:  # not assigned yet
            continue


@functools.cache
def _global_names(code: CodeType) -> tuple[str, ...]:
    """The names that code looks up in its globals, nested functions included."""
    own = (each.argval for each in dis.get_instructions(code) if each.opname.endswith("_GLOBAL"))
    inner = (name for each in code.co_consts if isinstance(each, CodeType) for name in _global_names(each))
    return tuple(dict.fromkeys((*cast("Iterator[str]", own), *inner)))


def _function_in(value: object) -> object:
    """The function that a method of a class stands for."""
    if isinstance(value, (staticmethod, classmethod)):
        return cast("object", value.__func__)
    return value.fget if isinstance(value, property) else value
