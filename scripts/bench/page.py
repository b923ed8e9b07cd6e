"""Page: what was measured, as Markdown."""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from math import isnan
from pathlib import Path
from statistics import median

import numpy as np
import torch
from scripts.bench.loops import WatchedFromOutside
from scripts.bench.rounds import BARE, OUTSIDE, TRACKERS, Results
from scripts.bench.storage import Reading, Writing
from scripts.bench.workloads import Workload

import auscult

HEAD = """# Benchmarks

Written by `make bench`; run it on your own machine. Random data, no data loading.

{machine}

{workloads}

* **direct**: time spent measuring, over the bare step. For auscult it is what the run itself recorded as
  `overhead_time`, with the store, the live rules and the logging of the loss, in the long run at the *cadence*
  (norms and samples at every so many steps): each kind of step counts by its mean and by how often the cadence asks for
  it. Steps in full detail (the first, the last, powers of two from 64 within a quarter of the budget) are left out and
  stand below. For the others it is the time inside the calls and hooks that the loop would not have without them.
* **pair**: median of (block of the variant / bare block of the same round), and its quartiles. It sees indirect effects
  too, and the noise of the machine: read it beside the control, which compares bare with bare. What happens at few
  steps is hardly in the median.
* The **default** keeps a budget of 2 %: it begins with norms at every step and samples at every 16th, and reviews that
  at multiples of 256 steps. It is measured after such a review (W1 after four; W3 and W4 were begun at step 224). A run
  costs until its first review what `every=1` costs.
* **The practitioner's loop** takes norms of gradients below every module, of the update and of the parameters, each
  fetched by `.item()`, and keeps them in memory; writing them to a tracker comes on top. TensorBoard and W&B run in
  rounds of their own, with a bare loop of their own. W&B's second process is not counted.

| workload | variant | ms per step | direct | pair | quartiles | cadence |
|---|---|--:|--:|--:|--:|---|
"""
AUDIT = """
## What `overhead_time` leaves out

The default variant once more, with hooks right before and after each of auscult's that take the time between them: they
see torch's calls of the hooks and what auscult does outside its own clock. What torch takes longer because a module has
hooks at all is in *pair* alone. Garbage collection is counted wherever it strikes, mostly outside of auscult; of other
threads, auscult has the one that seals rows. *Live rules* are the digests and the rules, with their share of the bare
step. *In full detail* is what such a step takes, in bare steps.

Microseconds per step of the measured blocks:

| | `overhead_time` | timed from outside | live rules | garbage (bare) | other threads (bare) | in full detail |
|---|--:|--:|--:|--:|--:|--:|
"""
STORAGE = """
## Writing and reading

A step of 1,000 numbers, CPU time of all threads.

| | ms per step | as a share of TensorBoard | rows per ms |
|---|--:|--:|--:|
"""
READING = """
A run of {steps:,} steps and 1,000 channels, {size:,.0f} MB on disk and in the page cache. Each line is a process of its
own, which opens the run first; imports are left out of the time and are in the memory.

| | seconds | CPU seconds | peak memory, MB |
|---|--:|--:|--:|
"""


def page(
    ours: Mapping[Workload, Results],
    theirs: Mapping[Workload, Results],
    writing: Writing,
    reading: Sequence[Reading],
    long_run: tuple[int, float],
    device: str,
) -> str:
    """The page.

    Args:
        ours: Workloads and what was measured beside auscult.
        theirs: The same for the trackers; without those that are not installed.
        writing: What a row costs.
        reading: What a long run takes to read.
        long_run: Its steps, and its size in MB.
        device: The part about the GPU, or a sentence that says that there is none.
    """
    rows = (row for workload in ours for row in _rows(workload, ours[workload], theirs[workload]))
    steps, size = long_run
    return "".join(
        (
            HEAD.format(machine=_machine(), workloads="\n".join(_about(workload) for workload in ours)),
            *rows,
            AUDIT,
            *(_audit(workload, made) for workload, made in ours.items()),
            STORAGE,
            *_writing(writing),
            READING.format(steps=steps, size=size),
            *(
                f"| {each.task} | {each.seconds:.2f} | {each.processor:.2f} | {_megabytes(each.memory)} |\n"
                for each in reading
            ),
            device,
        )
    )


def _about(workload: Workload) -> str:
    return f"* {workload.name}: {workload.about}; {workload.blocks} blocks of {workload.steps} steps."


def _rows(workload: Workload, ours: Results, theirs: Results) -> list[str]:
    bare = _step(workload, ours)
    rows = [f"| {workload.name} | {BARE} | {1e3 * bare:.3f} |  |  |  |  |\n"]
    rows += [_row(workload, name, ours) for name in ours if name not in (BARE, OUTSIDE)]
    for name, (package, _) in TRACKERS.items():
        absent = f"| {workload.name} | {name} | {package} is not installed |  |  |  |  |\n"
        rows.append(_row(workload, name, theirs) if name in theirs else absent)
    return rows


def _row(workload: Workload, name: str, results: Results) -> str:
    variant, timing = results[name]
    bare = results[BARE][1].blocks
    inside = variant.inside()
    share = None if inside is None else inside / _step(workload, results)
    direct = "" if share is None else "not observed" if isnan(share) else f"{share:.1%}"
    low, middle, high = np.quantile([mine / other for mine, other in zip(timing.blocks, bare)], (0.25, 0.5, 0.75))
    step = 1e3 * median(timing.blocks) / workload.steps
    return (
        f"| {workload.name} | {name} | {step:.3f} | {direct} | {middle:.3f} | {low:.3f} to {high:.3f} "
        f"| {variant.cadence} |\n"
    )


def _step(workload: Workload, results: Results) -> float:
    """Seconds of a bare step, by the median block."""
    return median(results[BARE][1].blocks) / workload.steps


def _audit(workload: Workload, results: Results) -> str:
    """What `overhead_time` said and what was seen besides, in microseconds per step."""
    variant, timing = results[OUTSIDE]
    bare = results[BARE][1]
    assert isinstance(variant, WatchedFromOutside)
    steps = workload.blocks * workload.steps
    examined = variant.examined() / _step(workload, results)
    collecting, bare_collecting, beside, bare_beside = (
        f"{1e6 * each / steps:.1f}" for each in (timing.collecting, bare.collecting, timing.beside, bare.beside)
    )
    return (
        f"| {workload.name} | {1e6 * variant.reported():.1f} | {1e6 * variant.outside():.1f} "
        f"| {1e6 * variant.judged():.1f} ({variant.judged() / _step(workload, results):.2%}) "
        f"| {collecting} ({bare_collecting}) | {beside} ({bare_beside}) "
        f"| {'none' if isnan(examined) else f'{examined:.1f} steps'} |\n"
    )


def _writing(writing: Writing) -> list[str]:
    theirs = writing.tensorboard
    named = {"auscult's store": writing.store, "auscult's digests and live rules": writing.rules}
    rows = [
        f"| {name} | {1e3 * seconds:.4f} | {'' if theirs is None else f'1/{theirs / seconds:.0f}'} "
        f"| {1e-3 / seconds:.1f} |\n"
        for name, seconds in named.items()
    ]
    if theirs is None:
        return [*rows, "| TensorBoard `add_scalar` | tensorboard is not installed |  |  |\n"]
    return [*rows, f"| TensorBoard `add_scalar` | {1e3 * theirs:.2f} | 1 | {1e-3 / theirs:.3f} |\n"]


def _megabytes(memory: float | None) -> str:
    return "not observed" if memory is None else f"{memory:.0f}"


def _machine() -> str:
    threads = torch.get_num_threads()
    packages = ", ".join(f"{name} {_version(name)}" for name in ("tensorboard", "wandb"))
    return (
        f"{cpu_model()}, {os.cpu_count()} cores, {threads} {'thread' if threads == 1 else 'threads'}; "
        f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}, "
        f"{packages}, auscult {auscult.__version__}; {datetime.now(timezone.utc):%Y-%m-%d}."
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def cpu_model() -> str:
    """The processor, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
