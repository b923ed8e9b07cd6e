"""Transformers: a callback that watches what a Trainer trains."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from auscult.core.sink import Sink
from auscult.integrations.logger import LoggerSink
from auscult.integrations.required import required
from auscult.integrations.selection import Selection
from auscult.monitor import Monitor, watch
from auscult.monitor.silent import SilentMonitor

EVALUATION = "eval_"
_package = required(
    "transformers.trainer_callback", "Transformers", "transformers accelerate", "AuscultCallback is a callback of"
)


class AuscultCallback(_package.TrainerCallback, _package.ExportableState):
    """Watches the training: `Trainer(..., callbacks=[AuscultCallback("runs/bert")])`.

    Gradients are those before the Trainer's clipping (its own hook `on_pre_optimizer_step` comes after it), and of the
    whole step where it accumulates. The losses that the Trainer logs are logged, and its evaluations. A checkpoint of
    the Trainer holds where the run stood; `train(resume_from_checkpoint=...)` goes on with it.

    Args:
        path: Directory of the run; None is `auscult` in the Trainer's `output_dir`.
        selection: What the Trainer's own trackers get, after `log_through`, and how often.
        sinks: Where else rows and findings go.
        watch: What else to give to `auscult.watch`: `every=1`, `stop_on="critical"`.

    Attributes:
        monitor: The monitor, from the beginning of the training on.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        selection: Selection | None = None,
        *,
        sinks: Sequence[Sink] = (),
        **watch: Any,
    ) -> None:
        self.monitor: Monitor | SilentMonitor | None = None
        self._path = path
        self._selection = selection
        self._sinks = sinks
        self._watch = watch
        self._trainer: Any = None

    def log_through(self, trainer: Any) -> None:
        """From the next training on, its numbers also go to the trackers of this Trainer (`report_to`)."""
        self._trainer = trainer

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        model: nn.Module | None = None,
        optimizer: Optimizer | None = None,
        **more: Any,
    ) -> None:
        """Begin, or go on where the checkpoint stood."""
        assert model is not None and optimizer is not None
        own = [] if self._trainer is None else [LoggerSink(self._log, self._selection)]
        exported = state.stateful_callbacks.get(type(self).__name__, {}) if state.global_step > 0 else {}
        saved = exported.get("attributes", {}).get("_saved", {})
        path = saved.get("path") or self._path or Path(args.output_dir or ".") / "auscult"
        settings: dict[str, Any] = {**self._watch, "sinks": (*self._sinks, *own)}
        if saved:
            settings["if_exists"] = "resume"
        self.monitor = watch(model, optimizer, path, **settings)
        if saved:
            self.monitor.load_state_dict(saved)

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **more: Any,
    ) -> None:
        """Log the loss that the Trainer logs."""
        if self.monitor is not None and logs and "loss" in logs:
            self.monitor.log(loss=logs["loss"])

    def on_evaluate(
        self,
        args: Any,
        state: Any,
        control: Any,
        metrics: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Log an evaluation."""
        if self.monitor is not None and metrics:
            numbers = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
            values = {name.removeprefix(EVALUATION): value for name, value in numbers.items() if name != "epoch"}
            self.monitor.log_evaluation("eval", values)

    def on_train_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Write what is open."""
        if self.monitor is not None:
            self.monitor.close()

    def state(self) -> dict[str, Any]:
        """Where the run stands; kept in `trainer_state.json` of the Trainer's checkpoints."""
        saved = {} if self.monitor is None else self.monitor.state_dict()
        return {"args": {}, "attributes": {"_saved": saved}}

    def _log(self, values: dict[str, float], *, step: int) -> None:
        """Hand numbers to the Trainer's trackers, with the Trainer's own number of the step, which counts from 1."""
        trainer = self._trainer
        then = replace(trainer.state, global_step=step + 1)
        for each in trainer.callback_handler.callbacks:
            if not isinstance(each, (AuscultCallback, _package.PrinterCallback, _package.ProgressCallback)):
                each.on_log(trainer.args, then, trainer.control, logs=dict(values), model=trainer.model)
