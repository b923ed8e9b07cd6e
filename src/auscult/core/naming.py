"""Naming: what a name that users give their numbers is of: the training loss, an evaluation."""

import re

EVALUATIONS = frozenset({"val", "valid", "validation", "test", "eval", "evaluation", "dev"})
LOSSES = frozenset({"loss", "train_loss", "training_loss"})


def names_loss(metric: str) -> bool:
    """Whether a name such as `loss` or `train/loss` is that of a training loss."""
    parts = metric.lower().replace(".", "/").split("/")
    return parts[-1] in LOSSES and EVALUATIONS.isdisjoint(parts)


def mentions_loss(metric: str) -> bool:
    """Whether the word loss is in a name, as in `d_loss`, `loss/kl` or `val/loss`."""
    return "loss" in _words(metric)


def names_evaluation(metric: str) -> bool:
    """Whether a name says that the number was taken on other data than those of training, as `val/loss` does."""
    return not EVALUATIONS.isdisjoint(_words(metric))


def _words(metric: str) -> list[str]:
    return re.split(r"[/._ -]+", metric.lower())
