"""Diagnosis: a run's verdict and findings as JSON for other programs, and the schema of that."""

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.version import __version__
from auscult.pages.verdict import is_sick, not_observed, verdict

VERSION = 1


def diagnosis(run: Run, findings: Sequence[Finding], ignored: Sequence[tuple[str, Finding]] = ()) -> dict[str, Any]:
    """A diagnosis as plain JSON types, valid by `diagnosis_schema`.

    Args:
        run: The run.
        findings: What the rules found in it, in the order in which they are shown.
        ignored: What was found and left out, each with the pattern that it fits.
    """
    steps = run.steps
    origin = run.provenance
    return {
        "version": VERSION,
        "auscult": __version__,
        "run": run.info.name,
        "id": run.info.id,
        "steps": len(steps),
        "last_step": int(steps[-1]) if len(steps) else None,
        "state": ("finished" if run.finished else "unfinished") if origin is None else origin.state,
        "imported_from": None if origin is None else origin.tool,
        "sick": is_sick(findings),
        "verdict": verdict(run, findings),
        "findings": [each.to_dict() for each in findings],
        "ignored": [{"pattern": pattern, **each.to_dict()} for pattern, each in ignored],
        "not_observed": not_observed(run),
        "damage": list(run.damage),
    }


def diagnosis_schema() -> str:
    """The JSON Schema (draft 2020-12) of a diagnosis, as text."""
    return (files("auscult.pages") / "assets" / "diagnosis.schema.json").read_text(encoding="utf-8")


def diagnosis_text(run: Run, findings: Sequence[Finding], ignored: Sequence[tuple[str, Finding]] = ()) -> str:
    """A diagnosis as strict JSON text with a line break at its end."""
    return json.dumps(diagnosis(run, findings, ignored), indent=2, allow_nan=False) + "\n"
