"""Origin: the search for the first non-finite number of a step, by making the step's last training pass again."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from auscult.core.origin import Kind, Origin
from auscult.metrics.calls import Call, Flaw, flaw, worst
from auscult.metrics.culprit import backward_culprit, forward_culprit, holds
from auscult.metrics.moment import Moment
from auscult.metrics.parameters import clean_path
from auscult.metrics.replay import CannotReplay, LossOf, Replay, bare, replay


@dataclass(frozen=True, slots=True)
class Symptoms:
    """What was seen of a step in which something was not finite.

    Attributes:
        step: The step.
        loss: The loss; None where it was not observed.
        gradients: Flaw of every gradient that was not finite, by path; None where gradients were not observed.
        overflowed: Parameters whose gradient is finite in every element although its norm is not.
        total_norm: Total norm of the gradients as clipping took it; None where it was not observed.
        updated: Whether the update has been made.
    """

    step: int
    loss: float | None
    gradients: Mapping[str, Flaw] | None
    overflowed: tuple[str, ...]
    total_norm: float | None
    updated: bool

    @property
    def loss_is_finite(self) -> bool | None:
        """None where the loss was not observed."""
        return None if self.loss is None else math.isfinite(self.loss)

    @property
    def kind(self) -> Kind | None:
        """The worst of the gradients, or of the loss."""
        found = max((self.gradients or {}).values(), default=Flaw.NONE)
        if not found and self.loss is not None and not math.isfinite(self.loss):
            found = Flaw.NAN if math.isnan(self.loss) else Flaw.INFINITE
        return _kind(found) if found else None


def search(
    model: nn.Module,
    symptoms: Symptoms,
    moment: Moment | str,
    before: Mapping[str, Tensor] | None,
    loss_of: LossOf | None,
) -> Origin:
    """Find where the first non-finite number of a step arose.

    Args:
        model: The model.
        symptoms: What was seen.
        moment: What the step's last training forward pass began with, or why it is not known, as a clause.
        before: The parameters before the update, by path; None where it has not been made.
        loss_of: The user's `replay`.

    Returns:
        The origin; where it cannot be told, its `reason` says why. What the model raises ends up there, too.
    """
    if symptoms.loss_is_finite is not False and symptoms.gradients is not None and not symptoms.gradients:
        found = _overflow(symptoms) or (_update(model, symptoms.step, before) if symptoms.updated else None)
        if found is not None:
            return found
    doubts: list[str] = []
    try:
        if isinstance(moment, str):
            raise CannotReplay(moment)
        again = _replayed(model, symptoms, moment, before, loss_of, doubts)
    except Exception as error:
        found = _without(model, symptoms, before, _clause(error))
        return replace(found, parameters=tuple(symptoms.gradients or ()))
    if moment.calls > 1 and again.loss is None:
        doubts.append(f"the step had {moment.calls} forward passes, of which only the last is kept")
    doubts += again.doubts
    found = _forward(symptoms, again, doubts) or _after_forward(symptoms, again, doubts)
    return replace(found, parameters=_in_forward_order(symptoms, again))


def _replayed(
    model: nn.Module,
    symptoms: Symptoms,
    moment: Moment,
    before: Mapping[str, Tensor] | None,
    loss_of: LossOf | None,
    doubts: list[str],
) -> Replay:
    """The pass with the user's loss if that works, else the model alone."""
    if loss_of is not None:
        try:
            return replay(model, moment, before, loss_of, backward=True)
        except Exception as error:
            doubts.append(_clause(error, "`replay`"))
    return replay(model, moment, before, None, backward=bool(symptoms.gradients))


def _clause(error: Exception, who: str = "the pass made again") -> str:
    return str(error) if isinstance(error, CannotReplay) else f"{who} raised {type(error).__name__}: {error}"


# -- what needs no replay ----------------------------------------------------------------------------------------------


def _overflow(symptoms: Symptoms) -> Origin | None:
    """The norm of finite gradients that is not finite."""
    total = symptoms.total_norm is not None and not math.isfinite(symptoms.total_norm)
    if not symptoms.overflowed and not total:
        return None
    path = symptoms.overflowed[0] if symptoms.overflowed else ""
    detail = "clipping by it makes every gradient 0" if total else ""
    return Origin(symptoms.step, "backward", "norm", path, kind="overflow", detail=detail)


def _update(model: nn.Module, step: int, before: Mapping[str, Tensor] | None) -> Origin | None:
    """The first parameter that the update made non-finite, or that had been so before it."""
    root = bare(model)
    bad = [(clean_path(name), each) for name, each in root.named_parameters() if flaw(each)]
    if not bad:
        return None
    known = before or {}
    since = [(path, each) for path, each in bad if path not in known or not flaw(known[path])]
    if not since:
        path, tensor = bad[0]
        return _parameter(step, path, _owner_type(root, path), tensor, "every gradient and the loss were finite")
    path, tensor = since[0]
    found, dtype = worst(tensor)
    others = f" and parts of {len(since) - 1} more parameters" if len(since) > 1 else ""
    unless = "" if path in known else ", unless it was changed by hand since the update before"
    detail = f"{_extent(tensor)}{others}; every gradient was finite{unless}"
    return Origin(step, "update", "update", path, _owner_type(root, path), _kind(found), dtype, detail=detail)


def _without(model: nn.Module, symptoms: Symptoms, before: Mapping[str, Tensor] | None, why: str) -> Origin:
    """What can be said when no pass can be made again."""
    root = bare(model)
    live = {clean_path(name): each for name, each in root.named_parameters()}
    known = live if before is None else {path: before[path] for path in live if path in before}
    bad = next((path for path, each in known.items() if flaw(each)), None)
    if bad is not None:
        return _parameter(symptoms.step, bad, _owner_type(root, bad), known[bad], f"not seen to act, because {why}")
    if symptoms.gradients and symptoms.loss_is_finite:
        return Origin(symptoms.step, "backward", "gradient", kind=symptoms.kind, reason=why)
    return Origin(symptoms.step, kind=symptoms.kind, reason=why)


def _parameter(step: int, path: str, module_type: str, tensor: Tensor, more: str = "") -> Origin:
    """A parameter or buffer that was non-finite before the step."""
    found, dtype = worst(tensor)
    subject = "parameter" if isinstance(tensor, nn.Parameter) else "buffer"
    detail = f"{_extent(tensor)}; {more}" if more else _extent(tensor)
    return Origin(step, "forward", subject, path, module_type, _kind(found), dtype, detail=detail)


def _extent(tensor: Tensor) -> str:
    bad = ~torch.isfinite(tensor.detach())
    extent = f"{int(bad.sum())} of its {tensor.numel()} elements"
    if tensor.ndim < 2:
        return extent
    rows = bad.flatten(1).any(1).nonzero().flatten().tolist()
    return f"{extent}, in row {rows[0]}" if len(rows) == 1 else f"{extent}, in {len(rows)} rows from {rows[0]} on"


def _owner_type(root: nn.Module, path: str) -> str:
    names = {clean_path(name): type(module).__name__ for name, module in root.named_modules()}
    return names.get(path.rpartition(".")[0], "")


# -- the forward pass --------------------------------------------------------------------------------------------------


def _forward(symptoms: Symptoms, again: Replay, doubts: list[str]) -> Origin | None:
    """What made the output of the model non-finite; None if that is finite."""
    calls = again.trace.calls[1:]
    model, culprit = calls[0], forward_culprit(calls)
    if again.loss:
        if symptoms.loss_is_finite:
            doubts.append("the loss was not finite when it was made again, although it was in the run")
            return Origin(symptoms.step, kind=symptoms.kind, reason="; ".join(doubts))
        found = _followed(symptoms.step, again.trace.calls[0], again, doubts)
        if found is not None:
            return found
    if again.loss is None and model.output == Flaw.MASKED and symptoms.loss is not None and math.isnan(symptoms.loss):
        reason = "the output of the model holds negative infinities, which may be a mask"
        return Origin(symptoms.step, kind=symptoms.kind, reason=reason)
    if model.output == Flaw.NONE or (model.output == Flaw.MASKED and culprit is None):
        if culprit is not None and symptoms.loss_is_finite is False and again.loss is None:
            what = "an argument of the model" if culprit is model else f"the output of {culprit.path}"
            return Origin(
                symptoms.step, kind=symptoms.kind, reason=f"{what} was not finite, but the model's output was"
            )
        return None
    return _spread(symptoms.step, again, doubts)


def _spread(step: int, again: Replay, doubts: list[str]) -> Origin:
    """What made the non-finite number that spread through the forward pass."""
    calls = again.trace.calls[1:]
    model, culprit = calls[0], forward_culprit(calls)
    found = _followed(step, model, again, doubts)
    if found is not None:
        return found
    if culprit is None:
        reason = "what was not finite in the forward pass could not be followed back to one module"
        return Origin(step, "forward", "output", kind=_kind(model.output), reason=reason)
    caveat = _caveat(doubts)
    if culprit is model and model.inputs > Flaw.MASKED:
        return _argument(step, model, caveat)
    return _module(step, culprit, again, caveat)


def _followed(step: int, end: Call, again: Replay, doubts: list[str]) -> Origin | None:
    """Where the flaw of what a call returned came from, if operations alone carried it."""
    source = end.source
    if source is None:
        return None
    loss, model = again.trace.calls[:2]
    caveat, call, made, met = _caveat(doubts), source.call, source.operation, source.met
    owner = "" if call is loss else type(call.module).__name__
    if met is None:
        phase, subject = ("loss", "loss") if call is loss else ("forward", "output")
        kind = _kind(made.flaw)
        return Origin(step, phase, subject, call.path, owner, kind, made.dtype, made.name, made.line, detail=caveat)
    if any(met is each for each in model.arguments):
        return _argument(step, model, caveat)
    for path, bad in again.flawed.values():
        if met is bad:
            return _parameter(step, path, _owner_type(model.module, path), bad, caveat)
    if met.grad_fn is not None or call.path in again.kept:  # made in this pass by what announces no operation, or kept
        return None
    used = f"by {made.name}{f' at {made.line}' if made.line else ''}"
    found, dtype = worst(met)
    if call is loss:
        return Origin(step, "data", "target", "", "", _kind(found), dtype, detail=f"{_extent(met)}; first used {used}")
    where = f"in {call.path or owner} a non-finite tensor that is neither argument nor parameter was used {used}"
    return Origin(step, kind=_kind(found), reason=where)


def _caveat(doubts: list[str]) -> str:
    return next((each for each in doubts if each.startswith("hooks on")), "")


def _argument(step: int, model: Call, caveat: str) -> Origin:
    found, dtype = worst(model.arguments)
    number, tensor = next((number, each) for number, each in enumerate(model.arguments) if flaw(each) == found)
    many = f"tensor {number} of {len(model.arguments)}: " if len(model.arguments) > 1 else ""
    detail = "; ".join(filter(None, (f"{many}{_extent(tensor)}", caveat)))
    return Origin(step, "data", "argument", "", type(model.module).__name__, _kind(found), dtype, detail=detail)


def _module(step: int, call: Call, again: Replay, caveat: str) -> Origin:
    """The module of a call, or a parameter or buffer in it that was non-finite before."""
    called, owner = {each.path for each in again.trace.calls[1:]}, type(call.module).__name__
    for path, (first_path, bad) in again.flawed.items():
        if holds(call, path, called):
            return _parameter(step, first_path, owner, bad, caveat)
    if call.path in again.kept:
        reason = (
            f"{call.path or owner} keeps a non-finite tensor in `{again.kept[call.path]}`, maybe of an earlier pass"
        )
        return Origin(step, "forward", "output", kind=_kind(call.output), reason=reason)
    made = call.operation
    name, line, kind = (made.name, made.line, _kind(made.flaw)) if made else ("", "", _kind(call.output))
    return Origin(step, "forward", "output", call.path, owner, kind, call.dtype, name, line, detail=caveat)


# -- the loss and the backward pass ------------------------------------------------------------------------------------


def _after_forward(symptoms: Symptoms, again: Replay, doubts: list[str]) -> Origin:
    """Where it arose, if the output of the model was finite."""
    step, kind = symptoms.step, symptoms.kind
    if symptoms.loss is not None and symptoms.loss_is_finite is False:
        kind = "nan" if math.isnan(symptoms.loss) else "inf"
    if again.loss:
        return Origin(step, "loss", "loss", "", "", _kind(again.loss), again.dtype)
    if symptoms.loss_is_finite is False:
        if again.loss is not None:
            doubts.append("the loss was finite when it was made again")
        if doubts:
            return Origin(step, kind=kind, reason="; ".join(doubts))
        reason = "the output of the model was finite when it was made again, and watch(..., replay=...) was not given"
        return Origin(step, "loss", "loss", kind=kind, reason=reason)
    if not symptoms.gradients:
        return Origin(step, kind=kind, reason="; ".join((*doubts, "it was not seen again in the forward pass")))
    found = _backward(step, symptoms.gradients, again, doubts)
    if found is not None:
        return found
    finite_loss = symptoms.loss_is_finite or again.loss is not None
    doubts.append("a backward pass that was made again did not show it")
    if not finite_loss:
        doubts.append("whether the loss was finite was not observed")
        return Origin(step, kind=kind, reason="; ".join(doubts))
    return Origin(step, "backward", "gradient", kind=kind, reason="; ".join(doubts))


def _backward(step: int, seen: Mapping[str, Flaw], again: Replay, doubts: list[str]) -> Origin | None:
    """The module that turned a finite gradient into a non-finite one, if the same gradients show it again."""
    if again.gradients is None:
        return None
    if again.loss is None and again.ends > 1:
        doubts.append(f"the model returned {again.ends} tensors, and which of them the loss used is not known")
        return None
    bad = {path for path, each in again.gradients.items() if each}
    spread = again.gradients.keys() <= seen.keys()  # every gradient: clipping by a NaN leaves them so
    if not bad or not bad <= seen.keys() or (again.loss is None and not spread and bad != set(seen)):
        return None
    calls = again.trace.calls
    culprit = backward_culprit(calls, again.trace.order, bad - again.shared)
    if culprit is None:
        return None
    if culprit is not calls[0] and (culprit.inputs > Flaw.MASKED or culprit.output):
        return _spread(step, again, doubts)
    given = next((each for each in again.trace.order if each is culprit or each.parent is culprit), culprit)
    called = {each.path for each in calls[1:]}
    own = [again.gradients[path] for path in bad if culprit is not calls[0] and holds(culprit, path, called)]
    kind = _kind(given.grad_flaw or max(own, default=Flaw.NAN))
    dtype = given.grad_dtype
    if culprit is calls[0]:
        return Origin(step, "backward", "gradient", "", "", kind, dtype, detail="it came out of the loss like this")
    detail = "" if again.loss is not None else "found with a gradient of our own at the output"
    owner = type(culprit.module).__name__
    return Origin(step, "backward", "gradient", culprit.path, owner, kind, dtype, detail=detail)


def _in_forward_order(symptoms: Symptoms, again: Replay) -> tuple[str, ...]:
    """The parameters with non-finite gradients in the order in which the forward pass first calls their modules."""
    place = {each.path: number for number, each in reversed(list(enumerate(again.trace.calls[1:])))}
    return tuple(sorted(symptoms.gradients or (), key=lambda path: place.get(path.rpartition(".")[0], len(place))))


def _kind(found: Flaw) -> Kind:
    return "nan" if found == Flaw.NAN else "inf"
