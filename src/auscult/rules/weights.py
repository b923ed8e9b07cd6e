"""Rules about initial weights: I003 bad-init-scale, I004 symmetric-init.

Know how large and how alike weights are at the first steps, and what became of the run.
"""

from collections.abc import Iterator
from math import prod, sqrt
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding
from auscult.core.run import Module, Parameter
from auscult.rules.channels import death, is_broken, kernels, leaves, listing, roster, state_of
from auscult.rules.fit import is_poor
from auscult.rules.rule import Rule

LOUD, QUIET = 4.2, 0.1  # standard deviations of the weights, in 1 / sqrt(fan_in); He's is 1.41, torch's own 0.58
MOST = 0.5
LOUD_START = 4.0
SATURATED = 0.5
GROWN = 100.0
WIDE = 8.0  # standard deviation of what an activation is given
NOTHING = 0.9
ZEROS = 2  # layers


class Scale(NamedTuple):
    """How large the weights of a layer began.

    Attributes:
        parameter: The weight.
        step: When that was measured.
        std: Its standard deviation.
        fan_in: Number of inputs of a unit.
    """

    parameter: Parameter
    step: int
    std: float
    fan_in: int

    @property
    def ratio(self) -> float:
        """The standard deviation in 1 / sqrt(fan_in)."""
        return self.std * sqrt(self.fan_in)


class BadInitScale(Rule):
    """Initial weights are far too large, or far too small, for their number of inputs.

    What it means:
        The sum of n inputs keeps its scale if weights have a standard deviation of about 1 / sqrt(n). With N(0, 1)
        every layer multiplies the signal by sqrt(n); with weights much smaller it shrinks from layer to layer.

    Why it hurts:
        Logits in the hundreds, saturated tanh units, gradients that explode or vanish; the first steps, or all of them,
        go into undoing it.

    How it is decided:
        From the first observed step. For each matrix or kernel of an affine or recurrent module std x sqrt(fan_in),
        less what the update may have added: 1.41 is He's, 0.58 torch's own. *Large* where it is above 4.2 (three times
        He's); a warning when, besides, the first loss was above 4 times that of an uninformed model, a module began
        half saturated (or gave a standard deviation of at most 1 for one of 8 or more), activations grow a hundredfold
        over the depth, or the run broke. *Small* where it is below 0.1
        in at least half of two matrices or more; a warning when less than a tenth of what an uninformed model gets
        wrong has been explained after 64 steps. Info otherwise.

    What to try:
        torch.nn.init.kaiming_normal_ before ReLU, xavier_normal_ before tanh; the advice names the standard deviation.

    Not reported when:
        A normalisation takes the output of the layer in question, all weights of a layer are equal (I004), or a bare
        parameter, an embedding or a position is concerned. Weights that are all zero belong to a head or a branch that
        begins at zero.

    References:
        Glorot and Bengio, AISTATS 2010; He et al., ICCV 2015; Karpathy, makemore part 3 (2022).
    """

    code: ClassVar[str] = "I003"
    name: ClassVar[str] = "bad-init-scale"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, at the layer that is farthest off."""
        scales = _scales(digest)
        large = [each for each in scales if each.ratio > LOUD]
        small = [each for each in scales if each.ratio < QUIET]
        if large:
            yield self._finding(digest, large, LOUD, _loud(digest))
        elif len(small) >= max(2.0, MOST * len(scales)):
            poor = is_poor(digest) and not is_broken(digest)
            worst = min(small, key=lambda each: each.ratio)
            harm = (
                "Hardly anything has been learned.",
                Evidence("param_std", worst.parameter.path, worst.step, worst.std, 1 / sqrt(worst.fan_in)),
            )
            yield self._finding(digest, small, QUIET, harm if poor else None)

    def _finding(self, digest: Digest, found: list[Scale], bound: float, harm: tuple[str, Evidence] | None) -> Finding:
        paths = [each.parameter.path for each in found]
        worst = (max if bound == LOUD else min)(found, key=lambda each: each.ratio)
        fan_in, std = worst.fan_in, worst.std
        times = worst.ratio / sqrt(2)
        how = f"{times:.3g} times" if times > 1 else f"{times:.1g} of"
        return Finding(
            self.code,
            self.name,
            "info" if harm is None else "warning",
            worst.parameter.path,
            worst.step,
            summary=f"{listing(paths)} began {'large' if bound == LOUD else 'small'}: the standard deviation of "
            f"{worst.parameter.path} is {std:.3g}, {how} He's for {fan_in} inputs."
            + ("" if harm is None else f" {harm[0]}"),
            evidence=(
                Evidence("param_std", worst.parameter.path, worst.step, std, bound / sqrt(fan_in)),
                *(() if harm is None or harm[1].metric == "param_std" else (harm[1],)),
            ),
            advice=(
                f"Initialise {worst.parameter.path} with a standard deviation of {sqrt(2 / fan_in):.2g} (He, for ReLU; "
                f"{1 / sqrt(fan_in):.2g} for tanh): torch.nn.init.kaiming_normal_.",
                "Or leave torch's own initialisation as it is.",
            ),
            phase="forward",
            ruled_out=(
                "Not the learning rate: weights were so before the first update.",
                *_input_scale(digest),
            ),
            confidence=0.5 if harm is None else 0.85,
        )


class SymmetricInit(Rule):
    """All units of a layer are the same and stay the same.

    What it means:
        The units began with equal weights, as constants. Equal units get equal gradients, so updates leave them equal.

    Why it hurts:
        The layer computes one number however wide it is.

    How it is decided:
        Every row of a matrix or kernel of two units or more equals the first one, bit for bit, at every observed step,
        at least two of them, while it is updated. A warning; critical where most gradients are exactly 0, or less than
        a tenth of what an uninformed model gets wrong has been explained after 64 steps. The first such layer is named.

    What to try:
        A random initialisation: torch.nn.init.kaiming_normal_, or torch's own. Constants belong to biases and gains.

    Not reported when:
        The rows differ after the first update: a head, a gate or an adapter that begins at zero is told apart by its
        gradient. A layer that is never updated belongs to U003 or G001.

    References:
        Goodfellow et al., Deep learning (2016), section 8.4, "break symmetry"; TheDeepChecker (TOSEM 2022), poor
        initialisation.
    """

    code: ClassVar[str] = "I004"
    name: ClassVar[str] = "symmetric-init"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        weights = roster(digest).weights
        equal = digest.take("minimum", "twin_fraction", weights.paths) == 1
        equal &= digest.take("rows", "twin_fraction", weights.paths) >= 2
        equal &= digest.take("maximum", "update_norm", weights.paths) > 0
        twins = [weights[number] for number in np.flatnonzero(equal).tolist() if weights[number].shape[0] >= 2]
        if not twins:
            yield from self._zero(digest)
            return
        first = twins[0]
        state, moved = (state_of(digest, name, first.path) for name in ("twin_fraction", "update_norm"))
        if state is None or moved is None:
            return
        also = f" So are those of {listing(each.path for each in twins[1:])}." if len(twins) > 1 else ""
        fan_in = prod(first.shape[1:])
        yield Finding(
            self.code,
            self.name,
            "critical" if is_poor(digest) else "warning",
            first.path,
            int(state["first_step"]),
            summary=f"The {first.shape[0]} units of {first.path} have the same weights to the last bit, and updates "
            f"leave them equal: together they are one unit.{also}",
            evidence=(
                Evidence("twin_fraction", first.path, int(state["last_step"]), 1.0, 1 / first.shape[0]),
                Evidence("update_norm", first.path, int(moved["maximum_at"]), float(moved["maximum"]), 0.0),
            ),
            advice=(
                f"Initialise {first.path} at random, with a standard deviation of {sqrt(2 / fan_in):.2g}: "
                "torch.nn.init.kaiming_normal_.",
            ),
            phase="forward",
            ruled_out=(
                f"Not a layer that begins at zero and breaks the symmetry: equal at {int(state['rows'])} observations.",
            ),
            confidence=1.0,
        )

    def _zero(self, digest: Digest) -> Iterator[Finding]:
        """Weights that are exactly zero in several layers, so that no gradient gets past any of them."""
        dead, weights = death(digest), roster(digest).weights
        if dead is None or not dead.always or dead.solved:
            return
        still = (digest.take("maximum", "param_norm", weights.paths) == 0) & np.isin(weights.paths, dead.paths)
        paths = [weights.paths[number] for number in np.flatnonzero(still).tolist()]
        state = state_of(digest, "param_norm", paths[0]) if paths else None
        if len(paths) < ZEROS or state is None:
            return
        step = int(state["first_step"])
        yield Finding(
            self.code,
            self.name,
            "critical",
            paths[0],
            step,
            summary=f"{listing(paths)} began at exactly 0 and have stayed there: all units are equal, and no gradient "
            "gets past them.",
            evidence=(
                Evidence("param_norm", paths[0], step, 0.0),
                Evidence("grad_norm", paths[0], int(dead.states["zeros_from"][0]), 0.0),
            ),
            advice=("Initialise all layers but the last at random: torch.nn.init.kaiming_normal_.",),
            phase="forward",
            ruled_out=(f"Not a head alone that begins at zero: {len(paths)} layers do.",),
            confidence=1.0,
        )


def _scales(digest: Digest) -> list[Scale]:
    """The initial scales of the weights whose module says what they do, but for those that are normalised.

    None at all where none of them is large or small.
    """
    every = kernels(digest)
    stds = digest.take("first", "param_std", every.paths)
    ratios = stds * np.sqrt(every.fan_ins)
    if not ((ratios > LOUD) | (ratios < QUIET)).any():
        return []
    steps = digest.take("first_step", "param_std", every.paths)
    at_once = digest.take("first_step", "update_std", every.paths) == steps
    updates = np.where(at_once, digest.take("first", "update_std", every.paths), 0.0)
    begun = (stds > 0) & ~(updates > NOTHING * stds)  # others began at about zero
    # The standard deviation before the update differs from that after it by no more than that of the update.
    moved = updates * np.sqrt(every.fan_ins)
    certain = (ratios - moved > LOUD) | (ratios + moved < QUIET) | ((ratios >= QUIET) & (ratios <= LOUD))
    normalised = _normalised(digest, leaves(digest))
    scales = (
        Scale(every[number], int(steps[number]), float(stds[number]), int(every.fan_ins[number]))
        for number in np.flatnonzero(begun & certain).tolist()
    )
    return [each for each in scales if each.parameter.path.rpartition(".")[0] not in normalised]


def _normalised(digest: Digest, modules: dict[str, Module]) -> set[str]:
    """Modules whose output goes into a normalisation."""
    feeds = digest.anatomy.feeds if digest.anatomy is not None else ()
    return {each.source for each in feeds if each.target in modules and modules[each.target].kind == "normalisation"}


def _loud(digest: Digest) -> tuple[str, Evidence] | None:
    """What large weights have done, in words and as a figure; None where nothing is seen."""
    audit = digest.audit
    if audit is not None and audit.classes is not None and audit.expected:
        value = audit.value
        if value > LOUD_START * audit.expected:
            times = value / audit.expected
            text = f"The first loss was {times:.3g} times that of an uninformed model."
            return text, Evidence("loss", "", audit.step, value, audit.expected)
    modules = tuple(leaves(digest))
    saturated = digest.take("first", "saturated_fraction", modules)
    hidden = saturated[:-1]  # the last one may be meant to be
    if (hidden >= SATURATED).any():
        number = int(np.nanargmax(hidden))
        step = int(digest.take("first_step", "saturated_fraction", modules)[number])
        share = float(hidden[number])
        return f"{share:.0%} of the outputs of {modules[number]} began saturated.", Evidence(
            "saturated_fraction", modules[number], step, share, SATURATED
        )
    stds = digest.take("first", "activation_std", modules)
    squashed = _squashed(digest, modules, stds)
    if squashed is not None:
        return squashed
    seen = np.flatnonzero(stds > 0)
    if len(seen) > 1 and stds[seen[-1]] > GROWN * stds[seen[0]]:
        last = int(seen[-1])
        step = int(digest.take("first_step", "activation_std", modules)[last])
        return "Activations grow with depth.", Evidence(
            "activation_std", modules[last], step, float(stds[last]), float(stds[seen[0]])
        )
    if is_broken(digest):
        return "The run has broken since.", Evidence("finite", "", digest.step, 0.0, 1.0)
    return None


def _squashed(digest: Digest, modules: tuple[str, ...], stds: NDArray[np.float64]) -> tuple[str, Evidence] | None:
    """An activation that began with inputs far wider than anything it gives: it is at its limits for most of them."""
    places, kinds = {path: number for number, path in enumerate(modules)}, leaves(digest)
    for feed in digest.anatomy.feeds if digest.anatomy is not None else ():
        if feed.source not in places or feed.target not in places or kinds[feed.target].kind != "activation":
            continue
        before, after = float(stds[places[feed.source]]), float(stds[places[feed.target]])
        if before >= WIDE and 0 < after <= 1:
            state = state_of(digest, "activation_std", feed.source)
            step = 0 if state is None else int(state["first_step"])
            text = f"{feed.target} began saturated: it was given a standard deviation of {before:.3g}, and gave "
            return f"{text}{after:.2g}.", Evidence("activation_std", feed.source, step, before, WIDE)
    return None


def _input_scale(digest: Digest) -> tuple[str, ...]:
    """What the inputs' scale has to do with it."""
    spread = None if digest.anatomy is None else digest.anatomy.input
    if spread is None or not abs(spread.mean) + spread.std < 10:
        return ()
    return (f"Not the inputs: mean {spread.mean:.2g}, standard deviation {spread.std:.2g}.",)
