"""Rule: one way in which a training run goes wrong, as a pure function of a digest.

Knows nothing of runs, files, clocks or other rules: the same digest always gives the same findings.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from auscult.core.digest import Digest
from auscult.core.finding import Finding

ZERO_ROWS = 8
"""Rows after which a streak of exact zeros counts. Fewer are usual: a branch behind a zero initialisation has no
gradient until the zero has moved, and a warm-up that starts at 0 makes a first update of 0."""

EXACT_METRICS = frozenset(
    {
        "grad_norm",
        "param_norm",
        "update_norm",
        "lr",
        "activation_std",
        "param_mean",
        "param_std",
        "update_mean",
        "update_std",
        "rank_differs",
        "rank_loss",
    }
)
"""Metrics that exact rules may look at, besides the training loss."""


class Rule(ABC):
    """One way in which a training run goes wrong.

    The docstring of a rule is its page in the manual.

    Attributes:
        code: A letter for the family and three digits; never reused.
        name: Kebab-case.
        exact: Whether the rule rests on invariants alone and is asked at every row. Such a rule may look only at
            channels of `EXACT_METRICS` and the training loss, and only at what stays as it is while none of them
            becomes or ceases to be non-finite, zero or unobserved: first values and steps, non-finite steps, streaks of
            zeros and counts of rows of norms up to `ZERO_ROWS`, facts of the segment, the audit. Once it has found
            something it may also say what changes with every block. Any other rule is asked once per closed block.
        unexplained: Whether the rule only says that something is wrong; it is not told where another alarm says what.
    """

    code: ClassVar[str]
    name: ClassVar[str]
    exact: ClassVar[bool] = False
    unexplained: ClassVar[bool] = False

    @abstractmethod
    def check(self, digest: Digest) -> Iterator[Finding]:
        """The findings of this rule, in any order."""
