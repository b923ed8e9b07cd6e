"""Command: `auscult import` as the command line parses it, with its progress and what it prints."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from auscult.pages.wording import shown, shown_lines


class LogFormat(str, Enum):
    """The formats as `import --format` takes them."""

    tensorboard = "tensorboard"
    wandb = "wandb"
    mlflow = "mlflow"
    transformers = "transformers"
    csv = "csv"
    jsonl = "jsonl"


def import_log(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A TensorBoard, W&B or MLflow file or directory, a trainer_state.json, a CSV or JSON Lines file.",
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Directory of the run; of several, the one above. runs/NAME by default."),
    ] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option("--format", help="What the source is; by default it is told from the files.")
    ] = None,
    names: Annotated[
        list[str] | None, typer.Option("--run", metavar="NAME", help="Import this run; repeat for more. Default: all.")
    ] = None,
    step: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of steps of a CSV or JSON Lines file.")
    ] = None,
    skip_damage: Annotated[
        bool, typer.Option("--skip-damage", help="Leave damaged parts of the log out and say what was lost.")
    ] = False,
) -> None:
    """Read a log that another tool wrote into a run, which diagnose, report and sonify then work on.

    Numbers keep their steps and values. Names stay, but for those that mean the same here (`val_loss` becomes
    `val/loss`); what the log does not have is "not observed". The source is only read.
    """
    from auscult.imports.importer import import_runs, imported_lines  # with readers that no other verb needs

    out, err = Console(), Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bar = progress.add_task("Looking for runs", total=None)

        def on_progress(name: str, done: int, total: int) -> None:
            progress.update(bar, description=f"Reading {shown_lines(name)}", completed=done, total=total)

        found = import_runs(
            source,
            target,
            log_format=log_format.value if log_format is not None else None,
            names=names or (),
            step=step,
            skip_damage=skip_damage,
            on_progress=on_progress,
        )
    for each in found:
        for line in imported_lines(each):
            out.print(shown(line), markup=False, highlight=False, soft_wrap=True)
