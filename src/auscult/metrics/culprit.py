"""Culprit: of the calls of a pass, the one in which finite numbers became non-finite."""

from collections.abc import Collection, Sequence

from auscult.metrics.calls import Call, Flaw


def forward_culprit(calls: Sequence[Call]) -> Call | None:
    """The first call whose output was not finite although its inputs were.

    An infinity that no later call has carried on (a mask, say) gives way to a later flaw that did not come of it.
    Negative infinities among the inputs count as a mask; among the outputs only where no operation is known to have
    made them.

    Args:
        calls: The calls in the order in which they began, the model first.

    Returns:
        The call; the model's own where the flaw was in its arguments; None where there is none.
    """
    model = calls[0]
    fresh = [model] if model.inputs > Flaw.MASKED else []
    for call in sorted((each for each in calls if each.finished >= 0), key=lambda each: each.finished):
        made = call.inputs <= Flaw.MASKED and call.output > call.inputs
        explained = any(call in each.ancestors() for each in fresh)
        if made and not explained and (call.output > Flaw.MASKED or call.operation is not None):
            fresh.append(call)
    if not fresh:
        return None
    first = fresh[0]
    for call in fresh[1:]:
        flaw = first.inputs if first is model else first.output
        if call.inputs == Flaw.NONE and call.output >= flaw and not _carried_on(calls, first, call):
            first = call
    return first


def _carried_on(calls: Sequence[Call], first: Call, until: Call) -> bool:
    """Whether a flaw had gone through a further call before another one arose."""
    begin = -1 if first is calls[0] else first.finished
    among = (each for each in calls if begin < each.finished < until.finished and each not in first.ancestors())
    return any(each.inputs and each.output for each in among)


def backward_culprit(calls: Sequence[Call], order: Sequence[Call], flawed: Collection[str]) -> Call | None:
    """The innermost call, first in backward order, that got a finite gradient and made a non-finite one of it.

    Args:
        calls: The calls in the order in which they began, the loss first.
        order: The calls in the order in which their gradients became non-finite.
        flawed: Parameters whose gradients were not finite and that one module alone holds.

    Returns:
        The call; None where none can be told apart.
    """
    called = {each.path for each in calls[1:]}
    spoilt = {each.path for each in calls[1:] if each.output_grad}  # some call of the module was given the flaw
    parents = {id(each.parent) for each in calls if each.output_grad and each.parent is not None}
    turning = [
        call
        for call in calls
        if call.output_grad == Flaw.NONE
        and (
            call.input_grad
            or id(call) in parents
            or (
                call is not calls[0]
                and call.path not in spoilt
                and any(holds(call, parameter, called) for parameter in flawed)
            )
        )
    ]
    around = {id(outer) for each in turning for outer in each.ancestors()}
    innermost = [call for call in turning if id(call) not in around]
    moments = {id(each): moment for moment, each in reversed(list(enumerate(order)))}
    for moment, each in reversed(list(enumerate(order))):
        if each.parent is not None and each.output_grad:
            moments[id(each.parent)] = min(moment, moments.get(id(each.parent), moment))
    begun = {id(call): -number for number, call in enumerate(calls)}
    return min(innermost, key=lambda each: (moments.get(id(each), len(order)), begun[id(each)]), default=None)


def holds(call: Call, path: str, called: Collection[str]) -> bool:
    """Whether a parameter or buffer belongs to the module of a call, or to one in it that is never called itself."""
    owner = path.rpartition(".")[0]
    inside = not call.path or owner.startswith(f"{call.path}.")
    return owner == call.path or (inside and owner not in called)
