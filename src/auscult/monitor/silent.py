"""SilentMonitor: what `watch` returns under `AUSCULT=off`; it clips where it is told to, and does nothing else."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from auscult.core.finding import Finding


class SilentMonitor:
    """Takes every call a Monitor takes; writes and measures nothing."""

    def __init__(self, model: nn.Module, path: str | os.PathLike[str], step: int) -> None:
        self.path = Path(path)
        self.step = step
        self.saved_step = -1
        self.findings: list[Finding] = []
        self.failures: list[tuple[str, str]] = []
        self._model = model

    def log(self, *values: object, **named: object) -> None:
        """Do nothing."""

    def log_evaluation(self, *values: object, **named: object) -> None:
        """Do nothing."""

    def log_categories(self, *values: object, **named: object) -> None:
        """Do nothing."""

    def examine(self) -> None:
        """Do nothing."""

    def clip_grad_norm_(self, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Tensor:
        """Clip as `torch.nn.utils.clip_grad_norm_` does."""
        return nn.utils.clip_grad_norm_(self._model.parameters(), max_norm, norm_type, error_if_nonfinite)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint would hold."""
        return {"step": self.step, "path": str(self.path)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the step of a checkpoint."""
        self.step = int(state["step"])

    def close(self, reason: str = "closed") -> None:
        """Do nothing."""

    def __enter__(self) -> "SilentMonitor":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
