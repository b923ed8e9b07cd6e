"""Command: `auscult demo` and `auscult clinic list | run | score`, as the command line parses them.

Whatever trains needs torch and is imported only where it does, so that the command line itself never does.
"""

from enum import Enum
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from auscult.core.atomic import write_atomically
from auscult.core.errors import MissingExtra
from auscult.core.finding import Finding
from auscult.pages.terminal import cells, findings_text, print_path
from auscult.pages.wording import finding_line
from auscult.reading import beside, diagnose, report, sonify
from auscult.sound.synth import render
from auscult.store.reader import load

if TYPE_CHECKING:
    from auscult.clinic.trial import Trial

clinic = typer.Typer(help="Train small reproducible runs, each healthy or with one known fault.", no_args_is_help=True)
out = Console()
err = Console(stderr=True)


class Subset(str, Enum):
    """The subsets as `--subset` takes them."""

    ci = "ci"


def make_demo(
    directory: Annotated[Path, typer.Option("--out", "-o", help="Where to write runs, reports and sound.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of both runs.")] = 0,
) -> None:
    """Train a healthy and a diverging network on real handwritten digits, and write report and sound of both.

    Takes about a minute on two cores. Needs the extra `demo`: pip install 'auscult[demo]'.
    """
    run_demo = _import_part("demo", "demo").run_demo
    _use_one_thread()

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out) as progress:
        bars: dict[str, TaskID] = {}

        def on_step(name: str, step: int, steps: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=steps)
            progress.update(bars[name], completed=step)

        def on_finding(name: str, finding: Finding) -> None:
            progress.console.print(f"{name}: {finding_line(finding)}", markup=False, highlight=False)

        made = run_demo(directory, seed, on_step, on_finding)
    for each in made:
        out.print()
        out.print(findings_text(load(each.directory), each.findings))
        for label, path in (("report", each.report), ("sound", each.sound), ("as in 2019", each.original)):
            print_path(out, label, path)


@clinic.command("list")
def list_cases() -> None:
    """List the cases with what each shows."""
    cases = _import_part("cases", "clinic").CASES
    name = Column("case", min_width=max(map(len, cases)))  # to be typed again, so never cut
    table = Table(name, "steps", "data", "shows", box=None, pad_edge=False)
    for case in cases.values():
        needs = "--names" if case.needs_names else "digits or --data" if case.takes_images else ""
        table.add_row(*cells(case.name, f"{case.steps:,}", needs, case.about))
    out.print(table)


@clinic.command("run")
def run_case(
    name: Annotated[str, typer.Argument(metavar="CASE", help="A case, as `auscult clinic list` names it.")],
    seed: Annotated[int | None, typer.Option(help="Seed; by default the one the case is published with.")] = None,
    directory: Annotated[Path, typer.Option("--out", "-o", help="Where to write run, report and sound.")] = Path(
        "runs/clinic"
    ),
    names: Annotated[Path | None, typer.Option(help="makemore's names.txt, for the cases that need it.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Directory of MNIST's own files, plain or .gz, in place of scikit-learn's digits.",
        ),
    ] = None,
) -> None:
    """Train a case, say what is wrong with it, and write its report and sound."""
    cases = _import_part("cases", "clinic")
    _use_one_thread()
    case = cases.case_by_name(name)
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out) as progress:
        bar = progress.add_task(name, total=case.steps)

        def on_step(step: int) -> None:
            progress.update(bar, completed=step)

        def on_finding(finding: Finding) -> None:
            progress.console.print(finding_line(finding), markup=False, highlight=False)

        monitor = cases.run_case(
            name,
            directory / name,
            seed=seed,
            names=names,
            images=data,
            on_step=on_step,
            on_finding=on_finding,
        )
    run = load(monitor.path)
    out.print(findings_text(run, diagnose(run)))
    print_path(out, "report", report(run, beside(monitor.path, ".html")))
    print_path(out, "sound", render(sonify(run)).write(beside(monitor.path, ".wav")))


@clinic.command("score")
def score_clinic(
    seeds: Annotated[
        str | None, typer.Option(help="Seeds of every run: 0-4, or 0,7. [default: 0-4; 0 for the subset]")
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--case", metavar="NAME", help="Run this case or control; repeat for more. All by default."),
    ] = None,
    subset: Annotated[Subset | None, typer.Option(help="ci: a fixed small part, for continuous integration.")] = None,
    workers: Annotated[int, typer.Option("--jobs", min=1, help="How many processes train.")] = 1,
    target: Annotated[Path | None, typer.Option("--out", "-o", help="Markdown file to write the page to.")] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="File that keeps every trial as it is made; a round that was stopped goes on from it."),
    ] = None,
    date: Annotated[str | None, typer.Option(help="Day to print on the page; today by default.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if a gate is missed.")] = False,
) -> None:
    """Score the diagnosis: train faulty and healthy runs, and count what is found, what is missed, and false alarms."""
    parts = _import_part("assessment", "clinic")
    numbers = parts.parse_seeds(seeds or ("0" if subset else "0-4"))
    plan = parts.make_plan(numbers, names or (), ci=subset is not None)
    columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, disable=not err.is_terminal) as progress:
        bar = progress.add_task("trials", total=len(plan.keys))

        def on_trial(trial: "Trial", done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, description=f"{trial.case} {trial.variant}")

        found = parts.assess(plan, results, workers, on_trial, date)
    if target is not None:
        write_atomically(target, found.page.encode("utf-8"))
        print_path(out, "page", target)
    table = Table("", "measured", "gate", "goal", "", box=None, pad_edge=False)
    for each in found.gates:
        table.add_row(*cells(*each.cells()))
    out.print(table)
    if check and not all(each.met for each in found.gates):
        raise typer.Exit(1)


def _import_part(name: str, verb: str) -> ModuleType:
    """A part of the clinic, for a verb that trains."""
    try:
        return import_module(f"auscult.clinic.{name}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtra(
            f"Expected PyTorch to be installed, which `auscult {verb}` trains with, but it is not. "
            "Install it: pip install 'auscult[demo]'."
        ) from None


def _use_one_thread() -> None:
    """The clinic's networks are too small to share out; on a busy machine, waiting for a second thread costs most."""
    import torch

    torch.set_num_threads(1)
