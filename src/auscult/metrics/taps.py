"""FunctionTap: hears some functions of torch while they are called, and changes nothing."""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

import torch
from torch.overrides import TorchFunctionMode


class FunctionTap(TorchFunctionMode):
    """Calls `hear` after each call of some functions between `begin` and `end`.

    It is put on the stack of torch function modes only where that holds no others than taps, so that it never comes
    between a mode of the user's and its exit; where that is not so, nothing is heard. Calls inside a graph that is
    compiled are not heard either.

    Attributes:
        autograd_alone: Whether calls without autograd are not heard.
        wanted: Whether it listens.
        active: Whether it is on the stack.

    Args:
        heard: The functions.
    """

    autograd_alone: ClassVar[bool] = True

    def __init__(self, heard: Collection[Callable[..., Any]]) -> None:
        super().__init__()
        self.wanted = False
        self.active = False
        self._heard = frozenset(heard)

    def begin(self) -> None:
        """Start to listen."""
        self.wanted = True
        if not self.active and all(isinstance(each, FunctionTap) for each in _stack()):
            self.__enter__()
            self.active = True

    def end(self) -> None:
        """Stop listening; what another mode lies upon stays on the stack until that has gone."""
        self.wanted = False
        while (stack := _stack()) and isinstance(top := stack[-1], FunctionTap) and not top.wanted:
            top.__exit__(None, None, None)
            top.active = False

    def hear(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], result: object
    ) -> None:
        """A function was called; what this raises goes nowhere."""
        raise NotImplementedError

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        result = func(*args, **given)
        listens = self.wanted and func in self._heard and (torch.is_grad_enabled() or not self.autograd_alone)
        if listens and not torch.compiler.is_compiling():
            with suppress(Exception):  # it is no failure of the user's
                self.hear(func, args, given, result)
        return result


def _stack() -> list[object]:
    """The torch function modes now in force; `[None]` where this torch does not tell."""
    current = getattr(torch.overrides, "_get_current_function_mode_stack", None)
    return [None] if current is None else list(current())
