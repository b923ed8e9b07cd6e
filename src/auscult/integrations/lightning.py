"""Lightning: a callback that watches what a Trainer trains."""

import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from auscult.core.sink import Sink
from auscult.integrations.logger import LoggerSink
from auscult.integrations.required import required
from auscult.integrations.selection import Selection
from auscult.monitor import Monitor, watch
from auscult.monitor.silent import SilentMonitor

EVALUATION = "val"
_EVALUATED = re.compile(r"(val|valid|validation)[/_. -](?P<name>.+)")
_package = required(
    "pytorch_lightning" if find_spec("pytorch_lightning") and not find_spec("lightning") else "lightning.pytorch",
    "Lightning",
    "lightning",
    "AuscultCallback is a callback of",
)


class AuscultCallback(_package.Callback):
    """Watches the training: `Trainer(callbacks=[AuscultCallback("runs/mnist")])`.

    Gradients are those before Lightning's clipping, by norm or by value, and of the whole step where it accumulates.
    The loss that `training_step` returns is logged, and what validation logs as `val_...` or `validation/...`. Where a
    single child of the LightningModule holds all parameters, that child is watched, and paths begin below it.

    A checkpoint of the Trainer holds where the run stood; `fit(ckpt_path=...)` goes on with it.

    Args:
        path: Directory of the run; None is `auscult` in the Trainer's `default_root_dir`.
        selection: What the Trainer's own loggers get, and how often.
        log: Whether they get anything.
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
        log: bool = True,
        sinks: Sequence[Sink] = (),
        **watch: Any,
    ) -> None:
        self.monitor: Monitor | SilentMonitor | None = None
        self._path = path
        self._selection = selection
        self._log = log
        self._sinks = sinks
        self._watch = watch
        self._state: dict[str, Any] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin, or go on where the checkpoint stood."""

        def log(values: dict[str, float], *, step: int) -> None:
            for each in trainer.loggers:
                each.log_metrics(values, step=step)

        own = [LoggerSink(log, self._selection)] if self._log and trainer.loggers else []
        path = self._state.get("path") or self._path or Path(trainer.default_root_dir) / "auscult"
        settings: dict[str, Any] = {**self._watch, "sinks": (*self._sinks, *own)}
        if self._state:
            settings["if_exists"] = "resume"
        self.monitor = watch(_watched(pl_module), list(trainer.optimizers), path, **settings)
        if self._state:
            self.monitor.load_state_dict(self._state)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the loss."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if self.monitor is not None and isinstance(loss, Tensor):
            self.monitor.log(loss=loss)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Log what validation logged."""
        if self.monitor is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        found = ((_EVALUATED.fullmatch(name), value) for name, value in trainer.callback_metrics.items())
        self.monitor.log_evaluation(EVALUATION, {match["name"]: value for match, value in found if match is not None})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Write what is open."""
        if self.monitor is not None:
            self.monitor.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Write what is open, and why it ended."""
        if self.monitor is not None:
            self.monitor.close(f"exception: {type(exception).__name__}: {exception}")

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands; kept in the Trainer's checkpoints."""
        return {} if self.monitor is None else self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there when the training begins."""
        self._state = dict(state_dict)


def _watched(module: nn.Module) -> nn.Module:
    """The child that holds all parameters, which is what is called: Lightning calls `training_step`, not the module."""
    own = {id(each) for each in module.parameters()}
    for child in module.children():
        if {id(each) for each in child.parameters()} == own:
            return child
    return module
