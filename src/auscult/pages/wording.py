"""Wording: how names and figures from a run are put into sentences.

Knows nothing of HTML or terminals, whose libraries it must not import into a training run: escaping for these is
done where the text is placed.
"""

import math
from collections.abc import Sequence

from auscult.core.catalogue import METRICS
from auscult.core.finding import Finding
from auscult.core.visible import shown as shown
from auscult.core.visible import shown_lines as shown_lines

MAX_TEXT = 2000
NAMED_SCOPES = ("group", "rank", "category")
"""What a path names that does not tell by itself what it is."""
SEVERITY_WORDS = {"critical": "Critical", "warning": "Warning", "info": "Note"}


def place(path: str, metric: str = "") -> str:
    """Where something is, in words: the path, or the whole run for `""`; `group 0` for the path of an `lr`.

    What has a mere number for a path, as in a Sequential, is a module: `module 9`.
    """
    if not path:
        return "the whole run"
    known = METRICS.get(metric)
    if known is not None and known.scope in NAMED_SCOPES:
        return f"{known.scope} {shown(path)}"
    return f"module {path}" if path.isdecimal() and (known is not None or not metric) else shown(path)


def figure(value: float | None, digits: int = 4) -> str:
    """A number in a few significant digits; `NaN`, `inf`, and an en dash where there is none."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.{digits}g}"


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """A text, or its beginning with how long it is, where that is too long to be read."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text):,} characters)"


def percent(share: float) -> str:
    """A share as `20.25%`; an en dash where it is NaN, that is, of nothing."""
    return "–" if math.isnan(share) else f"{100 * share:.4g}%"


def dimensions(shape: Sequence[int]) -> str:
    """A shape as `64 × 64`."""
    return " × ".join(f"{each:,}" for each in shape) or "scalar"


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 step`, `2,000 steps`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(names: Sequence[str], limit: int = 4) -> str:
    """Names in a row, the rest counted: `a, b and 3 more`."""
    head = [shown(each) for each in names[:limit]]
    rest = len(names) - len(head)
    if rest:
        return f"{', '.join(head)} and {rest:,} more"
    return " and ".join((", ".join(head[:-1]), head[-1])) if len(head) > 1 else "".join(head)


def ignored_line(patterns: Sequence[str]) -> str:
    """`2 findings ignored by U002 and G004:head.*`, of the pattern that each of them fits."""
    return f"{counted(len(patterns), 'finding')} ignored by {listed(list(dict.fromkeys(patterns)))}."


def finding_line(finding: Finding) -> str:
    """One line for a log: `CRITICAL G001 exploding-gradient, conv1.weight since step 41: summary Try: advice`."""
    recovered = " recovered" if finding.status == "recovered" else ""
    return (
        f"{finding.severity.upper()}{recovered} {finding.code} {shown(finding.name)}, {place(finding.path)} "
        f"since step {finding.step:,}: {shown_lines(finding.summary)} Try: {shown_lines(finding.advice[0])}"
    )
