"""Parts: where the time inside auscult goes, from cProfile.

Time of functions that are not auscult's counts for the part that called them, through however many calls. cProfile
makes calls dearer than they are, so only shares are given.
"""

import cProfile
import pstats
from functools import partial
from pathlib import Path

from scripts.bench.loops import Watched
from scripts.bench.workloads import Workload

import auscult

PACKAGE = Path(auscult.__file__).parent
PARTS = {
    "hooks": ("metrics/hooks.py",),
    "activations": ("metrics/activations.py",),
    "ledger": ("metrics/ledger.py", "metrics/norms.py", "metrics/pack.py"),
    "rows": ("monitor/draft.py", "monitor/gauges.py", "core/sink.py"),
    "store": ("store/",),
    "rules and digests": ("rules/", "core/digest.py"),
    "monitor": ("",),  # everything else
}

Function = tuple[str, int, str]
Calls = dict[Function, tuple[int, int, float, float]]  # caller to calls, primitive calls, own time, time with callees
Stats = dict[Function, tuple[int, int, float, float, Calls]]


def shares(workload: Workload, path: Path, every: int | None, steps: int) -> dict[str, float]:
    """Share of each part in the time inside auscult, over some steps after the preparation."""
    variant = Watched(workload, path, every=every)
    for _ in range(workload.settle if every is None else workload.warm_up):
        variant.step()
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(steps):
        variant.step()
    profile.disable()
    variant.monitor.close()
    stats: Stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    spent = dict.fromkeys(PARTS, 0.0)
    known: dict[Function, dict[str, float]] = {}
    for function, (_, _, own, _, callers) in stats.items():
        part = _part(function)
        if part is not None:
            spent[part] += own
        elif not _is_bare(function):
            for caller, (_, _, seconds, _) in callers.items():
                for name, share in _owners(caller, stats, known).items():
                    spent[name] += share * seconds
    whole = sum(spent.values())
    return {name: seconds / whole for name, seconds in spent.items()}


def _owners(function: Function, stats: Stats, known: dict[Function, dict[str, float]]) -> dict[str, float]:
    """How the time below a function divides among the parts that caused it; what the bare loop caused is left out."""
    part = _part(function)
    if part is not None:
        return {part: 1.0}
    if function not in known:
        known[function] = {}  # a cycle ends here
        callers: Calls = {} if _is_bare(function) else stats[function][4]
        whole = sum(cumulative for _, _, _, cumulative in callers.values()) or 1.0
        owners: dict[str, float] = {}
        for caller, (_, _, _, cumulative) in callers.items():
            for name, share in _owners(caller, stats, known).items():
                owners[name] = owners.get(name, 0.0) + share * cumulative / whole
        known[function] = owners
    return known[function]


def _part(function: Function) -> str | None:
    path = Path(function[0])
    if not path.is_relative_to(PACKAGE) or path.is_relative_to(PACKAGE / "clinic"):
        return None
    inner = path.relative_to(PACKAGE).as_posix()
    return next(name for name, begins in PARTS.items() if inner.startswith(begins))


def _is_bare(function: Function) -> bool:
    """Whether the bare loop calls it too: torch's own clipping."""
    return function[0].endswith("clip_grad.py")


def table(workloads: tuple[Workload, ...], directory: Path) -> str:
    """Shares by part, as Markdown."""
    lines = [f"| workload | {' | '.join(PARTS)} |", f"|---|{'--:|' * len(PARTS)}"]
    runs = (("default", None), ("`every=1`", 1))
    for workload in workloads:
        for number, (name, every) in enumerate(runs):
            take = partial(shares, workload, directory / f"{workload.name}-{number}", every)
            cells = " | ".join(f"{share:.0%}" for share in take(workload.blocks * workload.steps).values())
            lines.append(f"| {workload.name}, {name} | {cells} |")
    return "\n".join([*lines, ""])
