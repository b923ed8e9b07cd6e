"""Rules about training and evaluation mode: N001 train-eval-mode, N002 batchnorm-statistics.

Know the mode that modules were in and the statistics they keep, not why they were put there.
"""

from collections.abc import Iterator
from math import prod
from typing import Any, ClassVar

import numpy as np

from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding, Severity
from auscult.core.run import Module
from auscult.rules.channels import common_module, finite_tail, leaves, recent_start, state_of, worded_paths
from auscult.rules.course import course, evaluations
from auscult.rules.rule import Rule

SAMPLES = 2
FINE_TUNED = 0.5  # share of the uninformed loss
SHIFT, SCALE = 1.0, 4.0  # standard deviations, ratio of variances
WORSE = 1.5  # evaluation loss / training loss
TINY_BATCH = 2
TRAINED = 1.5  # norm of a bias / norm of its first update
NEARLY = 0.75  # of a pass per step; the last step may follow the one before sooner


class TrainEvalMode(Rule):
    """Updates are made in evaluation mode, or evaluations in training mode.

    What it means:
        Dropout and BatchNorm act differently in the two modes. In evaluation mode dropout does nothing and BatchNorm
        uses statistics that are then never learned; in training mode an evaluation is random, depends on its batch,
        and changes the statistics.

    Why it hurts:
        *Updates*: the normalisation works with statistics that do not fit, the regularisation is off. *Evaluations*:
        the figures are not those of the model that will be used, and evaluation data leak into it.

    How it is decided:
        *Updates*: `evaluation_mode` is 1 at every sampled step of the last two blocks: all modules that act
        differently, not only some. A warning, unless it looks like frozen statistics of a fine-tuning: without dropout,
        info where the affine parameters of the normalisations do not train, where their biases were trained before (a
        new one is 0) or the run began below half of the uninformed loss. *Evaluations*: `training_evaluations` is above
        0 in a model with dropout or running statistics. A warning where evaluations are logged and such passes are
        fewer than steps; info where there is one at every step or more over the last two blocks, without a pause, which
        is rather part of the method (targets, pseudo-labels, a teacher). *Dropout*: `evaluation_dropout` is above 0: a
        dropout was told to drop although the model was in evaluation mode; a warning. *Frozen*: normalisations whose
        own parameters do not train, while others do, are in training mode at every sampled step; info: their statistics
        follow the new data.

    What to try:
        model.train() before the steps of each epoch, model.eval() and torch.no_grad() around each evaluation.

    Not reported when:
        Only part of the modules is in evaluation mode (intended freezing), or no module acts differently.

    References:
        PyTorch, `Module.eval`; TheDeepChecker (TOSEM 2022), loss in both modes; huggingface/transformers#33844, dropout
        in evaluation.
    """

    code: ClassVar[str] = "N001"
    name: ClassVar[str] = "train-eval-mode"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, for the whole run."""
        moded = [each for each in leaves(digest).values() if _acts_differently(digest, each)]
        finding = self._updates(digest, moded) or self._evaluations(digest, moded) or self._dropout(digest)
        finding = finding or self._follows(digest, moded)
        if finding is not None:
            yield finding

    def _updates(self, digest: Digest, moded: list[Module]) -> Finding | None:
        state = state_of(digest, "evaluation_mode")
        if state is None or state["rows"] < SAMPLES:
            return None
        lowest = state["recent_minimum"]
        if not len(finite_tail(lowest, 2)) or finite_tail(lowest, 2).min() < 1:
            return None
        below = np.flatnonzero(~(lowest >= 1))
        begin = recent_start(state, int(below[-1]) + 1 if len(below) else 0)
        dropout = [each.path for each in moded if each.kind == "dropout"]
        others = [each.path for each in leaves(digest).values() if each.kind == "normalisation"]
        if len(moded) > len(dropout):  # which of them keep running statistics is known
            others = [each.path for each in moded if each.kind != "dropout"]
        frozen = (
            bool(others)
            and not dropout
            and (_affine_rests(digest, others) or _began_trained(digest) or _were_trained(digest, others))
        )
        off = f"dropout is off ({worded_paths(dropout)})" if dropout else ""
        stale = f"running statistics are never learned ({worded_paths(others)})" if others else ""
        effect = " and ".join(filter(None, (off, stale)))
        return Finding(
            self.code,
            self.name,
            "info" if frozen else "warning",
            "",
            begin,
            summary=f"Updates have been made in evaluation mode since step {begin}{': ' if effect else ''}{effect}.",
            evidence=(Evidence("evaluation_mode", "", int(state["last_step"]), 1.0, 0.0),),
            advice=("Call model.train() before the steps of each epoch; an evaluation leaves model.eval() behind.",)
            if not frozen
            else ("Nothing to do if the statistics are frozen on purpose; else call model.train().",),
            phase="forward",
            ruled_out=("Not partial freezing: every module that acts differently is in evaluation mode.",),
            confidence=0.6 if frozen else 0.95,
        )

    def _evaluations(self, digest: Digest, moded: list[Module]) -> Finding | None:
        state = state_of(digest, "training_evaluations")
        if state is None or not moded or not state["maximum"] > 0:
            return None
        some = int(state["rows"] - state["zeros"])
        logged = evaluations(digest, "loss") or evaluations(digest, "accuracy")
        interval = (int(state["last_step"]) - int(state["first_step"])) / max(1, int(state["rows"]) - 1)
        mean, least = (finite_tail(state[name], 2) for name in ("recent_mean", "recent_minimum"))
        always = state["rows"] > SAMPLES and len(mean) > 0 and bool(mean.min() >= NEARLY * interval and least.min() > 0)
        severity: Severity = "warning" if logged and not always else "info"
        step = int(state["maximum_at"])
        return Finding(
            self.code,
            self.name,
            severity,
            "",
            step,
            summary=f"The model was run without gradient but in training mode, {int(state['maximum'])} times before "
            f"step {step} and at {some} of {int(state['rows'])} steps looked at; "
            f"{worded_paths(each.path for each in moded)} act differently then.",
            evidence=(Evidence("training_evaluations", "", step, float(state["maximum"]), 0.0),),
            advice=(
                "Call model.eval() before the evaluation and model.train() after it.",
                "Nothing to do if these passes are part of the method.",
            ),
            phase="forward",
            ruled_out=("Not the steps of training: these passes had no gradient.",),
            confidence=0.8 if severity == "warning" else 0.4,
        )

    def _dropout(self, digest: Digest) -> Finding | None:
        state = state_of(digest, "evaluation_dropout")
        if state is None or not state["maximum"] > 0:
            return None
        step, drops = int(state["maximum_at"]), float(state["maximum"])
        return Finding(
            self.code,
            self.name,
            "warning",
            "",
            step,
            summary=f"Dropout went on in evaluation mode: {drops:.0f} calls dropped in the evaluations before step "
            f"{step}.",
            evidence=(Evidence("evaluation_dropout", "", step, drops, 0.0),),
            advice=(
                "Write F.dropout(x, p, training=self.training), or use nn.Dropout; without the last argument "
                "F.dropout always drops.",
                "For attention: dropout_p=self.p if self.training else 0.0.",
                "Nothing to do if several random passes are averaged on purpose (Monte Carlo dropout): ignore N001.",
            ),
            phase="forward",
            ruled_out=("Not a forgotten model.eval(): the model was in evaluation mode.",),
            confidence=0.9,
        )

    def _follows(self, digest: Digest, moded: list[Module]) -> Finding | None:
        state = state_of(digest, "evaluation_mode")
        kept = [each.path for each in moded if each.kind == "normalisation"]
        rests = [path for path in kept if _has_parameters(digest, path) and _affine_rests(digest, [path])]
        if state is None or not rests or len(rests) == len(kept) or state["maximum"] > 0:
            return None
        shift = state_of(digest, "statistics_shift", rests[0])
        assert shift is not None  # or it would not act differently
        return Finding(
            self.code,
            self.name,
            "info",
            common_module(rests),
            int(shift["first_step"]),
            summary=f"In {worded_paths(rests)} parameters are frozen, but not the mode: running statistics follow the "
            "new data.",
            evidence=(
                Evidence("evaluation_mode", "", int(state["last_step"]), 0.0),
                Evidence("statistics_shift", rests[0], int(shift["last_step"]), float(shift["last"])),
            ),
            advice=("Call eval() on frozen normalisations after each model.train(), if they are to stay as they are.",),
            phase="forward",
            ruled_out=("Not all of the network: other normalisations train.",),
            confidence=0.5,
        )


def _has_parameters(digest: Digest, path: str) -> bool:
    return any(_home(each.path) == path for each in digest.parameters)


def _acts_differently(digest: Digest, module: Module) -> bool:
    if module.kind == "dropout":
        return module.rate is None or module.rate > 0
    return module.kind == "normalisation" and state_of(digest, "statistics_shift", module.path) is not None


def _affine_rests(digest: Digest, paths: list[str]) -> bool:
    """Whether no parameter of these modules is trained."""
    homes = set(paths)
    return not any(each.trainable and each.group for each in digest.parameters if _home(each.path) in homes)


def _home(path: str) -> str:
    return path.rpartition(".")[0]


def _began_trained(digest: Digest) -> bool:
    way = course(digest)
    return way is not None and way.uninformed is not None and way.first < FINE_TUNED * way.uninformed


def _were_trained(digest: Digest, paths: list[str]) -> bool:
    """Whether most vectors of these modules that are near 0 (biases) were more than their first update made them."""
    homes, before, new = set(paths), 0, 0
    for each in digest.parameters:
        values, update = (state_of(digest, name, each.path) for name in ("param_norm", "update_norm"))
        if _home(each.path) not in homes or values is None or update is None or not update["first"] > 0:
            continue
        if values["first"] >= 0.5 * prod(each.shape) ** 0.5:
            continue  # a gain, which is 1 when it is new
        before += bool(values["first"] > TRAINED * update["first"])
        new += not values["first"] > TRAINED * update["first"]
    return before > new


class BatchNormStatistics(Rule):
    """The running statistics of a normalisation are not those of its data.

    What it means:
        In training BatchNorm normalises by the batch, in evaluation by running statistics. Here the two are far apart,
        or a batch is so small that it has no statistics of its own.

    Why it hurts:
        The model that is evaluated is another one than the one that is trained.

    How it is decided:
        In each of the last two blocks the running mean was at least one standard deviation off the batch mean
        (`statistics_shift`), or the variances differed by a factor of 4 or more (`statistics_scale`), at every sampled
        step: a warning when the evaluation loss is at least 1.5 times the training loss at the same time, info
        otherwise. Batches of one or two samples of plain features in front of such a module are a warning; of images
        or sequences, whose positions count as samples, info.

    What to try:
        A momentum nearer 0.1, larger batches, GroupNorm or LayerNorm; look for data that differ between training
        and evaluation.

    Not reported when:
        Updates are made in evaluation mode (N001 says so), or fewer than two blocks were observed.

    References:
        Ioffe and Szegedy, ICML 2015; Wu and He, Group Normalization (ECCV 2018): errors rise below batches of 8.
    """

    code: ClassVar[str] = "N002"
    name: ClassVar[str] = "batchnorm-statistics"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, at the first module concerned."""
        mode = state_of(digest, "evaluation_mode")
        if (mode is not None and mode["maximum"] > 0) or not len(digest.index.rows("statistics_shift", None)[0]):
            return
        kept = [path for path in leaves(digest) if state_of(digest, "statistics_shift", path) is not None]
        far = [(path, found) for path in kept if (found := _far_off(digest, path)) is not None]
        if far:
            yield self._far(digest, far)
        elif kept:
            yield from self._tiny(digest, kept)

    def _far(self, digest: Digest, far: list[tuple[str, Evidence]]) -> Finding:
        path, evidence = far[0]
        way, evaluated = course(digest), evaluations(digest, "loss")
        worse = [(name, state) for name, state in evaluated if way is not None and state["last"] >= WORSE * way.now > 0]
        others = f" (and of {len(far) - 1} more)" if len(far) > 1 else ""
        proof = tuple(
            Evidence(name, "", int(state["last_step"]), float(state["last"]), None if way is None else WORSE * way.now)
            for name, state in worse[:1]
        )
        return Finding(
            self.code,
            self.name,
            "warning" if worse else "info",
            path,
            evidence.step,
            summary=f"The running statistics of module {path}{others} have been far from those of its batches since "
            f"step {evidence.step}{': evaluations are much worse than training' if worse else ''}.",
            evidence=(evidence, *proof),
            advice=(
                "Set momentum near 0.1 (0 never learns them, 1 keeps the last batch only), or use GroupNorm or "
                "LayerNorm.",
                "Look for inputs that are prepared differently in training and in evaluation.",
            ),
            phase="forward",
            ruled_out=("Not the mode: updates are made in training mode.",),
            confidence=0.8 if worse else 0.5,
        )

    def _tiny(self, digest: Digest, kept: list[str]) -> Iterator[Finding]:
        shape = None if digest.anatomy is None else digest.anatomy.input_shape
        if shape is None or not shape or shape[0] > TINY_BATCH:
            return
        plain = len(shape) == 2
        step = 0 if digest.anatomy is None else digest.anatomy.step
        yield Finding(
            self.code,
            self.name,
            "warning" if plain else "info",
            kept[0],
            step,
            summary=f"{kept[0]} normalises by the statistics of a batch of {shape[0]}"
            f"{': each feature becomes -1 or 1' if plain else ''}.",
            evidence=(Evidence("input_shape", "", step, float(shape[0]), float(TINY_BATCH)),),
            advice=("Use larger batches, GroupNorm or LayerNorm; accumulating gradients does not help here.",),
            phase="forward",
            confidence=0.9 if plain else 0.5,
        )


def _far_off(digest: Digest, path: str) -> Evidence | None:
    """Since when the statistics of a module have been off at every sampled step, with the figure there."""
    shift, scale = state_of(digest, "statistics_shift", path), state_of(digest, "statistics_scale", path)
    candidates: list[tuple[str, Any, Any, float]] = []
    if shift is not None:
        candidates.append(("statistics_shift", shift, shift["recent_minimum"] >= SHIFT, SHIFT))
    if scale is not None:
        candidates.append(("statistics_scale", scale, scale["recent_minimum"] >= SCALE, SCALE))
        candidates.append(("statistics_scale", scale, scale["recent_maximum"] <= 1 / SCALE, 1 / SCALE))
    for metric, state, off, bound in candidates:
        known = ~np.isnan(state["recent_mean"])
        if known[-2:].all() and off[-2:].all():
            clear = np.flatnonzero(~off)
            position = int(clear[-1]) + 1 if len(clear) else 0
            step, value = recent_start(state, position), float(state["recent_mean"][position])
            return Evidence(metric, path, step, value, bound)
    return None
