"""Names: where a foreign number is kept. Its own name where that says enough, ours where it means the same.

Never claims more than is known: a gradient norm becomes `grad_norm` only where it is known when it was taken.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from auscult.core.catalogue import METRICS
from auscult.core.metric import Stream
from auscult.core.naming import EVALUATIONS, names_loss
from auscult.core.sink import Channel

TRAINING = frozenset({"train", "training"})
MEASURES = {
    **dict.fromkeys(("loss", "epoch_loss", "loss_epoch", "loss_step", "step_loss"), "loss"),
    **dict.fromkeys(("accuracy", "acc", "epoch_accuracy", "accuracy_epoch", "acc_epoch"), "accuracy"),
}
"""Names of what is measured that say the same, by the one that is kept."""
RATES = re.compile(
    r"((train|training|optim|optimizer|opt)[/._ ])?(lr|learning[_ -]?rate)(-(?P<group>.+))?", re.IGNORECASE
)
OWN = frozenset({"loss", "lr"})
"""Names of the catalogue that mean the same in every log."""


class Place(NamedTuple):
    """Where a number is kept."""

    stream: Stream
    channel: Channel


def places(names: Iterable[str | Channel], trainer: str = "") -> dict[str | Channel, Place]:
    """Where the numbers of a log are kept; no two names share a place.

    Args:
        names: As the log has them, in the order in which they were first met; a Channel is one of auscult's own.
        trainer: The library whose trainer logged them, where that is known.
    """
    known = list(dict.fromkeys(names))
    taken: set[Channel] = set()
    found: dict[str | Channel, Place] = {}
    # A name that stays as it is goes first, so that no other one is given it.
    asked = {name: _own(name) if isinstance(name, Channel) else _asked(name, trainer) for name in known}
    for name in sorted(known, key=lambda each: _shown(each) != asked[each].channel.metric):
        place = asked[name]
        if place.channel in taken:
            place = _kept(_shown(name))
        while place.channel in taken:
            place = place._replace(channel=Channel(f"{place.channel.metric}'", place.channel.path))
        taken.add(place.channel)
        found[name] = place
    return {name: found[name] for name in known}


def sent(key: str) -> Channel:
    """What auscult's own sinks call a number by a key: `grad_norm/conv1.weight`, `val/accuracy`."""
    metric, _, path = key.partition("/")
    entry = METRICS.get(metric)
    return Channel(metric, path) if entry is not None and not (path and entry.scope == "run") else Channel(key, "")


def renamed(kept: Mapping[str | Channel, Place]) -> dict[str, str]:
    """What has another name now: the old one and the new one."""
    return {
        name: f"{place.channel.metric} of {place.channel.path}" if place.channel.path else place.channel.metric
        for name, place in kept.items()
        if not isinstance(name, Channel) and (name != place.channel.metric or place.channel.path)
    }


def _asked(name: str, trainer: str) -> Place:
    """Where a name belongs, by itself."""
    if (rate := RATES.fullmatch(name)) is not None:
        return Place("user", Channel("lr", rate["group"] or ""))
    if trainer == "transformers" and name in ("grad_norm", "train/grad_norm"):
        return Place("user", Channel("grad_norm", ""))  # what clip_grad_norm_ returned: before clipping
    if trainer == "transformers" and name.startswith("eval_"):
        return _evaluated("eval", name.removeprefix("eval_"))
    if trainer == "transformers" and name == "train_loss":
        return _kept(name)  # the mean over the whole training, told at its end
    head, separator, rest = name.partition("/")
    if separator and head.lower() in EVALUATIONS:
        return _evaluated(head.lower(), rest)
    if names_loss(name) and name == name.lower() and name.rsplit("/", 1)[-1] == "loss":
        return _kept(name)
    for role, measure in _readings(name):
        if measure in MEASURES:
            if role in EVALUATIONS:
                return Place("evaluation", Channel(f"{role}/{MEASURES[measure]}", ""))
            if role in TRAINING:
                return Place("user", Channel(f"train/{MEASURES[measure]}", ""))
    return _kept(name)


def _readings(name: str) -> Iterable[tuple[str, str]]:
    """A name cut into role and measure, at its first and at its last separator: `val_loss`, `Loss/test`."""
    words = [each for each in re.split(r"[/._ -]+", name.lower()) if each]
    if len(words) > 1:
        yield words[0], "_".join(words[1:])
        yield words[-1], "_".join(words[:-1])


def _evaluated(role: str, rest: str) -> Place:
    measure = MEASURES.get(rest.lower(), rest)
    return Place("evaluation", Channel(f"{role}/{measure}", ""))


def _kept(name: str) -> Place:
    """Under its own name, or below `user/` where that is one of the catalogue and may mean something else there."""
    return Place("user", Channel(name if name in OWN or name not in METRICS else f"user/{name}", ""))


def _own(channel: Channel) -> Place:
    """Where auscult itself keeps a number; one that it derives when it reads is kept in float64, as a user's."""
    entry = METRICS.get(channel.metric)
    if entry is None:
        evaluated = not EVALUATIONS.isdisjoint(channel.metric.lower().split("/"))
        return Place("evaluation" if evaluated else "user", channel)
    derived = bool(entry.inputs) or (entry.adds_up and not channel.path)
    return Place("user" if derived else entry.stream, channel)


def _shown(name: str | Channel) -> str:
    return name.metric if isinstance(name, Channel) else name
