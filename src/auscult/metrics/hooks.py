"""Hooks: attach to a module or an optimizer without being able to change or to end what it does."""

import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from auscult.core.errors import SetupError

_OURS = globals()


def is_in_graph() -> bool:
    """Whether torch is making a graph of what runs, in which nothing of ours must appear."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


class ModuleHook:
    """A forward or forward-pre hook of one module.

    It returns None, so that nothing is replaced; it can be copied and pickled with the module, and is then silent.
    """

    def __init__(self, module: nn.Module, call: Callable[..., None]) -> None:
        self._module = ref(module)
        self._call = call

    def __call__(self, module: nn.Module, *args: Any) -> None:
        """Pass on what torch tells, if it comes from the module this hook was put on and is not being compiled."""
        if is_in_graph():
            return  # the graph stays as it would be without the hook
        if self._module() is module:
            self._call(*args)

    def __deepcopy__(self, memo: object) -> "SilentHook":
        return SilentHook()

    def __reduce__(self) -> tuple[type["SilentHook"], tuple[()]]:
        return SilentHook, ()


class SilentHook:
    """What a hook becomes on a copied or pickled module."""

    def __call__(self, *args: object) -> None:
        """Do nothing."""


class PausableHook:
    """A forward hook that costs nothing while it pauses; its key stays the same, so that it is one hook to torch.

    Args:
        module: The module.
        call: Called with the arguments and the output of each call of the module.
        always: Whether it is called as well where the forward pass is left by an exception, the output being None.
    """

    def __init__(self, module: nn.Module, call: Callable[..., None], always: bool = False) -> None:
        self._hook = ModuleHook(module, call)
        self._handle = module.register_forward_hook(self._hook, always_call=always)

    def pause(self) -> None:
        """Take it off the module until `resume`."""
        hooks = self._handle.hooks_dict_ref()
        if hooks is not None:
            hooks.pop(self._handle.id, None)

    def resume(self) -> None:
        """Put it back."""
        hooks = self._handle.hooks_dict_ref()
        if hooks is not None:
            hooks[self._handle.id] = self._hook

    def close(self) -> None:
        """Take it off the module for good."""
        self._handle.remove()


class BackwardHook:
    """Calls `began` whenever a backward pass has reached one of a few parameters, while it listens."""

    def __init__(self, parameters: Iterable[nn.Parameter], began: Callable[[], None]) -> None:
        self._began = began
        self._parameters = list(parameters)
        self._handles: list[RemovableHandle] = []
        self.listen(True)

    def listen(self, wanted: bool) -> None:
        """Begin or cease to listen."""
        if wanted and not self._handles:
            self._handles = [each.register_post_accumulate_grad_hook(self._on_gradient) for each in self._parameters]
        elif not wanted and self._handles:
            self.close()

    def close(self) -> None:
        """Take the hooks off the parameters."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _on_gradient(self, parameter: Tensor) -> None:
        self._began()


class OptimizerHooks:
    """Calls `before` and `after` around each update of one optimizer.

    Once per update, also when a subclass calls `super().step()` (torch then runs the hooks twice) or an earlier step
    was left by an exception. With a closure, `before` comes after its first evaluation, when the gradients exist.

    Attributes:
        reevaluating: Whether the optimizer is calling its closure again, within one update.

    Args:
        optimizer: The optimizer, or a wrapper that keeps it in `.optimizer`.
        before: Called with gradients in place and parameters not yet changed.
        after: Called with parameters changed.
    """

    def __init__(self, optimizer: Optimizer, before: Callable[[], None], after: Callable[[], None]) -> None:
        self._before = before
        self._after = after
        self._outermost: FrameType | None = None
        self.reevaluating = False
        inner = inner_optimizer(optimizer)
        self._handles: list[RemovableHandle] = [
            inner.register_step_pre_hook(_uncompiled(self._on_pre)),
            inner.register_step_post_hook(_uncompiled(self._on_post)),
        ]

    def close(self) -> None:
        """Take the hooks off the optimizer."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _on_pre(
        self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        caller = _caller()
        if self._outermost is not None and _is_below(caller, self._outermost):
            return None
        self._outermost = caller
        position = next((number for number, each in enumerate(args) if number and callable(each)), None)
        closure = args[position] if position is not None else kwargs.get("closure")
        if closure is None:
            self._before()
            return None
        wrapped = self._after_first_call(closure)
        if position is None:
            return args, {**kwargs, "closure": wrapped}
        return (*args[:position], wrapped, *args[position + 1 :]), kwargs

    def _on_post(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if _caller() is self._outermost:
            self._outermost = None
            self._after()

    def _after_first_call(self, closure: Callable[..., Any]) -> Callable[..., Any]:
        called = False

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal called
            self.reevaluating = called
            try:
                result = closure(*args, **kwargs)
            finally:
                self.reevaluating = False
            if not called:
                called = True
                self._before()
            return result

        return wrapped


def _uncompiled(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that a compiled update calls between its graphs, and not as a part of them."""
    disable: Any = torch.compiler.disable
    apart = disable(hook)

    def call(*args: Any) -> Any:
        return apart(*args) if torch.compiler.is_compiling() else hook(*args)

    return call


def _caller() -> FrameType:
    """The frame that called the hook: torch's wrapper around one call of `step`."""
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]  (the only way to a frame without a traceback)
    while frame.f_back is not None and (
        frame.f_globals is _OURS or frame.f_globals.get("__name__", "").startswith("torch._dynamo")
    ):
        frame = frame.f_back  # what keeps the compiler away from the hook
    return frame


def _is_below(frame: FrameType, ancestor: FrameType) -> bool:
    """Whether a frame was called, however indirectly, from another one that still runs."""
    current = frame.f_back
    while current is not None and current is not ancestor:
        current = current.f_back
    return current is ancestor


def inner_optimizer(optimizer: Optimizer) -> Optimizer:
    """The torch optimizer inside wrappers such as Accelerate's.

    Raises:
        SetupError: if there is none.
    """
    inner: Any = optimizer
    while not hasattr(inner, "_optimizer_step_pre_hooks"):
        inner = getattr(inner, "optimizer", None)
        if inner is None:
            raise SetupError(
                f"Expected `optimizer` to be a torch.optim.Optimizer or a wrapper with one in `.optimizer`, but got "
                f"{type(optimizer).__name__}. Write watch(model, optimizer, path) with the optimizer that calls step()."
            )
    return inner
