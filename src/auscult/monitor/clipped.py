"""Clipped: what clipping by a norm did to all gradients of a step, in the step's draft."""

from auscult.core.sink import Channel
from auscult.metrics.clipping import Clip
from auscult.metrics.ledger import Ledger
from auscult.monitor.draft import Draft

RATIO, COEFFICIENT = Channel("clip_ratio", ""), Channel("clip_coefficient", "")


def note(draft: Draft, clip: Clip, ledger: Ledger, sharded: bool) -> bool:
    """Take down one call that clips.

    Args:
        draft: The step.
        clip: The call.
        ledger: Knows all gradients.
        sharded: Whether the total norm may be a DTensor, which only all ranks together can tell.

    Returns:
        Whether one factor tells by now what clipping did to every gradient.
    """
    if clip.total is None or not ledger.cover(clip.parameters()):
        return False
    if sharded:
        draft.clip_bound = float(clip.bound) if clip.order == 2 else None
        return False
    if clip.coefficient is None:
        return False
    draft.steps[RATIO] = clip.total.detach() / clip.bound
    draft.steps[COEFFICIENT] = draft.steps.get(COEFFICIENT, 1.0) * clip.coefficient
    return True


def settle(draft: Draft, one_factor: bool) -> None:
    """The step is over: where nothing was clipped the factor is 1; where one does not tell, it is not observed."""
    if one_factor:
        draft.steps.setdefault(COEFFICIENT, 1.0)
    else:
        draft.steps.pop(COEFFICIENT, None)


def forget(draft: Draft) -> None:
    """No update has followed the clipping, and the gradients are made anew."""
    draft.clip_bound = None
    draft.steps.pop(RATIO, None)
    draft.steps.pop(COEFFICIENT, None)
