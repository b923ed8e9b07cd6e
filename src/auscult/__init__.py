"""See, hear and be told what is going wrong inside a PyTorch training run.

While it trains:
    watch       attach to a model and its optimizer; returns a Monitor

Afterwards, without torch:
    load        a directory becomes a Run
    diagnose    a Run becomes Findings, worst first
    sonify      a Run becomes a Score
    render      a Score becomes Audio
    report      a Run becomes one self-contained HTML file
    import_runs the log of another tool becomes runs on disk

Nothing heavy is imported until one of these names is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from auscult.core.version import __version__ as __version__

if TYPE_CHECKING:
    from auscult.core.audio import Audio as Audio
    from auscult.core.finding import Finding as Finding
    from auscult.core.findings import Findings as Findings
    from auscult.core.run import Run as Run
    from auscult.core.score import Score as Score
    from auscult.core.series import Series as Series
    from auscult.imports.importer import import_runs as import_runs
    from auscult.monitor import Monitor as Monitor
    from auscult.monitor import watch as watch
    from auscult.reading import diagnose as diagnose
    from auscult.reading import report as report
    from auscult.reading import sonify as sonify
    from auscult.sound.synth import render as render
    from auscult.store.reader import load as load

_HOME = {
    "Audio": "auscult.core.audio",
    "Finding": "auscult.core.finding",
    "Findings": "auscult.core.findings",
    "Monitor": "auscult.monitor",
    "Run": "auscult.core.run",
    "Score": "auscult.core.score",
    "Series": "auscult.core.series",
    "diagnose": "auscult.reading",
    "import_runs": "auscult.imports.importer",
    "load": "auscult.store.reader",
    "render": "auscult.sound.synth",
    "report": "auscult.reading",
    "sonify": "auscult.reading",
    "watch": "auscult.monitor",
}
__all__ = [
    "Audio", "Finding", "Findings", "Monitor", "Run", "Score", "Series",
    "diagnose", "import_runs", "load", "render", "report", "sonify", "watch",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'auscult' has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        value = getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from auscult.core.errors import MissingExtra

        raise MissingExtra(
            f"Expected PyTorch to be installed, which `{name}` needs, but it is not. "
            "Reading runs works without it; to watch one, install it: pip install 'auscult[train]'."
        ) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
