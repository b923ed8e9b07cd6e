"""Metric: what a recorded or derived number means.

Knows nothing of how a number is measured or drawn; every entry lives in `auscult.core.catalogue`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scope = Literal["run", "group", "parameter", "module", "category", "rank"]
Stream = Literal["steps", "norms", "sampled", "user", "evaluation"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of the catalogue.

    Attributes:
        name: The key under which the number is recorded and read.
        unit: `"1"` for a pure number, otherwise the unit in plain words.
        scope: What a path of this metric names.
        stream: The stream that records it; for a derived metric the stream of its first input.
        formula: The definition, in which theta is the parameter *after* the update and g its gradient.
        moment: At which point of a training step the number is taken.
        across_ranks: How the numbers of several ranks become one.
        adds_up: Whether the squares over parameters add up to the square of the module's and the model's value.
        guide: What is usual, in words; priors, not verdicts.
        reference: Where the definition or the guide comes from.
        inputs: For a derived metric, the recorded metrics it is computed from when read.
        derive: For a derived metric, the function of these inputs (arrays of equal shape).
        when_missing: What a parameter that was not observed at a step adds to such a sum: nothing (`zero`: no gradient,
            no update), or what it last did (`last`: a parameter that was not updated is still there).
    """

    name: str
    unit: str
    scope: Scope
    stream: Stream
    formula: str
    moment: str
    across_ranks: Literal["root_sum_square", "mean", "sum", "max", "rank0", "per_rank"]
    adds_up: bool = False
    guide: str = ""
    reference: str = ""
    inputs: tuple[str, ...] = ()
    derive: Callable[..., NDArray[np.float64]] | None = None
    when_missing: Literal["zero", "last"] = "zero"
