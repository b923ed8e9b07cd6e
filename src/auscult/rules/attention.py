"""Rules about attention: M003 attention-collapse, M004 attention-leak.

Know how the attention weights of a module are spread on average, not what a single head looks at.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from auscult.core.digest import Digest
from auscult.core.finding import Evidence, Finding, Severity
from auscult.rules.channels import finite_tails, listing, worded_paths
from auscult.rules.course import course
from auscult.rules.rule import Rule

BLOCKS, SETTLED = 2, 4
FLAT, UNIFORM, SINGLE = 0.995, 0.999999, 0.02  # shares of the largest entropy
GUESSING = 0.8  # share of the uninformed loss
AHEAD, SHIFTED = 1e-4, 0.9  # attention mass, share of the targets


class AttentionCollapse(Rule):
    """Attention weights depend on nothing, or on a single position.

    What it means:
        *Flat*: all positions get the same weight, so queries and keys do nothing and the module takes a mean. *Single*:
        nearly all weight lies on one position, the softmax is saturated and passes no gradient to queries and
        keys.

    Why it hurts:
        Order and content can no longer be told apart (flat), or the pattern can no longer change (single).

    How it is decided:
        From `attention_entropy`, the mean over heads and queries as a share of its largest value, over the last two
        blocks. *Flat* in every module: at least 0.999999 from the first observation on (queries or keys are exactly 0
        or cut off) or 0.995 after four blocks; a warning. In some modules only: info, since early layers of
        healthy models average. *Single*: at most 0.02 in a module; a warning when the loss is still above 0.8 of the
        uninformed loss, info otherwise.

    What to try:
        Flat: check that queries and keys are initialised, trained and scaled by 1 / sqrt(d), and that positions are
        added. Single: normalise queries and keys, lower the learning rate.

    Not reported when:
        Fewer than two blocks were observed; attention is computed by a kernel that keeps its weights to itself.

    References:
        Zhai et al., Stabilizing transformer training by preventing attention entropy collapse (ICML 2023); Wortsman et
        al., Small-scale proxies for large-scale transformer training instabilities (2023); DEFault-bench (2026), zeroed
        queries.
    """

    code: ClassVar[str] = "M003"
    name: ClassVar[str] = "attention-collapse"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, at the module or for all of them."""
        paths, states = digest.select("attention_entropy")
        if not paths:
            return
        lowest = finite_tails(states["recent_minimum"], BLOCKS).min(1)
        highest = finite_tails(states["recent_maximum"], BLOCKS).max(1)
        exact = (states["minimum"] >= UNIFORM) & (lowest >= UNIFORM)
        flat = exact | ((lowest >= FLAT) & (states["blocks"] >= SETTLED))
        if flat.any():
            yield self._flat(paths, states, flat, exact)
        elif (highest <= SINGLE).any():
            yield self._single(digest, paths, states, highest <= SINGLE)

    def _flat(
        self, paths: list[str], states: NDArray[np.void], flat: NDArray[np.bool_], exact: NDArray[np.bool_]
    ) -> Finding:
        concerned = [path for path, each in zip(paths, flat.tolist()) if each]
        number = int(flat.argmax())
        state, everywhere = states[number], bool(flat.all())
        how = "exactly " if bool(exact[number]) else ""
        return Finding(
            self.code,
            self.name,
            "warning" if everywhere else "info",
            concerned[0],
            int(state["first_step"]),
            summary=f"Attention in {worded_paths(concerned)} is {how}uniform ({len(concerned)} of {len(paths)}): "
            "queries and keys have no effect.",
            evidence=(
                Evidence(
                    "attention_entropy", paths[number], int(state["last_step"]), float(state["recent_mean"][-1]), FLAT
                ),
            ),
            advice=(
                "Check that queries and keys are initialised, receive a gradient and are in the optimizer.",
                "Scale the products by 1 / sqrt(d), not by less; check that positions are added.",
            ),
            phase="forward",
            ruled_out=(f"Not the start alone: it has lasted for {int(state['blocks'])} blocks.",),
            confidence=0.95 if bool(exact[number]) else 0.7,
        )

    def _single(self, digest: Digest, paths: list[str], states: NDArray[np.void], single: NDArray[np.bool_]) -> Finding:
        way = course(digest)
        number = int(single.argmax())
        state: Any = states[number]
        stuck = way is not None and way.standing >= GUESSING
        severity: Severity = "warning" if stuck else "info"
        concerned = [path for path, each in zip(paths, single.tolist()) if each]
        return Finding(
            self.code,
            self.name,
            severity,
            paths[number],
            int(state["last_step"]),
            summary=f"Attention in {worded_paths(concerned)} has collapsed to single positions: entropy "
            f"{float(state['recent_mean'][-1]):.2g} of its largest value.",
            evidence=(
                Evidence(
                    "attention_entropy",
                    paths[number],
                    int(state["last_step"]),
                    float(state["recent_mean"][-1]),
                    SINGLE,
                ),
                *((way.evidence(),) if way is not None and stuck else ()),
            ),
            advice=(
                "Normalise queries and keys (QK norm), or lower the learning rate with warm-up.",
                "Check the scale 1 / sqrt(d) of the products, and masks that leave one position only.",
            ),
            phase="forward",
            confidence=0.8 if stuck else 0.4,
        )


class AttentionLeak(Rule):
    """A model that predicts the next token looks at it.

    What it means:
        The targets are the inputs shifted by one, and attention puts weight on later positions: the answer is among
        what the model sees.

    Why it hurts:
        The loss falls far below what is possible, and the model is useless where the future is not there.

    How it is decided:
        `attention_ahead` is above 1e-4 in the last two blocks in a module, and at the first pass at least 0.9 of the
        targets were the input of the next position (`Anatomy.next_token`). A warning; critical when the loss is also
        below a tenth of the uninformed loss.

    What to try:
        The causal mask: is_causal=True, or a mask of -inf above the diagonal, added before the softmax.

    Not reported when:
        Targets are not the shifted inputs (masked language models, encoders, classification) or were not observed.

    References:
        Vaswani et al., NeurIPS 2017, section 3.2.3; DEFault-bench (2026), masks set to zero.
    """

    code: ClassVar[str] = "M004"
    name: ClassVar[str] = "attention-leak"

    def check(self, digest: Digest) -> Iterator[Finding]:
        """At most one finding, at the first module concerned."""
        anatomy = digest.anatomy
        if anatomy is None or anatomy.next_token is None or anatomy.next_token < SHIFTED:
            return
        paths, states = digest.select("attention_ahead")
        if not paths:
            return
        lowest = finite_tails(states["recent_minimum"], BLOCKS)
        leaks = np.flatnonzero(np.fmin.reduce(lowest, axis=1) > AHEAD).tolist()
        if not leaks:
            return
        way, state = course(digest), states[leaks[0]]
        low = way is not None and way.standing < 0.1
        step = int(state["first_step"])
        yield Finding(
            self.code,
            self.name,
            "critical" if low else "warning",
            paths[leaks[0]],
            step,
            summary=f"{listing([paths[each] for each in leaks])} put {float(state['recent_mean'][-1]):.1%} of the "
            f"attention on later positions, where the targets are ({anatomy.next_token:.0%} of them are the next "
            "input).",
            evidence=(
                Evidence("attention_ahead", paths[leaks[0]], step, float(state["first"]), AHEAD),
                *((way.evidence(),) if way is not None else ()),
            ),
            advice=(
                "Use the causal mask: scaled_dot_product_attention(..., is_causal=True), or -inf above the diagonal "
                "before the softmax.",
            ),
            phase="forward",
            ruled_out=("Not an encoder: its targets would not be the next input.",),
            confidence=0.95,
        )
