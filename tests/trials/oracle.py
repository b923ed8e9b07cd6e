"""Oracle: what became of one of the five listening runs, told from a bare training of the same run.

Plain PyTorch. Shares network, optimizer, images and sampler with the clinic, and nothing with the monitor or the rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from auscult.clinic.images import CLASSES, Images, batches
from auscult.clinic.listening import STEPS, Network, Setting, make_optimizer
from auscult.core.finding import SEVERITIES, Finding

Label = Literal["non-finite", "dead", "not recovered", "recovered", "trained"]

UNINFORMED = log(CLASSES)
LAST = 50
FIRST_LAYER = "conv1"


@dataclass(frozen=True, slots=True)
class Bare:
    """One training, step by step, up to the first number that is not finite.

    Attributes:
        losses: float64 `(S,)`.
        zeros: Share of the elements of all gradients that are exactly 0, `(S,)`.
        reached: Whether the first layer received any gradient, `(S,)`.
        finite: Whether the loss and every element of every gradient is finite, `(S,)`.
    """

    losses: np.ndarray
    zeros: np.ndarray
    reached: np.ndarray
    finite: np.ndarray


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a run.

    Attributes:
        label: `non-finite`: a loss or a gradient was not finite. `dead`: the loss of the last 50 steps is within 5 % of
            ln 10 in the mean, and most gradient elements are exactly 0 in each of them. `not recovered`: finite and
            alive, but the median loss of the last 50 steps is no better than guessing, ln 10. `recovered`: it is
            better, but a loss had been twice ln 10 or more. `trained`: everything else.
        step: The first step that was not finite; from which on the first layer received no gradient, so that the images
            no longer tell in the output; the step of the largest loss.
        peak: The largest finite loss.
        end: Median loss of the last 50 steps.
    """

    label: Label
    step: int
    peak: float
    end: float


def train_bare(setting: Setting, images: Images, seed: int) -> Bare:
    """Train the run without any monitor."""
    torch.manual_seed(seed)
    model = Network()
    optimizer = make_optimizer(setting, model)
    rows: list[tuple[float, float, bool, bool]] = []
    for _, (inputs, targets) in zip(range(STEPS), batches(images, setting.batch, seed)):
        optimizer.zero_grad()
        loss = functional.nll_loss(model(inputs), targets)
        loss.backward()
        gradients = {name: each.grad for name, each in model.named_parameters()}
        zeros = sum(int((each == 0).sum()) for each in gradients.values())
        reached = any(bool(each.any()) for name, each in gradients.items() if name.startswith(FIRST_LAYER))
        finite = bool(loss.isfinite()) and all(bool(each.isfinite().all()) for each in gradients.values())
        rows.append((loss.item(), zeros / sum(each.numel() for each in gradients.values()), reached, finite))
        if not finite:
            break
        optimizer.step()
    return Bare(*(np.array(column) for column in zip(*rows)))


def judge(bare: Bare) -> Verdict:
    """What became of it."""
    finite = bare.losses[np.isfinite(bare.losses)]
    peak, end = float(finite.max()), float(np.median(bare.losses[-LAST:]))
    highest = int(finite.argmax())
    if not bare.finite.all():
        return Verdict("non-finite", int((~bare.finite).argmax()), peak, end)
    guessing = abs(bare.losses[-LAST:].mean() / UNINFORMED - 1) <= 0.05
    if guessing and (bare.zeros[-LAST:] > 0.5).all():
        return Verdict("dead", int(np.flatnonzero(bare.reached)[-1]) + 1, peak, end)
    if end >= UNINFORMED:
        return Verdict("not recovered", highest, peak, end)
    return Verdict("recovered" if peak >= 2 * UNINFORMED else "trained", highest, peak, end)


def objections(verdict: Verdict, findings: Sequence[Finding]) -> list[str]:
    """Where a diagnosis contradicts what became of the run; none when it is right.

    The right cause of a run that breaks or dies is the learning rate (U001), because under SGD with lr 0.01 the same
    network trains on the same images. It must be named first, and no later than the run's end; the end itself must be
    named at its exact step: non-finite (L001) or no gradient in most of the network (G001). A run that spiked and came
    back has nothing active above a warning, L003 says that and when it spiked and recovered, and a warning says that
    the run learns all the same.
    """
    found = {each.code: each for each in findings}
    worst = max((SEVERITIES.index(each.severity) for each in findings), default=-1)
    wrong: list[str] = []
    if verdict.label in ("non-finite", "dead"):
        end = found.get("L001" if verdict.label == "non-finite" else "G001")
        if end is None or end.severity != "critical" or end.step != verdict.step:
            wrong.append(f"expected the end at step {verdict.step}, got {end}")
        if findings[0].code != "U001" or findings[0].severity != "critical" or findings[0].step > verdict.step:
            wrong.append(f"expected lr-too-high first, got {findings[0]}")
    elif verdict.label == "not recovered":
        if worst < SEVERITIES.index("warning"):
            wrong.append("expected a warning at least")
    elif worst > SEVERITIES.index("warning"):
        wrong.append(f"expected a warning at most, got {findings[0]}")
    spike = found.get("L003")
    if (verdict.label == "recovered") != (spike is not None and spike.status == "recovered"):
        wrong.append(f"expected L003 for a run that spiked and recovered, and for no other, got {spike}")
    if verdict.label == "recovered":
        if spike is not None and (spike.step != verdict.step or "recovered" not in spike.summary):
            wrong.append(f"expected the spike at step {verdict.step}, got {spike}")
        warnings = [each for each in findings if each.severity == "warning" and each.status == "active"]
        wrong += [f"expected it to say that the run learns, got {each}" for each in warnings if not _says_so(each)]
    return wrong


def _says_so(finding: Finding) -> bool:
    return "learns all the same" in finding.summary
