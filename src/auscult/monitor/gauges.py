"""Gauges: everything that is measured on a model, and the rows it becomes.

Knows neither optimizers nor the order of events in a step; the Monitor says when.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from auscult.core.catalogue import METRICS
from auscult.core.detail import Detail
from auscult.core.metric import Stream
from auscult.core.run import Parameter, Run
from auscult.core.sink import Channel, Record, Rows, Values, empty_row, observed, to_float32, unobserved
from auscult.metrics.activations import METRICS as ACTIVATIONS
from auscult.metrics.activations import Activations, Taken
from auscult.metrics.directions import METRICS as DIRECTIONS
from auscult.metrics.directions import TWINS, has_units
from auscult.metrics.environment import resident_bytes
from auscult.metrics.examination import Examination, fan_ins_of
from auscult.metrics.feeds import FirstPass
from auscult.metrics.ledger import Ledger
from auscult.monitor.arguments import is_compiled
from auscult.monitor.draft import Columns, Draft, is_finite
from auscult.monitor.witness import METRICS as WITNESSED

FINITE = Channel("finite", "")
NORMS = ("grad_norm", "param_norm", "update_norm")
INTENDED = "intended_update_norm"
MOMENTS = ("grad_mean", "grad_std", "param_mean", "param_std", "update_mean", "update_std")
RUN = ("memory", *WITNESSED)
_STREAMS: tuple[Stream, ...] = ("steps", "norms", "sampled", "user", "evaluation")


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What was measured of one step, where it is to stand for all ranks; not rounded.

    Attributes:
        norms: float64 `(3, P)` of gradient, parameter and update.
        sampled: float64 `(6 P + 6 M + R,)`: moments of P parameters, of M modules, and numbers of the whole run.
        directions: float64 `(3, P)`.
        figures: What only some modules have.
        labelled: What single ranks said of themselves.
    """

    norms: NDArray[np.float64]
    sampled: NDArray[np.float64] | None
    directions: NDArray[np.float64] | None
    figures: Mapping[Channel, float]
    labelled: Mapping[Channel, float] = field(default_factory=dict[Channel, float])

    @property
    def finite(self) -> bool:
        """Whether every norm is finite, as far as it was observed."""
        return bool(np.isfinite(self.norms[observed(self.norms)]).all())


class Gauges:
    """The instruments on one model.

    Attributes:
        ledger: Gradients, parameters and updates.
        activations: The hooks on the leaf modules; None where they were not wanted, or would never be called.
        activations_wanted: Whether they were wanted.
        table: The ledger's parameters, in its order.
        on_gpu: Whether the model was on a CUDA device, for whose numbers nobody must wait when they are made.
        examined: The last two steps that were to be examined.
    """

    def __init__(
        self,
        model: nn.Module,
        tensors: Sequence[nn.Parameter],
        table: Sequence[Parameter],
        past: Run | None,
        activations: bool,
        snapshot: bool,
        failed: Callable[[str, Exception], None],
    ) -> None:
        self._failed = failed
        self.ledger = Ledger(tensors, snapshot)
        self.activations = Activations(model, failed) if activations and not is_compiled(model) else None
        known = {stream: past.source.channels(stream) for stream in past.streams} if past is not None else {}
        self._columns = {stream: Columns(stream, known.get(stream, ())) for stream in _STREAMS}
        self._own: dict[tuple[Stream, tuple[Channel, ...]], list[Channel]] = {}  # by what the user logged together
        self.activations_wanted, self.table = activations, tuple(table)
        self.examined: deque[int] = deque(maxlen=2)
        self._fan_ins = fan_ins_of(model)
        paths = [each.path for each in table]
        modules = self.activations.paths if self.activations is not None else ()
        self._parameters, self._modules = len(paths), len(modules)
        self._width = 6 * (self._parameters + self._modules) + len(RUN)
        self._device = tensors[0].device
        self.on_gpu = self._device.type == "cuda"
        norms = (*NORMS[:2], NORMS[2] if snapshot else INTENDED)
        self._norms = self._columns["norms"].positions([Channel(metric, path) for metric in norms for path in paths])
        self._sampled = self._columns["sampled"].positions(
            [Channel(metric, path) for metric in MOMENTS for path in paths]
            + [Channel(metric, path) for metric in ACTIVATIONS for path in modules]
            + [Channel(metric, "") for metric in RUN]
        )
        self._pointing = _directed(table, snapshot)
        self._directions = self._columns["sampled"].positions(
            [Channel(DIRECTIONS[kind], paths[number]) for kind, number in zip(*self._pointing, strict=True)]
        )

    def arm(self, draft: Draft, resting: bool) -> None:
        """Let the instruments measure what is wanted of a step, or sleep.

        Args:
            draft: The step.
            resting: Whether the hooks of those that sleep may be taken off.
        """
        self.ledger.examination = draft.examination
        if self.activations is not None:
            self.activations.arm(draft.sampled, draft.examination, resting)

    def begin_pass(self) -> None:
        """The model is about to be called for training."""
        if self.activations is not None:
            self.activations.begin_pass()

    def leave_alone(self, wanted: bool) -> None:
        """While the model evaluates nothing of ours is in it."""
        if self.activations is not None:
            self.activations.leave_alone(wanted)

    def examine(self, step: int) -> Examination:
        """What will take everything about a step."""
        self.examined.append(step)
        paths = () if self.activations is None else self.activations.paths
        return Examination(step, self.table, paths, self._fan_ins)

    def order(self) -> list[str]:
        """The leaf modules in the order of their first calls; empty before the first armed pass."""
        return [] if self.activations is None else self.activations.order

    def first_pass(self) -> FirstPass:
        """What the first armed pass showed of the leaf modules; waits for the device."""
        seen = self.activations
        return FirstPass() if seen is None else FirstPass(seen.feeds, seen.sums_to_one, seen.given_shares)

    def touched(self) -> bool:
        """Whether a leaf module has been called for training since the step began."""
        return self.activations is not None and self.activations.touched

    def spent(self) -> float:
        """Seconds spent in the activation hooks since the last call."""
        if self.activations is None:
            return 0.0
        spent, self.activations.spent = self.activations.spent, 0.0
        return spent

    def end_step(self, draft: Draft) -> None:
        """The step is over: nothing more is taken of it, and what lies on a GPU sets out for the host."""
        if self.activations is not None and (draft.sampled or self.activations.touched):
            taken = self.activations.take()
            draft.activations = taken if draft.sampled else None
        if self.on_gpu:
            self.ledger.send()
            if draft.activations is not None:
                draft.activations.send()

    def detail(self, draft: Draft) -> Detail | None:
        """Everything about a finished step, where that was wanted."""
        if draft.examination is None:
            return None
        try:
            return draft.examination.detail()
        except Exception as error:  # the rows are not lost with it
            self._failed("examination", error)
            return None

    def measured(self, draft: Draft) -> list[Record]:
        """The rows of norms and samples of a finished step, where they were taken; brings them to the host."""
        if not draft.norms_taken and not draft.sampled:
            return []
        try:
            return self._measured(draft)
        except Exception as error:  # what the user logged is not lost with it
            self._failed("measuring", error)
            return []

    def rows(self, finished: Sequence[tuple[Draft, Sequence[Record]]]) -> list[Rows]:
        """All rows of finished steps, given those of norms and samples, stream by stream."""
        told: dict[Stream, list[tuple[int, dict[Channel, float]]]] = {"steps": [], "user": [], "evaluation": []}
        rows: list[Rows] = []
        for draft, measured in finished:
            draft.transfer.wait()
            steps = {channel: float(value) for channel, value in draft.steps.items()}
            sound = _are_finite(steps.values()) and all(map(is_finite, measured))
            for stream, values in self._user_values(draft):
                sound = sound and _are_finite(values.values())
                told[stream].append((draft.step, values))
            steps[FINITE] = float(sound)
            told["steps"].append((draft.step, steps))
            rows += map(Rows.of, measured)
        for stream, values in told.items():
            rows += self._columns[stream].rows(values)
        return rows

    def user_rows(self, draft: Draft) -> list[Rows]:
        """The rows of what the user logged in a step that was never finished."""
        told = self._user_values(draft)
        return [rows for stream, values in told for rows in self._columns[stream].rows([(draft.step, values)])]

    def _user_values(self, draft: Draft) -> Iterator[tuple[Stream, dict[Channel, float]]]:
        """What the user logged, stream by stream, where it was anything."""
        if draft.logged or draft.sums:
            yield "user", self._apart("user", draft.user_values())
        if draft.evaluated:
            yield "evaluation", self._apart("evaluation", draft.evaluation_values())

    def _apart(self, stream: Stream, values: dict[Channel, float]) -> dict[Channel, float]:
        key = stream, tuple(values)
        own = self._own.get(key)
        if own is None:
            own = self._own[key] = [self._own_channel(stream, channel) for channel in values]
            self._columns[stream].positions(own)
        return dict(zip(own, values.values(), strict=True))

    def _own_channel(self, stream: Stream, channel: Channel) -> Channel:
        """The channel, or `stream/name` where the other of the user's two streams has had that name before."""
        other = self._columns["evaluation" if stream == "user" else "user"]
        if channel in self._columns[stream] or channel not in other:
            return channel
        return Channel(f"{stream}/{channel.metric}", channel.path)

    def _measured(self, draft: Draft) -> list[Record]:
        norms = empty_row("norms", 3 * self._parameters).reshape(3, -1)
        sampled = empty_row("sampled", self._width) if draft.sampled else None
        directions = empty_row("sampled", 3 * self._parameters).reshape(3, -1)
        figures = self._collect(draft, norms, sampled, directions)
        rows = [self._place("norms", draft.step, self._norms, norms.reshape(-1))] if draft.norms_taken else []
        if sampled is not None:
            places = [*self._sampled, *self._directions, *self._columns["sampled"].positions(tuple(figures))]
            values = np.concatenate([sampled, directions[self._pointing], to_float32(np.array([*figures.values()]))])
            rows.append(self._place("sampled", draft.step, places, values))
        return rows

    def _collect(
        self, draft: Draft, norms: Values, sampled: Values | None, directions: Values
    ) -> Mapping[Channel, float]:
        """Bring to the host what was measured, into rows of float32 or float64; see `Measured`."""
        split, end = 6 * self._parameters, self._width - len(RUN)
        moments = None if sampled is None else sampled[:split].reshape(3, 2, self._parameters)
        self.ledger.collect(norms, moments, None if sampled is None else directions)
        if sampled is None:
            return {}
        figures = {} if draft.activations is None else self._write_activations(draft.activations, sampled[split:end])
        told = {"memory": _memory(self._device), **(draft.witnessed() if draft.witnessed is not None else {})}
        known = [position for position, metric in enumerate(RUN) if metric in told]
        values = np.array([told[RUN[position]] for position in known])
        sampled[end:][known] = values if sampled.dtype == np.float64 else to_float32(values)
        return figures

    # -- of one rank of several: taken here, added up elsewhere, placed here again ------------------------------------

    def local_sizes(self) -> list[int]:
        """Elements of what this rank holds of each parameter."""
        return self.ledger.sizes

    def across(self) -> list[str]:
        """How what is sampled besides moments of parameters becomes one number, for each of 6 M + R."""
        metrics = [*(metric for metric in ACTIVATIONS for _ in range(self._modules)), *RUN]
        ways = [METRICS[metric].across_ranks for metric in metrics]
        return ["rank0" if way == "max" else way for way in ways]

    def taken(self, draft: Draft) -> Measured | None:
        """What was measured of a finished step, on the host; None where nothing was, or it failed."""
        if not draft.norms_taken and not draft.sampled:
            return None
        norms, directions = unobserved(3, self._parameters), unobserved(3, self._parameters)
        sampled = unobserved(self._width) if draft.sampled else None
        try:
            figures = self._collect(draft, norms, sampled, directions)
        except Exception as error:
            self._failed("measuring", error)
            return None
        return Measured(norms, sampled, directions if draft.sampled else None, figures)

    def with_memory(self, sampled: NDArray[np.float64], largest: float) -> NDArray[np.float64]:
        """A row of what was sampled, with the memory of the rank that needs most."""
        sampled[self._width - len(RUN) + RUN.index("memory")] = largest
        return sampled

    def memory(self, measured: Measured) -> float:
        """The memory of this rank."""
        return 0.0 if measured.sampled is None else float(measured.sampled[self._width - len(RUN)])

    def placed(self, draft: Draft, measured: Measured) -> list[Record]:
        """The rows of a step."""
        labels = self._columns["norms"].positions(tuple(measured.labelled))
        norms = _float32(np.concatenate([measured.norms.reshape(-1), np.array([*measured.labelled.values()])]))
        rows = [self._place("norms", draft.step, [*self._norms, *labels], norms)]
        if measured.sampled is None:
            return rows
        places, values = [*self._sampled], [measured.sampled]
        if measured.directions is not None:
            places += self._directions
            values.append(measured.directions[self._pointing])
        places += self._columns["sampled"].positions(tuple(measured.figures))
        values.append(np.array([*measured.figures.values()]))
        return [*rows, self._place("sampled", draft.step, places, _float32(np.concatenate(values)))]

    def _write_activations(self, taken: Taken, row: Values) -> dict[Channel, float]:
        """Fill in what all modules have, and return what only some have."""
        try:
            taken.write(row.reshape(6, self._modules))
            return taken.figures()
        except Exception as error:  # the norms are not lost with it
            self._failed("activations", error)
            return {}

    def _place(self, stream: Stream, step: int, positions: list[int], values: Values) -> Record:
        """A row in which the measured columns stand where the run has had them from its beginning."""
        channels = self._columns[stream].channels
        row = empty_row(stream, len(channels))
        row[positions] = values
        return Record(stream, step, channels, row)

    def close(self) -> None:
        """Take the hooks off and free the snapshots."""
        if self.activations is not None:
            self.activations.close()
        self.ledger.release()


def _directed(table: Sequence[Parameter], snapshot: bool) -> tuple[list[int], list[int]]:
    """What can be told of which parameters' directions: kinds and positions, pair by pair."""
    pairs = [
        (kind, number)
        for kind in range(len(DIRECTIONS))
        for number, parameter in enumerate(table)
        if (has_units(parameter.shape) if kind == TWINS else snapshot)
    ]
    return [kind for kind, _ in pairs], [number for _, number in pairs]


def _float32(values: NDArray[np.float64]) -> Values:
    """Rounded, with what was not observed marked as in a row of float32."""
    seen = observed(values)
    row = empty_row("norms", len(values))
    row[seen] = to_float32(values[seen])
    return row


def _are_finite(values: Collection[float]) -> bool:
    """Whether all numbers are finite; their sum tells it mostly."""
    total = sum(values)
    return total - total == 0 or all(value - value == 0 for value in values)


def _memory(device: torch.device) -> float:
    return float(torch.cuda.memory_allocated(device)) if device.type == "cuda" else resident_bytes()
