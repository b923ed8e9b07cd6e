"""Rules about how a run begins: I001 initial-loss, I002 random-gain.

Know the first loss call and the first step; of what came after, only whether the run broke.
"""

from collections.abc import Iterator
from math import isfinite, nan, prod
from typing import ClassVar, NamedTuple

import numpy as np

from auscult.core.audit import Audit
from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding, Severity
from auscult.core.run import Parameter
from auscult.rules.channels import common_module, is_broken, listing, state_of, trainable, training_loss
from auscult.rules.rule import Rule

RELATIVE, ABSOLUTE = 1.5, 0.5
ALARM, RUINOUS = 4.0, 100.0
RECOVERED = 0.5  # of an uninformed loss
REGRESSION = 10.0
SMALLEST, SIGMAS, NARROWEST = 32, 3.0, 0.7  # elements, standard errors, standard deviation
LOUD = 2.0  # standard deviation of an output; about 1 is meant


class InitialLoss(Rule):
    """The first loss is far above that of a model that knows nothing.

    What it means:
        A classifier that gives every class the same probability has a loss of -log(1/C). This one began well above:
        it was confidently wrong before it had learned anything, so its logits are too large.

    Why it hurts:
        The first steps are spent on squashing the logits (a loss curve like a hockey stick), and the same scale often
        saturates activations on the way. Runs on easy data recover; the time is lost.

    How it is decided:
        From the first loss call alone. Classification: loss > 1.5 x and > 0.5 above -log(1/C) gives info, > 4 x a
        warning, unless parameters are frozen: a new head on a pretrained network often begins at 2 or 3 times;
        critical, > 100 x in a run that broke. Info too, and recovered, once the mean loss of a block lies below half
        of -log(1/C): that start cost time alone. A summed loss is divided by the number of targets first. Squared
        error: loss > 10 x the variance of the targets gives info, since the right scale of a regression is for the
        user to know.

    What to try:
        Scale down the last layer's initial weights (x 0.1, or 0.01) and set its bias to 0; standardise the inputs;
        initialise hidden layers with gain / sqrt(fan_in).

    Not reported when:
        The loss call was not observed, has no uninformed value, or lies at or below it (a fine-tuned start).

    References:
        Karpathy, makemore part 3 (2022): 27.88 against 3.2958 expected; Karpathy, A recipe for training neural networks
        (2019), "verify loss @ init".
    """

    code: ClassVar[str] = "I001"
    name: ClassVar[str] = "initial-loss"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding."""
        audit = digest.audit
        if audit is None or audit.expected is None or not isfinite(audit.value) or audit.expected <= 0:
            return
        value = audit.value / prod(audit.target_shape) if audit.reduction == "sum" else audit.value
        frozen = any(not each.trainable for each in digest.parameters)
        if audit.classes is None:
            yield from self._regression(audit, value, audit.expected)
        elif value > max(RELATIVE * audit.expected, audit.expected + ABSOLUTE):
            alarm = value > ALARM * audit.expected and not frozen
            recovered = _has_recovered(digest, audit.expected, value / audit.value)
            ruined = value > RUINOUS * audit.expected and is_broken(digest)
            severity: Severity = "info" if recovered or not alarm else "critical" if ruined else "warning"
            yield self._classification(audit, value, audit.expected, audit.classes, severity, recovered)

    def _classification(
        self, audit: Audit, value: float, expected: float, classes: int, severity: Severity, recovered: bool
    ) -> Finding:
        return Finding(
            self.code,
            self.name,
            severity,
            "",
            audit.step,
            summary=f"The first loss was {value:.4g}; a model that knows nothing of {classes} classes has "
            f"{expected:.4g}. It began {value / expected:.1f} times as high: the logits are too large.",
            evidence=(Evidence("loss", "", audit.step, value, expected),),
            advice=(
                "Scale the last layer's initial weight by 0.1 and set its bias to 0.",
                "Standardise the inputs (mean 0, standard deviation 1 per feature).",
                "Initialise hidden layers with gain / sqrt(fan_in), as torch.nn.init.kaiming_normal_ does.",
            ),
            phase="forward",
            status="recovered" if recovered else "active",
            confidence=0.9,
        )

    def _regression(self, audit: Audit, value: float, expected: float) -> Iterator[Finding]:
        if value <= REGRESSION * expected:
            return
        yield Finding(
            self.code,
            self.name,
            "info",
            "",
            audit.step,
            summary=f"The first loss was {value:.4g}, {value / expected:.0f} times the variance of the targets "
            f"({expected:.4g}): predictions begin far from the targets' mean.",
            evidence=(Evidence("loss", "", audit.step, value, expected),),
            advice=(
                "Standardise the targets, or set the last layer's bias to their mean.",
                "Standardise the inputs.",
            ),
            phase="forward",
            confidence=0.6,
        )


def _has_recovered(digest: Digest, expected: float, scale: float) -> bool:
    """Whether the mean training loss of the last block, times a scale, lies well below that of an uninformed model."""
    loss = training_loss(digest)
    return loss is not None and bool(scale * loss.state["recent_mean"][-1] < RECOVERED * expected)


class RandomVector(NamedTuple):
    """A vector that began as if drawn from N(0, 1).

    Attributes:
        path: Where it is.
        step: The first step at which it was measured.
        mean: Its mean right after the first update.
        std: Its standard deviation right after the first update.
        module: The module behind it, where that gave loud outputs at its first step; None otherwise.
        output: The standard deviation of these outputs.
        bound: The one from which on they count as loud.
    """

    path: str
    step: int
    mean: float
    std: float
    module: str | None
    output: float
    bound: float


class RandomGain(Rule):
    """A vector began as N(0, 1), and what comes behind it is far too loud.

    What it means:
        A gain does nothing when it is 1 and a bias when it is 0. This vector began as if drawn by torch.randn: if it
        multiplies something, half of that has its sign flipped, some of it is lost, and hardly any is left as it was.
        On numbers far from 0, such as decibels, the flipped half becomes extreme: -80 times -1 is 80.

    Why it hurts:
        The module behind it gets inputs on a scale that nothing was initialised for. Its gradient drowns all others,
        and most so under clipping; the run trains badly, or breaks.

    How it is decided:
        Exactly, from the first step. A trainable parameter of one dimension and at least 32 elements; its mean before
        the first update within 3 standard errors of 0; its standard deviation within 3 standard errors of 1, and at
        least 0.7, so that a bias drawn from (-1, 1) does not count. That alone is info: a token, a query or an initial
        state may begin like that. A warning when the module behind it gave outputs of a standard deviation above 2 at
        its first step, where about 1 is meant, and above twice what its own weights make of inputs of unit scale,
        ||W|| / sqrt(outputs): the first module that the vector's owner calls, or the one after its owner if that calls
        none. Critical when, besides, the run broke.

    What to try:
        Begin a gain at ones. On decibels or other logarithms add a bias that begins at zeros: a factor is a term there.

    Not reported when:
        It has two dimensions or more (weights, embeddings, positions), begins near another mean (gains at 1, norms of
        weight_norm) or within a narrow range (0.02, biases). What stands beside a matrix in one module is its bias
        and stays at info, because then the matrix sets the scale; so does everything when activations are not observed.

    References:
        Drevo, Training run diagnostic metrics (2026): a `mel_scale` drawn by torch.randn; Ba et al., Layer
        normalization (2016): gains of 1 and biases of 0 at first.
    """

    code: ClassVar[str] = "I002"
    name: ClassVar[str] = "random-gain"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """One finding per vector with a loud module behind it; failing that, at most one for all."""
        every = trainable(digest)
        narrowest = digest.take("first", "param_std", every.paths) - digest.take("first", "update_std", every.paths)
        near = np.flatnonzero((every.sizes >= SMALLEST) & (narrowest >= NARROWEST)).tolist()
        found = [vector for number in near if (vector := _as_random(digest, every[number])) is not None]
        loud = [each for each in found if each.module is not None]
        severity: Severity = "critical" if is_broken(digest) else "warning"
        for vector in loud:
            yield self._loud(vector, severity)
        if found and not loud:
            yield self._plain(found)

    def _loud(self, vector: RandomVector, severity: Severity) -> Finding:
        broke = " The run has broken since." if severity == "critical" else ""
        return Finding(
            self.code,
            self.name,
            severity,
            vector.path,
            vector.step,
            summary=f"{vector.path} began as if drawn from N(0, 1): as a gain it flips the sign of half of what it "
            f"multiplies. The outputs of {vector.module}, behind it, began with a standard deviation of "
            f"{vector.output:.3g}; about 1 is meant.{broke}",
            evidence=(
                *_moments(vector),
                Evidence("activation_std", vector.module or "", vector.step, vector.output, vector.bound),
            ),
            advice=(
                f"Begin {vector.path} at ones if it multiplies; on decibels or other logarithms, add a bias that "
                "begins at zeros in its place.",
                f"If it is no gain, look at the inputs of {vector.module}: standardise them.",
            ),
            phase="forward",
            ruled_out=("Not the learning rate: it was so before the first update.",),
            confidence=0.8,
        )

    def _plain(self, found: list[RandomVector]) -> Finding:
        paths = [each.path for each in found]
        return Finding(
            self.code,
            self.name,
            "info",
            common_module(paths),
            found[0].step,
            summary=f"{listing(paths)} began as if drawn from N(0, 1): right for a token or a query, wrong for a gain "
            "(it flips half of the signs) and for a bias.",
            evidence=_moments(found[0]),
            advice=("Begin a gain at ones and a bias at zeros; leave it if it neither multiplies nor is added.",),
            phase="forward",
            confidence=0.3,
        )


def _moments(vector: RandomVector) -> tuple[Evidence, Evidence]:
    return (
        Evidence("param_mean", vector.path, vector.step, vector.mean),
        Evidence("param_std", vector.path, vector.step, vector.std, NARROWEST),
    )


def _as_random(digest: Digest, parameter: Parameter) -> RandomVector | None:
    """The parameter, if it has one dimension and was about N(0, 1) before its first update."""
    if len(parameter.shape) != 1 or parameter.size < SMALLEST:
        return None
    path = parameter.path
    names = ("param_norm", "param_mean", "param_std", "update_mean", "update_std")
    states = [state for name in names if (state := state_of(digest, name, path)) is not None]
    if len(states) < len(names) or len({int(state["first_step"]) for state in states}) > 1:
        return None
    mean, std, moved, spread = (float(state["first"]) for state in states[1:])
    error = SIGMAS / parameter.size**0.5
    low, high = max(NARROWEST, 1 - error / 2**0.5), 1 + error / 2**0.5
    # The standard deviation before the update differs from that after it by no more than that of the update.
    if not (abs(mean - moved) <= error and low <= std - spread and std + spread <= high):
        return None
    step = int(states[0]["first_step"])
    behind = _behind(digest, path)
    output = None if behind is None else state_of(digest, "activation_std", behind)
    if behind is not None and output is not None and output["first_step"] == step:
        bound = LOUD * max(1.0, _scale(digest, behind))
        if output["first"] > bound:
            return RandomVector(path, step, mean, std, behind, float(output["first"]), bound)
    return RandomVector(path, step, mean, std, None, nan, nan)


def _behind(digest: Digest, path: str) -> str | None:
    """The first leaf module that the owner of a vector calls; the one after the owner if it is a leaf without matrices.

    None where the owner is a leaf that holds a matrix: the vector is its bias, and the matrix sets the scale.
    """
    owner = path.rpartition(".")[0]
    leaves = [each.path for each in digest.segments[-1].modules if each.leaf]
    if owner in leaves:
        behind = leaves[leaves.index(owner) + 1 :]
        return behind[0] if behind and not _matrices(digest, owner) else None
    return next((leaf for leaf in leaves if not owner or leaf.startswith(f"{owner}.")), None)


def _scale(digest: Digest, module: str) -> float:
    """The standard deviation that the matrices of a leaf module give to inputs of unit scale; 0 if it has none."""
    squares = 0.0
    for each in _matrices(digest, module):
        state = state_of(digest, "param_norm", each.path)
        squares += 0.0 if state is None else float(state["first"]) ** 2 / each.shape[0]
    return squares**0.5


def _matrices(digest: Digest, module: str) -> list[Parameter]:
    """The matrices and kernels that a module holds itself."""
    return [each for each in digest.parameters if len(each.shape) >= 2 and each.path.rpartition(".")[0] == module]
