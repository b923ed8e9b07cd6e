"""Witness: sees of a step what the doctor needs to know besides norms: its batch, its loss call, its mode.

Looks at the first step of a run, for the `Audit` and the `Anatomy`, and at sampled steps; on all others it looks at a
flag. Of a step it looks at one training pass: the first in training mode or, where there is none, the last in
evaluation mode before a backward pass came. What it measures stays on its device until rows are made.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from auscult.metrics.batch import Fingerprints
from auscult.metrics.carried import CarriedGradients
from auscult.metrics.dropping import Dropping
from auscult.metrics.feeds import FirstPass
from auscult.metrics.hooks import ModuleHook, PausableHook
from auscult.metrics.losscall import LossCall
from auscult.metrics.losses import LossTap
from auscult.metrics.marks import running_backward
from auscult.metrics.modes import Modes
from auscult.metrics.norms import is_transformed
from auscult.metrics.parameters import unwrap
from auscult.metrics.scaling import ScaleTap
from auscult.metrics.sighting import Sighting, on_host
from auscult.metrics.stretch import Stretch
from auscult.monitor.arguments import is_compiled
from auscult.monitor.guard import Guard
from auscult.monitor.journal import Journal

PART = "loss and batch"
METRICS = (
    "observed_loss", "uninformed_loss", "loss_gradient", "batch_accuracy", "batch_r2", "target_mean", "target_std",
    "target_entropy", "largest_class", "output_spread", "input_mean", "input_std", "input_largest", "repeated_batch",
    "evaluation_mode", "carried_gradient", "training_evaluations", "evaluation_dropout",
)  # fmt: skip
"""What it measures of a sampled step."""
_MAY_BE_NAN = {"observed_loss", "loss_gradient", "input_mean", "input_std", "input_largest"}

Told = Callable[[], Mapping[str, float]]


class Witness:
    """Watches the passes of one model.

    Attributes:
        watching: Whether the step in progress is one that it looks at, and its update is still to come.
        batch: Shape and fingerprint of what the model was called with in the last step looked at, where it was seen.
        evaluations: Passes without gradient, but in training mode, since the last sampled step.

    Args:
        model: The model as it is called.
        parameters: Its parameters.
        first: Whether this is the beginning of a run.
        loss_fn: The loss module, where the user has named one.
        scales: Knows what losses are multiplied by.
        guard: Keeps failures out of the training loop.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Sequence[nn.Parameter],
        first: bool,
        loss_fn: nn.Module | None,
        scales: ScaleTap,
        guard: Guard,
    ) -> None:
        self.watching = False
        self.batch: tuple[tuple[int, ...], Tensor] | None = None
        self.evaluations = 0
        self._first = first  # the run's first update is still to come
        self._model = ref(unwrap(model))
        self._guard = guard
        self._scales = scales
        self._modes = Modes(model)
        self._dropping = None if is_compiled(model) else Dropping(model)
        self._seen: Sighting | None = None
        self._backward = False  # a backward pass has come since the pass began
        self._sampled = False
        self._given_up = False
        self._prints = Fingerprints()
        self._tap = LossTap(self._on_loss, self._on_stretch if first else None)
        self._everywhere = loss_fn is None and not is_compiled(model)
        self._within = True  # the loss may be called inside of the model
        self._carried = CarriedGradients(parameters, partial(guard.failed, PART))
        self._compares = False  # gradients: an update came before
        self._output = PausableHook(model, self._on_output)
        self._output.pause()
        self._handle: RemovableHandle | None = None
        if loss_fn is not None:
            self._handle = loss_fn.register_forward_pre_hook(ModuleHook(loss_fn, self._on_loss_module))

    def arm(self, sampled: bool, updated: bool) -> None:
        """A step begins.

        Args:
            sampled: Whether it is sampled.
            updated: Whether an update came before it.
        """
        self._seen, self._backward, self._sampled = None, False, sampled
        self.watching = (sampled or self._first) and not self._given_up
        self._compares = sampled and updated and self.watching
        if self._compares:
            with self._guard(PART):
                self._carried.begin()

    def forward_began(self, training: bool, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The model is about to be called, with gradients enabled.

        Args:
            training: Whether it is in training mode.
            args: What it is called with.
            kwargs: Likewise.
        """
        if not self.watching:
            if self._tap.active:  # it could not be taken off inside the backward pass
                with self._guard(PART):
                    self._tap.end()
            return
        with self._guard(PART):
            seen, given = self._seen, (*args, *kwargs.values())
            if seen is not None and (seen.training or (self._backward and not training)):
                return
            if running_backward() != -1 or any(isinstance(each, Tensor) and is_transformed(each) for each in given):
                return  # activation checkpointing around the model as a whole, torch.func
            self._seen, self._backward = Sighting(training, self._first), False
            self._seen.see_input(given, self._modes.share_in_evaluation())
            self._output.resume()
            if self._everywhere and self._within:
                self._tap.begin()
            elif self._tap.active:  # since a pass that was an evaluation
                self._tap.end()

    def evaluation_began(self) -> None:
        """The model is about to be called in evaluation mode, without gradients."""
        if self._dropping is not None and not self._given_up:
            with self._guard(PART):
                self._dropping.evaluation_began()

    def backward_began(self) -> None:
        """A backward pass has reached a parameter."""
        seen, model = self._seen, self._model()
        if seen is None or self._backward or not self.watching:
            return
        self._backward = True
        if not seen.training and model is not None and model.training:
            self._seen = None  # that pass was an evaluation; this one comes from parts of the model called one by one

    def finish(self, step: int, journal: Journal, showed: FirstPass | None) -> Told | None:
        """The first update of a step is about to be made.

        Args:
            step: The step.
            journal: Takes what the run's first step showed.
            showed: What the run's first pass showed of the leaf modules; None where that was told before.

        Returns:
            What brings the figures of a sampled step to the host.
        """
        self.watching = False
        with self._guard(PART):
            self._rest()
            seen = self._seen
            if seen is not None and not seen.training and not self._backward:
                seen = None  # an evaluation
            self._seen = None
            self.batch = seen.fingerprint if seen is not None and self._sampled else None
            if seen is not None:
                self._within = seen.within
            if self._first:
                self._first = False
                _introduce(seen, step, journal, showed or FirstPass())
            return self._testify(seen) if self._sampled else None
        return None

    def give_up(self) -> None:
        """Something in here has failed: look no more."""
        self._given_up, self.watching, self._seen = True, False, None
        self.close()

    def close(self) -> None:
        """Take everything off."""
        if self._handle is not None:
            self._handle.remove()
        self._rest()
        self._carried.close()
        if self._dropping is not None:
            self._dropping.close()
        self._output.close()

    def _rest(self) -> None:
        """There is nothing more to see of the step."""
        self._tap.end()
        self._output.pause()

    def _on_output(self, args: object, output: object) -> None:
        """The model has been called."""
        seen = self._seen
        if seen is None or seen.ended or not torch.is_grad_enabled() or running_backward() != -1:
            return
        with self._guard(PART):
            self._output.pause()
            seen.see_output(output)
            if self._everywhere and not seen.has_loss:
                self._tap.begin()

    def _on_loss_module(self, args: object) -> None:
        """The loss module that the user has named is about to be called."""
        if not self.watching or not torch.is_grad_enabled():
            return
        with self._guard(PART):
            if self._seen is None:  # a compiled model does not tell when it is called
                model = self._model()
                self._seen = Sighting(model is not None and model.training, self._first)
            if not self._seen.has_loss:
                self._tap.begin()

    def _on_loss(self, call: LossCall) -> None:
        """The first loss call has been made."""
        seen = self._seen
        if seen is None:
            return
        with self._guard(PART):
            seen.see_loss(call)
            if call.result.grad_fn is not None:
                call.result.register_hook(partial(self._on_loss_gradient, seen, self._scales.uses))

    def _on_stretch(self, stretch: Stretch) -> None:
        """Predictions and targets of different shapes were subtracted."""
        if self._first and self._seen is not None:
            with self._guard(PART):
                self._seen.see_stretch(stretch)

    def _on_loss_gradient(self, seen: Sighting, uses: int, gradient: Tensor) -> None:
        """A backward pass begins at the loss."""
        with self._guard(PART), torch.no_grad():
            seen.see_loss_gradient(gradient, self._scales.scale() if self._scales.uses != uses else None)

    def _testify(self, seen: Sighting | None) -> Told:
        figures: dict[str, Tensor | float] = {} if seen is None else seen.figures
        if self._compares and (carried := self._carried.told()) is not None:
            figures["carried_gradient"] = carried
        if self._modes.matter():
            figures["training_evaluations"] = float(self.evaluations)
        if self._dropping is not None and (drops := self._dropping.told()) is not None:
            figures["evaluation_dropout"] = drops
        self.evaluations = 0
        return partial(self._tell, figures, None if seen is None else seen.fingerprint)

    def _tell(
        self, figures: Mapping[str, Tensor | float], fingerprint: tuple[tuple[int, ...], Tensor] | None
    ) -> dict[str, float]:
        """The figures of a step on the host, where they were observed."""
        with self._guard(PART):
            told = on_host(figures)
            shape, sums = ((), []) if fingerprint is None else (fingerprint[0], fingerprint[1].tolist())
            if sums and all(value - value == 0 for value in sums):
                told["repeated_batch"] = float(self._prints.is_repeated(shape, sums))
            return {name: value for name, value in told.items() if value == value or name in _MAY_BE_NAN}
        return {}


def _introduce(seen: Sighting | None, step: int, journal: Journal, showed: FirstPass) -> None:
    """Tell what the run's first training pass showed."""
    audit = None if seen is None else seen.audit(step)
    if audit is not None:
        journal.observe_loss(audit)
    if seen is not None or any(showed):
        journal.observe_anatomy((seen or Sighting(True, False)).anatomy(step, showed))
