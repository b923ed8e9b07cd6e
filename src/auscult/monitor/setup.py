"""Setup: what `watch` is given, refused before the first step where it cannot work."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from auscult.core.errors import SetupError
from auscult.core.finding import SEVERITIES, Finding, Severity
from auscult.core.sink import Sink
from auscult.metrics.schedule import Schedule
from auscult.monitor.arguments import last_step, optimizers_by_name, step_number
from auscult.monitor.monitor import Monitor
from auscult.monitor.silent import SilentMonitor
from auscult.rules.ignoring import checked_patterns
from auscult.rules.registry import RULES
from auscult.store.writer import IfExists


def watch(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | Mapping[str, Optimizer],
    path: str | os.PathLike[str],
    *,
    if_exists: IfExists = "new",
    step: int | None = None,
    steps: int | None = None,
    config: object = None,
    loss_fn: nn.Module | None = None,
    every: int | tuple[int, int] | None = None,
    budget: float = 0.02,
    activations: bool = True,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    sinks: Sequence[Sink] = (),
    on_finding: Callable[[Finding], object] | None = None,
    stop_on: Severity | None = None,
    ignore: Sequence[str] = (),
    replay: Callable[[nn.Module], Tensor] | None = None,
    snapshot: bool = True,
) -> "Monitor | SilentMonitor":
    """Watch a model train.

    A plain call is enough: it closes itself at exit. As a context manager it closes with the block, and says so in the
    run when the block is left by an exception. With `AUSCULT=off` in the environment it does nothing at all.

    Args:
        model: The model, or its DistributedDataParallel or compiled wrapper. Call `watch` after wrapping.
        optimizer: The optimizer, or several of them as a sequence or by name.
        path: Directory of the run.
        if_exists: `"new"` takes the next free name (`runs/mnist-2`), `"resume"` continues the run there (or begins it),
            `"error"` refuses.
        step: Number of the next update; None continues after the last recorded one, or begins at 0.
        steps: How many updates the whole training will make, where it is known; the last is examined in full detail.
        config: The hyperparameters to keep with the run: a mapping, a dataclass or an argparse namespace.
        loss_fn: The loss module, where the first loss call cannot be seen otherwise (inside `torch.compile`).
        every: Take norms at every k-th step and samples (moments, activations) at every 16 k-th, or `(norms, samples)`
            apart; powers of two. None keeps the budget.
        budget: Share of the step time that measuring may take, measured as it goes.
        activations: Whether activations are measured.
        include: Patterns (`encoder.*`) of parameters to measure; None measures all.
        exclude: Patterns of parameters to leave out.
        sinks: Where else rows and findings go.
        on_finding: Called with every finding that is new or changed.
        stop_on: Severity from which on a finding raises `StopTraining`; None never does.
        ignore: Patterns of findings that are not to be told, kept with the run until it is resumed: a rule's code or
            name, and after a colon a path, all with wildcards: `U002`, `U002:head.*`, `dead-units:encoder.*`.
        replay: Makes the loss of the step in progress again, given the model: `lambda model: loss_fn(model(inputs),
            targets)` inside the loop's scope. Called only after something was found, on copies, to find where a number
            became non-finite and to examine the step; without it, only the model itself is called again.
        snapshot: Whether one copy of the parameters may be kept, to measure the update that was really made. Without
            it `intended_update_norm` takes the place of `update_norm`: what SGD, Adam or AdamW meant to do by their own
            formulas; rules about updates stay silent, a NaN is not traced back, and no step is looked back at.

    Returns:
        The monitor.

    Raises:
        SetupError: if the call cannot work as written.
        StoreError: if the run to resume cannot be read.
    """
    if os.environ.get("AUSCULT", "").lower() in ("off", "0", "false"):
        return SilentMonitor(model, path, step or 0)
    if isinstance(model, torch.jit.ScriptModule):
        raise SetupError(
            "Expected `model` to be a module in Python, but got a scripted one, which takes no hooks. "
            "Train and watch the module it was made of, and script it afterwards: torch.jit.script(model)."
        )
    if loss_fn is not None and not hasattr(loss_fn, "register_forward_pre_hook"):
        raise SetupError(
            f"Expected `loss_fn` to be a module such as nn.CrossEntropyLoss(), but got {type(loss_fn).__name__}. "
            "A function needs no naming: its first call is seen, unless it is compiled."
        )
    if if_exists not in get_args(IfExists):
        known = ", ".join(get_args(IfExists))
        raise SetupError(f"Expected `if_exists` to be one of {known}, but got {if_exists!r}.")
    if stop_on is not None and stop_on not in SEVERITIES:
        raise SetupError(f"Expected `stop_on` to be one of {', '.join(SEVERITIES)} or None, but got {stop_on!r}.")
    return Monitor(
        model,
        optimizers_by_name(optimizer),
        path,
        if_exists=if_exists,
        step=step_number(step) if step is not None else None,
        config=config,
        loss_fn=loss_fn,
        schedule=Schedule(every, budget, last_step(steps)),
        activations=activations,
        include=include,
        exclude=exclude,
        sinks=sinks,
        on_finding=on_finding,
        stop_on=stop_on,
        ignore=checked_patterns(ignore, RULES),
        replay=replay,
        snapshot=snapshot,
    )
