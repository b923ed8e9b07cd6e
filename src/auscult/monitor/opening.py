"""Opening: where a run begins: its directory, its first step, and what was recorded before."""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from auscult.core.errors import AuscultError, SetupError
from auscult.core.run import Run
from auscult.metrics.environment import run_info
from auscult.monitor.ranks import Ranks
from auscult.store.reader import load
from auscult.store.writer import IfExists, StoreWriter

logger = logging.getLogger("auscult")


@dataclass(frozen=True, slots=True)
class Opening:
    """How a run was opened.

    Attributes:
        path: Its directory.
        step: The step it begins with, or goes on from.
        begins: Whether nothing was recorded before that step.
        writer: Its store, on the rank that writes.
        past: What was recorded before, likewise; None for a new run.
    """

    path: Path
    step: int
    begins: bool
    writer: StoreWriter | None
    past: Run | None


def open_run(
    path: str | os.PathLike[str], config: object, if_exists: IfExists, step: int | None, ranks: Ranks | None
) -> Opening:
    """Begin or continue a run; of several ranks the first does so, and the others are told.

    Raises:
        SetupError: if the directory may not be used, or another writer is at work in it, on every rank.
        StoreError: if the run to resume cannot be read, likewise.
    """
    if ranks is not None and not ranks.writes:
        where, number, begins = ranks.told_by_first(("", 0, True))
        return Opening(Path(where), number, begins, None, None)
    try:
        writer = StoreWriter.create(path, run_info(Path(path).name, config), if_exists)
        past = _past(writer) if writer.resumed else None
    except Exception as error:
        if ranks is not None:
            known = error if isinstance(error, AuscultError) else SetupError(f"Rank 0 could not open {path}: {error}")
            with suppress(AuscultError):
                ranks.told_by_first(known)
        raise
    number = step if step is not None else (past.last_step + 1 if past is not None else 0)
    begins = past is None or past.until(number - 1).last_step < 0
    if ranks is not None:
        ranks.told_by_first((str(writer.path), number, begins))
    if writer.path != Path(path).absolute():
        logger.warning(
            "%s is not empty: this run is written to %s. Continue what is there with if_exists='resume'.",
            path,
            Path(path).with_name(writer.path.name),
        )
    return Opening(writer.path, number, begins, writer, past)


def _past(writer: StoreWriter) -> Run:
    """What a resumed run has recorded; where that cannot be read, nobody writes it any more."""
    try:
        return load(writer.path)
    except BaseException:
        writer.close()
        raise
