"""Selection: which numbers of a run a tracker gets, and how often."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from auscult.core.errors import SetupError
from auscult.core.metric import Stream
from auscult.core.sink import Channel

USUAL = (
    "grad_norm/*",
    "update_ratio/*",
    "activation_std/*",
    "saturated_fraction/*",
    "dead_fraction/*",
    "grad_histogram/*",
    "param_histogram/*",
    "activation_histogram/*",
)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is sent: numbers of the whole run often, those of single parameters and modules rarely and not all.

    Numbers of the whole run are what the user logs, learning rates, times, clipping, and the totals of norms.
    Evaluations are always sent.

    Attributes:
        every: Of a number of the whole run, the first value in each window of so many steps.
        paths_every: The same for numbers of single parameters and modules.
        include: Patterns of the keys (`metric/path`) of single parameters and modules; the others are left out.
        exclude: Patterns of any keys to leave out.
        limit: So many keys of single parameters and modules at most. A metric is sent for all of its selected paths or,
            where they would go beyond the limit, for none; and so it is with each kind of histogram.

    Raises:
        SetupError: if a window or the limit is not a whole number, or patterns are given as one string.
    """

    every: int = 10
    paths_every: int = 100
    include: Sequence[str] = USUAL
    exclude: Sequence[str] = ()
    limit: int = 500

    def __post_init__(self) -> None:
        for name, least in (("every", 1), ("paths_every", 1), ("limit", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise SetupError(f"Expected `{name}` to be a whole number, {least} or more, but got {value!r}.")
        for name in ("include", "exclude"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise SetupError(f"Expected `{name}` to be several patterns, but got one string. Write [{value!r}].")
            object.__setattr__(self, name, tuple(value))

    def whole(self, key: str) -> bool:
        """Whether a number of the whole run is sent."""
        return not any(fnmatchcase(key, each) for each in self.exclude)

    def single(self, key: str) -> bool:
        """Whether a number of one parameter or module is sent, as far as the limit allows."""
        return self.whole(key) and any(fnmatchcase(key, each) for each in self.include)


class Sieve:
    """A selection at work on one run: remembers what was sent last, and which metrics fit into the limit.

    Attributes:
        refused: Keys that the limit leaves out, by metric.
    """

    def __init__(self, selection: Selection) -> None:
        self.refused: dict[str, int] = {}
        self._selection = selection
        self._known: dict[str, set[str]] = {}  # paths by metric
        self._admitted: dict[str, set[str]] = {}  # those of them that are sent
        self._count = 0  # of the latter
        self._whole: dict[str, bool] = {}
        self._windows: dict[object, int] = {}
        self._window = -1  # of what the user logs
        self._patterns: set[bytes] = set()  # which numbers the rows in it had

    def begin(self, sent: Mapping[Stream, int]) -> None:
        """Earlier attempts have sent rows up to these steps."""
        for stream, step in sent.items():
            self._windows[stream, "whole"] = step // self._selection.every
            self._windows[stream, "single"] = step // self._selection.paths_every

    def due(self, stream: Stream, step: int) -> tuple[bool, bool]:
        """Whether a row's numbers of the whole run are to be sent, and those of single parameters and modules."""
        if stream == "evaluation":
            return True, False
        if stream == "user":  # in which each name has a cadence of its own
            return True, False
        whole = self._opens((stream, "whole"), step // self._selection.every)
        if stream == "steps":
            return whole, False
        return whole, self._opens((stream, "single"), step // self._selection.paths_every)

    def news(self, step: int, seen: NDArray[np.bool_]) -> bool:
        """Whether a row of what the user logged may have a number whose window has none yet.

        Args:
            step: The step of the row.
            seen: Which numbers it has, `(C,)`; where no row of this window had just these, one may be new.
        """
        window, names = step // self._selection.every, seen.tobytes()
        if window != self._window:
            self._window = window
            self._patterns.clear()
        elif names in self._patterns:
            return False
        self._patterns.add(names)
        return True

    def user(self, step: int, channel: Channel) -> bool:
        """Whether a number that the user logged is to be sent."""
        return self._opens(channel, step // self._selection.every)

    def whole(self, key: str) -> bool:
        """As `Selection.whole`."""
        known = self._whole.get(key)
        if known is None:
            known = self._whole[key] = self._selection.whole(key)
        return known

    def single(self, metric: str, paths: Iterable[str]) -> AbstractSet[str]:
        """The paths of which a metric is sent; what is decided once stays."""
        known = self._known.setdefault(metric, set())
        new = [each for each in paths if each and each not in known]
        admitted = self._admitted.setdefault(metric, set())
        if new:
            known.update(new)
            wanted = [each for each in new if self._selection.single(key_of(metric, each))]
            if wanted and (metric in self.refused or self._count + len(wanted) > self._selection.limit):
                self.refused[metric] = self.refused.get(metric, 0) + len(wanted)
            else:
                self._count += len(wanted)
                admitted.update(wanted)
        return admitted

    def _opens(self, name: object, window: int) -> bool:
        if self._windows.get(name, -1) >= window:
            return False
        self._windows[name] = window
        return True


def key_of(metric: str, path: str) -> str:
    """What a number is called in a tracker: `grad_norm/conv1.weight`, and `grad_norm` for the whole run."""
    return f"{metric}/{path}" if path else metric
