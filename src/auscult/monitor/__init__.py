"""A training run in motion, wired to its measurements, its store, its live rules and its sinks."""

from auscult.monitor.monitor import Monitor
from auscult.monitor.setup import watch

__all__ = ["Monitor", "watch"]
