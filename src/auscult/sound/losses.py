"""Losses: which of what a run logged is the loss that is heard, whatever its user called it."""

from collections.abc import Callable

from auscult.core.metric import Stream
from auscult.core.naming import mentions_loss, names_evaluation, names_loss
from auscult.core.run import Run
from auscult.core.sink import Channel

STREAMS: tuple[Stream, ...] = ("user", "evaluation")
CATEGORIES = ("category_loss", "category_loss_per_token")

Test = Callable[[Channel], bool]
CHOICES: tuple[Test, ...] = (
    lambda each: not each.path and each.metric == "loss",
    lambda each: not each.path and names_loss(each.metric),
    lambda each: each.metric == CATEGORIES[0],
    lambda each: each.metric == CATEGORIES[1],
    lambda each: not each.path and mentions_loss(each.metric) and not names_evaluation(each.metric),
    lambda each: not each.path and mentions_loss(each.metric),
)
"""From what is surely the training loss to what has at least the word in its name; the first that fits is taken."""


def find_losses(run: Run) -> tuple[Stream | None, dict[str, tuple[Channel, int]]]:
    """The loss of a run, and where it is kept.

    The training loss; without one that is named so the losses by category, then the parts of a loss (`g_loss`), then
    losses on other data (`val/loss`).

    Returns:
        The stream, None if no loss was logged; what each is called in words to its channel and its position there.
        One for a plain loss, several for categories or parts.
    """
    for number, fits in enumerate(CHOICES):
        for stream in STREAMS:
            if stream in run.streams:
                channels = enumerate(run.source.channels(stream))
                found = [(channel, position) for position, channel in channels if fits(channel)]
                if found:
                    return stream, {each[0].path or each[0].metric: each for each in found[: 1 if number < 2 else None]}
    return None, {}
