"""What can go wrong, as one small tree.

    AuscultError
    ├── SetupError     a call that cannot work as written; raised before the first training step
    ├── StoreError     a run on disk that cannot be read as it stands
    ├── UnknownName    a metric or path that the run does not have
    ├── MissingExtra   an optional dependency is not installed
    ├── NoDevice       there is no sound device, or it has gone
    └── StopTraining   raised into the training loop, only where `watch(..., stop_on=...)` asked for it

Every message has one form: what was expected, what was found, the likely cause, the line to write instead.
"""


class AuscultError(Exception):
    """Anything auscult raises on purpose."""


class SetupError(AuscultError, ValueError):
    """A call that cannot work as written."""


class StoreError(AuscultError, OSError):
    """A run on disk that cannot be read as it stands."""


class UnknownName(AuscultError, KeyError):  # noqa: N818  (reads as what it is: an unknown name)
    """A metric or path that the run does not have."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError would show the message quoted


class MissingExtra(AuscultError, ImportError):  # noqa: N818
    """An optional dependency is not installed."""


class NoDevice(AuscultError):  # noqa: N818
    """There is no sound device, or it has gone."""


class StopTraining(AuscultError):  # noqa: N818
    """A finding as severe as `watch(..., stop_on=...)` names it; nothing else in a run under way raises."""
