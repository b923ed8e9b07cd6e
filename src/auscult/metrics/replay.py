"""Replay: a training pass made again on copies, with nothing of it left behind in the user's run."""

import random
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from auscult.metrics.attributes import Attributes, CannotPutBack
from auscult.metrics.calls import CallTrace, Flaw, flaw, tensors, worst
from auscult.metrics.moment import BATCH_NORMS, Moment, version
from auscult.metrics.norms import measurable
from auscult.metrics.parameters import clean_path, unwrap

LossOf = Callable[[nn.Module], Tensor]
"""Makes the loss of the batch in progress, given the model."""

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


class CannotReplay(Exception):  # noqa: N818  (what it is)
    """A pass that cannot be made again; the message is a clause that says why."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a pass gave when it was made again.

    Attributes:
        trace: Its calls; the first is the loss, the second the model.
        loss: Flaw of the loss; None where only the model was called.
        dtype: Dtype of the loss.
        gradients: Flaw of every parameter's gradient by path, those without one left out; None where no backward pass
            was made.
        flawed: Parameters and buffers that were not finite when the pass began, by path, with their first path; tied
            ones under each of theirs.
        kept: The first plain attribute of a module that held a non-finite tensor before, by the module's path.
        shared: Parameters that more than one module holds.
        ends: How many tensors the backward pass began at.
        doubts: Why it may differ from the pass in the run, as clauses.
    """

    trace: CallTrace
    loss: Flaw | None
    dtype: str
    gradients: Mapping[str, Flaw] | None
    flawed: Mapping[str, tuple[str, Tensor]]
    kept: Mapping[str, str]
    shared: frozenset[str]
    ends: int
    doubts: tuple[str, ...]


class Around(nn.Module):
    """What a pass consists of: the model and the code that calls it, which is the user's loss where there is one."""

    def __init__(self, model: nn.Module, moment: Moment, loss_of: LossOf | None) -> None:
        super().__init__()
        self.model = model
        self._moment = moment
        self._loss_of = loss_of

    def forward(self) -> Any:
        """The loss, or what the model returns."""
        if self._loss_of is not None:
            return self._loss_of(self.model)
        return self.model(*self._moment.args, **self._moment.kwargs)


def replay(
    model: nn.Module, moment: Moment, before: Mapping[str, Tensor] | None, loss_of: LossOf | None, backward: bool
) -> Replay:
    """Make a training pass again, on copies of parameters and buffers, with random states as they were.

    Hooks, random states, plain attributes of the modules and gradients are the same afterwards. The backward pass
    begins at the loss or, without `loss_of`, at the output of the model with a finite gradient of our own.

    Args:
        model: The model.
        moment: What its forward pass began with.
        before: The parameters as they were then, by path; None where they have not changed since.
        loss_of: Makes the loss; None calls the model alone.
        backward: Whether to make the backward pass, if the forward pass is finite.

    Raises:
        CannotReplay: if the state that it needs is not there.
        Exception: whatever the model raises.
    """
    doubts: list[str] = []
    with pass_on_copies(model, moment, before, doubts) as (root, copies):
        flawed, shared = _flawed(root, copies)
        kept = {clean_path(path): name for path, module in root.named_modules() if (name := _flawed_attribute(module))}
        around, trace = Around(root, moment, loss_of), CallTrace()
        trace.follow("", around)
        for path, module in root.named_modules():
            trace.follow(clean_path(path), module)
        with trace:
            output = torch.func.functional_call(around, copies, ())
        trace.end_forward()
        loss, dtype = worst(output) if loss_of is not None else (None, "")
        if loss_of is not None:
            check_batch(trace.calls[1].arguments if len(trace.calls) > 1 else (), moment)
        gradients, ends = None, list[tuple[Tensor, Tensor]]()
        if backward and not loss and trace.calls[1].output <= Flaw.MASKED:
            ends = list(_ends(output, loss_of))
            gradients = {path: flaw(each) for path, each in gradients_of(ends, copies).items()}
    return Replay(trace, loss, dtype, gradients, flawed, kept, shared, len(ends), tuple(doubts))


def bare(model: nn.Module) -> nn.Module:
    """The user's module inside wrappers for several processes and for compilation."""
    inner = unwrap(model)
    compiled: Any = getattr(inner, "_orig_mod", None)
    return compiled if isinstance(compiled, nn.Module) else inner


def _parameters(root: nn.Module, before: Mapping[str, Tensor] | None, doubts: list[str]) -> dict[str, Tensor]:
    copies: dict[str, Tensor] = {}
    changed: list[str] = []
    for name, live in root.named_parameters():
        kept = None if before is None else before.get(clean_path(name))
        if not measurable(live):
            raise CannotReplay("parameters are split over several processes")
        if kept is None and before is not None and live.requires_grad:
            changed.append(clean_path(name))
            if flaw(live):
                raise CannotReplay(f"{changed[-1]} was not kept as it was before the update")
        value = live if kept is None or kept.shape != live.shape else kept.to(live.device, live.dtype)
        copies[f"model.{name}"] = nn.Parameter(value.detach().clone(), requires_grad=live.requires_grad)
    if changed:
        doubts.append(f"{len(changed)} parameters, {changed[0]} first, were not kept as they were before the update")
    return copies


def _buffers(root: nn.Module, moment: Moment, doubts: list[str]) -> dict[str, Tensor]:
    copies: dict[str, Tensor] = {}
    for name, live in root.named_buffers():
        kept, count = moment.buffers.get(name, (live, version(live)))
        if version(kept) != count:
            doubts.append(f"buffer {clean_path(name)} was written to during the forward pass")
        copies[f"model.{name}"] = kept.detach().clone()
    return copies


def _flawed(root: nn.Module, copies: Mapping[str, Tensor]) -> tuple[dict[str, tuple[str, Tensor]], frozenset[str]]:
    """Copies with flaws under each of their paths, and the paths of parameters that more than one module holds."""
    names = {id(live): f"model.{name}" for name, live in (*root.named_parameters(), *root.named_buffers())}
    flawed: dict[str, tuple[str, Tensor]] = {}
    paths: dict[str, int] = {}
    for path, module in root.named_modules():
        written = isinstance(module, BATCH_NORMS) and module.training  # running statistics, written and not read
        held = [*module.named_parameters(recurse=False, remove_duplicate=False)]
        held += [] if written else [*module.named_buffers(recurse=False, remove_duplicate=False)]
        for name, live in held:
            copy = copies[names[id(live)]]
            own = clean_path(f"{path}.{name}" if path else name)
            paths[names[id(live)]] = paths.get(names[id(live)], 0) + 1
            if flaw(copy) > (Flaw.NONE if isinstance(copy, nn.Parameter) else Flaw.MASKED):
                flawed[own] = (clean_path(names[id(live)].removeprefix("model.")), copy)
    return flawed, frozenset(clean_path(name.removeprefix("model.")) for name, count in paths.items() if count > 1)


def _flawed_attribute(module: nn.Module) -> str | None:
    """Name of a plain attribute that holds a non-finite tensor (not a mask)."""
    own = ((name, value) for name, value in vars(module).items() if not isinstance(value, (OrderedDict, nn.Parameter)))
    plain = ((name, value) for name, value in own if name not in ("_parameters", "_buffers", "_modules"))
    return next((name for name, value in plain if flaw(value) > Flaw.MASKED), None)


def _take_hooks_off(root: nn.Module) -> list[str]:
    """Leave only torch's own hooks, which are part of the computation (weight norm, pruning); returns who had others.

    The hooks come back with the other plain attributes.
    """
    skipped: list[str] = []
    for path, module in root.named_modules():
        own = vars(module)
        if own.get("_compiled_call_impl") is not None:
            own["_compiled_call_impl"] = None
        for name in _HOOKS:
            hooks: Mapping[int, Any] = own[name]
            kept = {key: hook for key, hook in hooks.items() if _maker(hook).startswith("torch.nn.utils")}
            if any(not _maker(hook).startswith(("torch.nn.utils", "auscult.")) for hook in hooks.values()):
                skipped.append(clean_path(path) or type(module).__name__)
            own[name] = OrderedDict(kept)
        for name in ("_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"):
            own[name] = OrderedDict(own[name])
    return list(dict.fromkeys(skipped))


def _maker(hook: Any) -> str:
    return str(getattr(hook if hasattr(hook, "__qualname__") else type(hook), "__module__", ""))


def check_batch(given: Sequence[Tensor], moment: Moment) -> None:
    """The replay the user gave must have called the model as the run did.

    Args:
        given: The tensors among the arguments of its first call.
        moment: What the pass of the run began with.

    Raises:
        CannotReplay: if it has not.
    """
    if len(given) != len(moment.written) or any(
        each.shape != kept.shape or not torch.equal(each.nan_to_num(), kept.to(each).nan_to_num())
        for each, (kept, _) in zip(given, moment.written, strict=True)
    ):
        raise CannotReplay("`replay` called the model with another batch")


def _ends(output: object, loss_of: LossOf | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Where the backward pass begins, each with the gradient it begins with."""
    for each in tensors(output):
        if each.requires_grad and (each.is_floating_point() or each.is_complex()):
            if loss_of is not None:
                yield each, torch.ones_like(each)
            else:
                waves = torch.arange(each.numel(), device=each.device, dtype=torch.float32).add(1).cos()
                yield each, waves.div(max(each.numel(), 1)).reshape(each.shape).to(each.dtype)


def gradients_of(ends: Sequence[tuple[Tensor, Tensor]], copies: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of the trainable copies by path, those that got none left out.

    Args:
        ends: Where the backward pass begins, each with the gradient it begins with.
        copies: The copies as `pass_on_copies` made them.
    """
    named = {clean_path(name.removeprefix("model.")): each for name, each in copies.items()}
    wanted = {path: each for path, each in named.items() if each.requires_grad}
    if not ends:
        return {}
    outputs, cotangents = zip(*ends, strict=True)
    found = torch.autograd.grad(outputs, list(wanted.values()), cotangents, allow_unused=True)
    return {path: each for path, each in zip(wanted, cast("tuple[Tensor | None]", found)) if each is not None}


@contextmanager
def pass_on_copies(
    model: nn.Module, moment: Moment, before: Mapping[str, Tensor] | None, doubts: list[str]
) -> Generator[tuple[nn.Module, dict[str, Tensor]]]:
    """Inside, everything is as it was when a training pass began; afterwards it is as it was before.

    Args:
        model: The model.
        moment: What the pass began with.
        before: The parameters as they were then, by path; None where they have not changed since.
        doubts: Takes clauses that say why the pass may differ from the one in the run.

    Yields:
        The user's module without hooks, and copies of its parameters and buffers by their names in `Around`.

    Raises:
        CannotReplay: if the state that it needs is not there.
    """
    root = bare(model)
    if moment.overwritten():
        raise CannotReplay("the batch was written to in place after the forward pass began")
    if not root.training:
        raise CannotReplay("the model was not in training mode any more")
    if any(isinstance(each, torch.jit.ScriptModule) for each in root.modules()):
        raise CannotReplay("a part of the model is scripted, which cannot be followed")
    copies = {**_parameters(root, before, doubts), **_buffers(root, moment, doubts)}
    with _nothing_left_behind(root, moment, doubts):
        skipped = _take_hooks_off(root)
        if skipped:
            doubts.append(f"hooks on {', '.join(skipped[:3])} were not called")
        yield root, copies


@contextmanager
def _nothing_left_behind(root: nn.Module, moment: Moment, doubts: list[str]) -> Generator[None]:
    """Inside, the random states, autocast and grad mode of a moment; afterwards everything is as it was."""
    try:
        attributes = Attributes(root)
    except CannotPutBack as error:
        raise CannotReplay(str(error)) from error
    device = next((each.device for each in root.parameters()), torch.device("cpu"))
    cuda = device.type == "cuda"
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  (the user's, to be put back)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([device] if cuda else []))
        stack.callback(attributes.put_back)
        stack.callback(random.setstate, python)
        stack.callback(np.random.set_state, numpy)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(torch.autograd.set_detect_anomaly(False))
        if any(type(each).__name__ == "OptimizedModule" for each in root.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
            doubts.append("compiled parts were run without compilation")
        for kind, dtype in moment.autocast.items():
            if dtype is not None or torch.amp.is_autocast_available(kind):
                stack.enter_context(torch.autocast(kind, dtype, enabled=dtype is not None))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            stack.enter_context(_Alone())
        for held, name, value in moment.settings:
            held[name] = value
        torch.set_rng_state(moment.rng)
        if cuda and moment.device_rng is not None:
            torch.cuda.set_rng_state(moment.device_rng, device)
        yield
        if random.getstate() != python or not _same_state(np.random.get_state(), numpy):  # noqa: NPY002
            doubts.append("the pass draws from `random` or `numpy.random`, whose states are not kept")


def _same_state(one: Any, other: Any) -> bool:
    return one[2:] == other[2:] and bool((one[1] == other[1]).all())


class _Alone(TorchDispatchMode):
    """Refuses to talk to other processes, because they are not replaying and would be waited for without end."""

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func.namespace in ("c10d", "_c10d_functional", "c10d_functional"):
            raise CannotReplay("the pass communicates with other processes")
        return func(*args, **dict(kwargs or {}))
