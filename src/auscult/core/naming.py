"""Naming: what a name that users give their numbers is of: the training loss, a part of it, an evaluation."""

import re
from collections.abc import Iterable

EVALUATIONS = frozenset({"val", "valid", "validation", "test", "eval", "evaluation", "dev"})
LOSSES = frozenset({"loss", "train_loss", "training_loss"})
ROLES = frozenset({"loss", "train", "training", "step", "batch", "iter", "iteration", "epoch"})
"""Words of which the name of a training loss may consist without its being that of a part."""


def names_loss(metric: str) -> bool:
    """Whether a name such as `loss`, `train/loss`, `Loss/train` or `train_loss_epoch` is that of a training loss."""
    plain = "loss" in _words(metric) and ROLES.issuperset(_words(metric))
    return (plain or _last(metric) in LOSSES) and not names_evaluation(metric)


def training_losses(metrics: Iterable[str]) -> list[str]:
    """Names of the training loss, the surest first: `loss` itself, then `train/loss`, means over epochs last.

    A name that says of what it is the loss, as `critic/loss` does, is taken where it is the only one: of several, none
    is the loss of the training.

    Args:
        metrics: The names of a run, in the order in which they were first logged.
    """
    named = [each for each in metrics if names_loss(each)]
    plain = [each for each in named if ROLES.issuperset(_words(each))]
    if not plain:
        return named if len(named) == 1 else []
    return sorted(plain, key=lambda each: (each != "loss", "epoch" in _words(each), _last(each) not in LOSSES))


def mentions_loss(metric: str) -> bool:
    """Whether the word loss is in a name, as in `d_loss`, `loss/kl` or `val/loss`."""
    return "loss" in _words(metric)


def names_evaluation(metric: str) -> bool:
    """Whether a name says that the number was taken on other data than those of training, as `val/loss` does."""
    return not EVALUATIONS.isdisjoint(_words(metric))


def _last(metric: str) -> str:
    return re.split(r"[/.]", metric.lower())[-1]


def _words(metric: str) -> list[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", metric)  # trainLoss
    return re.split(r"[/._ -]+", apart.lower())
