"""Reexamination: a step in full detail although it is over, by making its last training pass again on copies."""

from collections.abc import Mapping, Sequence
from math import isclose, isfinite
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]  (all BatchNorms, and no other)

from auscult.core.run import Parameter
from auscult.metrics.activations import Activations
from auscult.metrics.calls import tensors
from auscult.metrics.examination import Examination, fan_ins_of
from auscult.metrics.marks import running_backward
from auscult.metrics.moment import Moment
from auscult.metrics.norms import as_real, norms
from auscult.metrics.parameters import clean_path
from auscult.metrics.replay import Around, CannotReplay, LossOf, check_batch, gradients_of, pass_on_copies

TOLERANCE = 1e-3
"""Relative difference between a gradient's norm in the run and that of the gradient made again, from which on the
latter is not believed: the sum of a backward pass may be taken in another order, but nothing else may differ."""
ROUNDING = 1e-6
"""Gradients this small beside the largest may be nothing but rounding, as at a bias before BatchNorm."""


def reexamine(
    model: nn.Module,
    step: int,
    parameters: Sequence[Parameter],
    moment: Moment,
    before: Mapping[str, Tensor],
    measured: Mapping[str, float],
    loss_of: LossOf | None,
    activations: bool,
) -> tuple[Examination, list[str]]:
    """Examine a step that is over; nothing of it is left behind in the run.

    Gradients are made again with the user's loss only, and only if the step had a single forward pass, as those of
    several would have to be added up; where one has another norm than was measured, they are left out.

    Args:
        model: The model.
        step: The step.
        parameters: The parameters that the ledger measures, in its order.
        moment: What the step's last training forward pass began with.
        before: All trainable parameters as they were before the update, by path.
        measured: Norms of the step's gradients as they were measured, unscaled and before clipping, by path; other
            gradients are left out, because what no update has used may be carried on from step to step.
        loss_of: Makes the loss; None calls the model alone.
        activations: Whether the outputs of modules are wanted.

    Returns:
        The examination, and why the pass may differ from the one in the run, as clauses.

    Raises:
        CannotReplay: if the pass cannot be made again.
    """
    if running_backward() != -1:
        raise CannotReplay("a backward pass is under way")
    doubts: list[str] = []
    if moment.calls > 1:
        doubts.append(f"the step had {moment.calls} forward passes, of which only the last was made again")
    elif loss_of is not None:
        tried: list[str] = []
        try:
            return _pass_again(model, step, parameters, moment, before, measured, loss_of, activations, tried), tried
        except Exception as error:
            doubts.append(_clause(error, "`replay`"))
    if not activations:
        raise CannotReplay("; ".join((*doubts, "activations were not asked for, and nothing else could be made again")))
    try:
        return _pass_again(model, step, parameters, moment, before, measured, None, True, doubts), doubts
    except Exception as error:
        raise CannotReplay(_clause(error, "the pass made again")) from error


def _pass_again(
    model: nn.Module,
    step: int,
    parameters: Sequence[Parameter],
    moment: Moment,
    before: Mapping[str, Tensor],
    measured: Mapping[str, float],
    loss_of: LossOf | None,
    activations: bool,
    doubts: list[str],
) -> Examination:
    failures: list[Exception] = []
    given: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given.extend(() if given else tensors((args, kwargs)))

    with pass_on_copies(model, moment, before, doubts) as (root, copies):
        seen = Activations(root, lambda part, error: failures.append(error)) if activations else None
        examination = Examination(step, parameters, () if seen is None else seen.paths, fan_ins_of(root))
        running = {} if seen is None else _running(root, seen.paths)
        if seen is not None:
            seen.arm(True, examination, False)
        root.register_forward_pre_hook(note, with_kwargs=True)
        output = torch.func.functional_call(Around(root, moment, loss_of), copies, ())
        for number, (mean, var) in running.items():
            examination.put_running(number, mean, var)
        if loss_of is not None:
            check_batch(given, moment)
            gradients = gradients_of([(output, torch.ones_like(output))], copies)
            _check_norms(gradients, measured)
            for position, each in enumerate(parameters):
                if each.path in gradients and each.path in measured:
                    examination.add("grad", position, as_real(gradients[each.path]))
    if failures:
        raise failures[0]
    return examination


def _running(root: nn.Module, paths: Sequence[str]) -> dict[int, tuple[Tensor, Tensor]]:
    """Running mean and variance after the pass in the run, by place of the module; copies are written to again."""
    modules = {clean_path(path): module for path, module in root.named_modules()}
    found = ((number, modules.get(path)) for number, path in enumerate(paths))
    return {
        number: (each.running_mean, each.running_var)
        for number, each in found
        if isinstance(each, _NormBase) and each.running_mean is not None and each.running_var is not None
    }


def _check_norms(gradients: Mapping[str, Tensor], measured: Mapping[str, float]) -> None:
    """What was made again must be the gradients of the run.

    Raises:
        CannotReplay: if they are not.
    """
    nothing = ROUNDING * max(filter(isfinite, measured.values()), default=0.0)
    for path in gradients.keys() & measured.keys():
        norm, told = float(norms([gradients[path]])[0]), measured[path]
        both = isfinite(norm) == isfinite(told)
        if not both or (isfinite(told) and not isclose(norm, told, rel_tol=TOLERANCE, abs_tol=nothing)):
            raise CannotReplay(f"`replay` gave {path} a gradient of norm {norm:.4g}, but in the run it was {told:.4g}")


def _clause(error: Exception, who: str) -> str:
    return str(error) if isinstance(error, CannotReplay) else f"{who} raised {type(error).__name__}: {error}"
