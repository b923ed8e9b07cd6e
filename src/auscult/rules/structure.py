"""Rules about how modules follow each other: M001 missing-nonlinearity, M002 hidden-softmax.

Know which module was called with the untouched output of which other one; an operation in between hides the pair.
"""

from collections.abc import Iterator
from math import prod
from typing import ClassVar

from auscult.core.anatomy import Anatomy
from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding, Severity
from auscult.core.run import Module, ModuleKind
from auscult.rules.channels import leaves, loss_has_fallen, training_loss, worded, worded_paths
from auscult.rules.fit import fit_of
from auscult.rules.rule import Rule

LINEAR: frozenset[ModuleKind] = frozenset({"shape", "dropout", "normalisation"})
PASSIVE: frozenset[ModuleKind] = frozenset({"shape", "dropout"})
LEARNS = 0.5


class MissingNonlinearity(Rule):
    """Affine layers follow each other with no activation between them.

    What it means:
        An affine map of an affine map is an affine map: the layers together can do no more than a single one.

    Why it hurts:
        The network has the parameters of a deep one and draws straight boundaries all the same; what is not linear in
        the data it can never fit, however long it trains.

    How it is decided:
        Exactly, from the first training pass: a Linear or convolution was called with the untouched output of another
        one, or with that output after nothing but dropout, reshaping or normalisation. A warning where this holds for
        every affine module but the first, so that the whole network is affine; info where it holds for some.

    What to try:
        An activation (ReLU, GELU, tanh) after every hidden layer.

    Not reported when:
        There is one affine module, or anything was computed between two (an activation, a sum, a product). A middle
        that is narrower than both ends is meant as a factorisation, a bottleneck or a low-rank adapter, and a depthwise
        convolution as one half of a separable one: such pairs are left out, and a network that is affine as a whole
        gets info.

    References:
        UMLAUT (CHI 2021), missing activations; Goodfellow et al., Deep learning (2016), section 6.1.
    """

    code: ClassVar[str] = "M001"
    name: ClassVar[str] = "missing-nonlinearity"
    exact: ClassVar[bool] = True

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, at the first layer whose output lacks an activation."""
        anatomy = digest.anatomy
        if anatomy is None or not anatomy.feeds:
            return
        modules = leaves(digest)
        called = _affine(modules)
        pairs = _affine_pairs(anatomy, modules)
        if not pairs:
            return
        whole = len(called) - 1 == len({target for _, target in pairs}) and not _has_other_ways(modules)
        narrow = [pair for pair in pairs if _is_narrow(digest, *pair, pair[0] == called[0])]
        wide = [pair for pair in pairs if pair not in narrow]
        if not whole and not wide:
            return
        severity: Severity = "warning" if whole and not narrow else "info"
        named = pairs if whole else wide
        sources = [source for source, _ in named]
        what = (
            f"No activation stands between the {len(called)} affine layers: the whole network is one affine map."
            if whole
            else f"What comes out of {worded_paths(sources)} goes into {worded_paths(target for _, target in named)} "
            "with no activation between: together they are one affine map."
        )
        yield Finding(
            self.code,
            self.name,
            severity,
            sources[0],
            anatomy.step,
            summary=what,
            evidence=(Evidence("affine_pairs", "", anatomy.step, float(len(pairs)), 0.0),),
            advice=(
                f"Put an activation after {worded_paths(sources)}, as torch.nn.ReLU().",
                "If a linear model is meant, a single layer does the same.",
            ),
            phase="forward",
            ruled_out=(
                f"Not a last layer without activation, which is right: {len(pairs)} of {len(called) - 1} later layers "
                "are fed by another one.",
            ),
            confidence=0.95 if severity == "warning" else 0.6,
        )


class HiddenSoftmax(Rule):
    """A softmax stands between two layers.

    What it means:
        The outputs of a hidden layer sum to 1 over its units. Each is about 1 / width, and one can grow only at the
        cost of all others.

    Why it hurts:
        The signal shrinks by the width, and so does the gradient: the layers in front hardly learn.

    How it is decided:
        From the first training pass: outputs of a module are not negative and sum to 1 over the last dimension, and a
        Linear or convolution was called with them, with nothing but dropout or reshaping between; or such a module,
        behind the first, was called with numbers that do, whatever computed them. A warning; info when
        the run learns all the same: half of what an uninformed model gets wrong is explained, or the loss has fallen by
        half. Info also where it has fewer units than the layers on both sides have on theirs: shares of a few topics,
        codes or components.

    What to try:
        ReLU, GELU or tanh in its place; softmax belongs to the output, and to attention.

    Not reported when:
        Anything else uses its output (attention weights, gates, mixtures, the loss).

    References:
        TheDeepChecker (TOSEM 2022), softmax as hidden activation; Goodfellow et al., Deep learning (2016), section 6.2.
    """

    code: ClassVar[str] = "M002"
    name: ClassVar[str] = "hidden-softmax"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """One finding per such module, in forward order."""
        anatomy = digest.anatomy
        if anatomy is None or not (anatomy.sums_to_one or anatomy.given_shares):
            return
        modules = leaves(digest)
        sources = _sources(anatomy)
        hidden = {
            source: target
            for target in _affine(modules)
            if (source := _source(sources, modules, target, PASSIVE)) in anatomy.sums_to_one
        }
        behind = _affine(modules)[1:]  # what the first is given are the data
        given = [each for each in behind if each in anatomy.given_shares and each not in hidden.values()]
        fit, loss = fit_of(digest), training_loss(digest)
        fitted = fit.share >= LEARNS if fit is not None else loss_has_fallen(loss, LEARNS)
        for path, target in [*hidden.items(), *((None, each) for each in given)]:
            before = _source(sources, modules, path or "", PASSIVE)
            meant = before in modules and modules[before].kind == "affine" and _is_narrow(digest, before, target, False)
            learns = fitted or meant
            what = (
                f"The outputs of {worded(modules[path])} sum to 1 over its units"
                if path
                else "Numbers that sum to 1 over the units"
            )
            softmax = worded(modules[path]) if path else "the softmax"
            yield Finding(
                self.code,
                self.name,
                "info" if learns else "warning",
                path or target,
                anatomy.step,
                summary=f"{what}{' and' if path else ''} go into {worded(modules[target])}: a softmax where an "
                "activation is meant.",
                evidence=(
                    Evidence("row_sum", path or target, anatomy.step, 1.0, 1.0),
                    *(() if fit is None else (Evidence(fit.metric, "", fit.step, fit.value, fit.bound),)),
                ),
                advice=(f"Put torch.nn.ReLU(), GELU() or Tanh() in place of {softmax}.",),
                phase="forward",
                ruled_out=(f"Not attention or a gate: its output goes straight into {worded(modules[target])}.",),
                confidence=0.6 if learns else 0.9,
            )


def _affine(modules: dict[str, Module]) -> list[str]:
    """The affine modules, in forward order."""
    return [path for path, module in modules.items() if module.kind == "affine"]


def _sources(anatomy: Anatomy) -> dict[str, str]:
    """By module, the first one whose output it was called with."""
    return {feed.target: feed.source for feed in reversed(anatomy.feeds)}


def _source(
    sources: dict[str, str], modules: dict[str, Module], path: str, through: frozenset[ModuleKind]
) -> str | None:
    """The module whose output reached this one, looked for through modules of these kinds; None where unknown."""
    seen: set[str] = set()
    while (path := sources.get(path, "")) and path in modules and path not in seen:
        if modules[path].kind not in through:
            return path
        seen.add(path)
    return None


def _affine_pairs(anatomy: Anatomy, modules: dict[str, Module]) -> list[tuple[str, str]]:
    """Affine modules that follow each other with nothing but linear ones between: (first, second), in order."""
    sources = _sources(anatomy)
    found = ((_source(sources, modules, path, LINEAR), path) for path in _affine(modules))
    return [(source, path) for source, path in found if source is not None and modules[source].kind == "affine"]


def _has_other_ways(modules: dict[str, Module]) -> bool:
    """Whether modules are there that may compute anything."""
    return any(each.kind in ("recurrent", "attention", "embedding", "other") for each in modules.values())


def _is_narrow(digest: Digest, source: str, target: str, opening: bool) -> bool:
    """Whether what lies between two layers is narrower than both ends, or the first works channel by channel.

    Args:
        digest: For the shapes.
        source: Path of the first layer.
        target: Path of the second.
        opening: Whether the first is that of the network: one input channel is then that of the data.
    """
    shapes = {each.path.rpartition(".")[0]: each.shape for each in digest.parameters if len(each.shape) >= 2}
    first, second = shapes.get(source), shapes.get(target)
    if first is None or second is None:
        return True
    if len(first) > 2 and first[1] == 1 < first[0] and not opening:
        return True
    return first[0] < prod(first[1:]) and first[0] < second[0]
