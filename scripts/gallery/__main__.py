"""A page for every case of the clinic, in docs/clinic: its picture, its sound, its diagnosis.

python -m scripts.gallery --names names.txt    every case; without the names those that need none
python -m scripts.gallery sgd-1.0 adam-0.01    these cases; the index keeps what the other pages say
"""

import logging
import os
import tempfile
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from scripts.gallery.page import INDEX, write_index, write_page
from scripts.gallery.training import steps_of, train

from auscult.clinic.cases import CASES, Case, case_by_name
from auscult.core.errors import AuscultError

PAGES = Path(__file__).parents[2] / "docs" / "clinic"
KERNELS = "AVX2"  # of Intel MKL, as for docs/reproduction.md: the same figures on more processors
SUFFIXES = (".md", ".png", ".mp3")


def main(
    cases: Annotated[list[str] | None, typer.Argument(metavar="CASE...", help="Cases to make; all by default.")] = None,
    names: Annotated[str, typer.Option(help="makemore's names.txt, for the cases that need it.")] = "",
    directory: Annotated[Path, typer.Option("--out", help="Where to write the pages.")] = PAGES,
) -> None:
    """Train cases and write their pages."""
    os.environ.setdefault("MKL_CBWR", KERNELS)  # read by MKL at its first call
    torch.set_num_threads(1)
    logging.getLogger("auscult").addHandler(logging.NullHandler())  # findings stand on the pages
    console = Console(stderr=True)
    try:
        wanted = [case_by_name(name) for name in cases or CASES]
        made = [case for case in wanted if names or not case.needs_names]
        directory.mkdir(parents=True, exist_ok=True)
        _make(made, Path(names) if names else None, directory, console)
    except AuscultError as error:
        console.print(f"error: {error}", style="bold red", markup=False)
        raise typer.Exit(2) from None
    for path in _orphans(directory):
        path.unlink()
        print(f"removed {path.name}: there is no such case")
    print(write_index(directory))
    missed = [case.name for case in wanted if case not in made]
    if missed:
        print(f"Left out, because they need makemore's names (NAMES=names.txt): {', '.join(missed)}.")


def _make(cases: list[Case], names: Path | None, directory: Path, console: Console) -> None:
    columns = (TextColumn("{task.description:<30}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory() as runs, Progress(*columns, console=console) as progress:
        for number, case in enumerate(cases, start=1):
            bar = progress.add_task(f"{case.name} ({number}/{len(cases)})", total=steps_of(case))
            run = train(case, Path(runs), names, lambda step, bar=bar: progress.update(bar, completed=step))
            print(write_page(case, run, directory))


def _orphans(directory: Path) -> list[Path]:
    """Pages, pictures and sounds of cases that are gone."""
    files = (path for path in sorted(directory.iterdir()) if path.suffix in SUFFIXES and path.name != INDEX)
    return [path for path in files if path.stem not in CASES]


if __name__ == "__main__":
    typer.run(main)
