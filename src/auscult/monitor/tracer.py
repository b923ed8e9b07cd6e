"""Tracer: when a step is made again, to search for the origin of non-finite numbers or to examine it, and from what."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from auscult.core.naming import names_loss
from auscult.core.origin import Origin
from auscult.core.run import Parameter
from auscult.core.sink import Record
from auscult.metrics.examination import Examination
from auscult.metrics.ledger import Ledger
from auscult.metrics.norms import as_real
from auscult.metrics.recorder import Recorder
from auscult.metrics.replay import LossOf
from auscult.monitor.gauges import NORMS

SEARCHES = 3
"""Searches in one run; each costs as much as two or three steps."""


class Tracer:
    """Keeps what the step in progress began with, and makes it again from the first row that is not finite.

    Args:
        model: The model.
        paths: Path of every parameter that the ledger holds.
        replay: Makes the loss of the batch in progress, given the model; None where the user gave none.
        searching: Whether it searches and examines at all; both need copies of the parameters.

    Attributes:
        step: The last step of which a training forward pass was kept; -1 before the first.
    """

    def __init__(self, model: nn.Module, paths: Sequence[str], replay: LossOf | None, searching: bool) -> None:
        self._recorder = Recorder(model, replay)
        self._paths = tuple(paths)
        self._keeping = searching
        self._left = SEARCHES if searching else 0
        self.step = -1
        self._updated = -1  # the last kept step whose update has begun
        self._lost = False  # the last row was not finite
        self._total: Tensor | None = None

    def forward_began(self, step: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A training forward pass of a step begins."""
        if self._keeping:
            self.step = step
            self._recorder.forward_began(args, kwargs)

    def gradients_taken(self, ledger: Ledger) -> None:
        """Gradients were taken, and nothing has been done with them: where one is not finite, parameters are kept."""
        if self._left and not self._lost:
            flawed = ledger.flawed_gradients()
            if flawed:
                self._recorder.hold({self._paths[position]: norm for position, norm in flawed.items()})

    def clipped(self, total: Tensor | None) -> None:
        """Gradients are about to be clipped by their total norm."""
        self._total = total

    def update_began(self) -> None:
        """The update is about to be made."""
        if self._keeping:
            self._updated = self.step
            self._recorder.update_began()

    def passed(self) -> None:
        """All rows of a step are finite."""
        self._lost, self._total = False, None

    def search(self, step: int, records: Sequence[Record], ledger: Ledger | None) -> Origin | None:
        """Where the first non-finite number of a step arose, whose rows are not finite and whose update was made.

        Args:
            step: The step.
            records: Its rows.
            ledger: What measured them, before it measures another update; None where norms were not taken.

        Returns:
            None where losses and norms are finite, those of the row before were not, another forward pass has begun
            since the step, or the run has had its searches.
        """
        seen = {channel: value for each in records for channel, value in each.items()}
        norms = {metric: {at.path: seen[at] for at in seen if at.metric == metric} for metric in NORMS}
        losses = {at.metric: seen[at] for at in seen if not at.path and names_loss(at.metric)}
        told = [*losses.values(), *(norm for each in norms.values() for norm in each.values())]
        before, self._lost = self._lost, not all(map(math.isfinite, told))
        total, self._total = self._total, None
        if before or not self._lost or not self._left or step != self.step:
            return None
        loss = losses.get("loss", next(iter(losses.values()), None))
        self._left -= 1
        known = {} if ledger is None else ledger.before_update()
        return self._recorder.find(
            step,
            gradients=norms["grad_norm"] or None,
            loss=loss,
            total_norm=None if total is None else float(total),
            before=self._by_path(known),
        )

    def made(self, step: int) -> bool:
        """Whether the update of the kept step has been made, while `step` is in progress, and nothing after it kept."""
        return 0 <= self.step == self._updated < step

    def examine(
        self, parameters: Sequence[Parameter], ledger: Ledger, activations: bool
    ) -> tuple[Examination, list[str]]:
        """Everything about the kept step, whose update has been made, as far as it can be made again.

        Args:
            parameters: The ledger's parameters, in its order.
            ledger: What has measured the step, before it measures another update.
            activations: Whether the outputs of modules are wanted.

        Returns:
            The examination, and why it may differ from what was in the run, as clauses.

        Raises:
            CannotReplay: if it cannot be made again.
        """
        before, nearly = ledger.before_update(), ledger.nearly_before_update()
        norms = {self._paths[position]: norm for position, norm in ledger.last_gradient_norms().items()}
        examination, doubts = self._recorder.examine(
            self.step, parameters, self._by_path(before), self._by_path(nearly), norms, activations
        )
        for position, now in ledger.after_update().items():
            examination.add("param", position, as_real(now))
            update = ledger.last_update(position)
            if update is not None:
                examination.add("update", position, as_real(update))
        return examination, doubts

    def _by_path(self, known: Mapping[int, Tensor]) -> dict[str, Tensor]:
        return {self._paths[position]: tensor for position, tensor in known.items()}

    def release(self) -> None:
        """Let go of everything that was kept; no step can be made again any more."""
        self._keeping, self.step = False, -1
        self._recorder.release()
