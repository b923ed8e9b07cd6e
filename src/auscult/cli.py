"""The command line: one command per public verb; parses, calls, prints.

Exit codes: 0 done, 1 a finding as severe as `--fail-on` exists, 2 the input cannot be used.
"""

import logging
import sys
import warnings
from collections.abc import Callable
from enum import Enum
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from auscult.agents.command import print_schema, serve_agents
from auscult.core.atomic import write_atomically
from auscult.core.errors import AuscultError, MissingExtra, SetupError
from auscult.core.finding import SEVERITIES, Finding
from auscult.core.run import Run
from auscult.core.version import __version__
from auscult.imports.command import import_log
from auscult.live.listening import listen
from auscult.pages.diagnosis import diagnosis_text
from auscult.pages.export import export_run
from auscult.pages.terminal import findings_text
from auscult.pages.verdict import verdict
from auscult.pages.wording import finding_line, shown_lines
from auscult.reading import diagnose as diagnose_run
from auscult.reading import examine
from auscult.reading import report as write_report
from auscult.reading import sonify as sonify_run
from auscult.sound.files import read_references, write_score
from auscult.sound.legend import legend as all_sounds
from auscult.sound.request import Context, Polarity, parse_steps
from auscult.sound.scales import Scale
from auscult.sound.synth import render
from auscult.store.reader import list_runs, load

if TYPE_CHECKING:
    from auscult.clinic.demo import DemoRun
    from auscult.clinic.trial import Trial

app = typer.Typer(
    help="See, hear and be told what is going wrong inside a PyTorch training run.",
    epilog="A run is the directory that `auscult.watch(model, optimizer, path)` wrote. Start with: auscult demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
clinic = typer.Typer(help="Train small reproducible runs, each healthy or with one known fault.", no_args_is_help=True)
app.add_typer(clinic, name="clinic")
app.command("import")(import_log)
app.command("mcp")(serve_agents)
out = Console()
err = Console(stderr=True)

RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of the run.")]
SkipDamage = Annotated[
    bool, typer.Option("--skip-damage", help="Leave damaged parts of the run out instead of refusing to read it.")
]


class Severity(str, Enum):
    """The severities as `--fail-on` takes them."""

    info = "info"
    warning = "warning"
    critical = "critical"


class Mapping(str, Enum):
    """The mappings as `--mapping` takes them."""

    vitals = "vitals"
    perone2019 = "perone2019"


class Subset(str, Enum):
    """The subsets as `--subset` takes them."""

    ci = "ci"


class TableFormat(str, Enum):
    """The formats as `--format` takes them."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"auscult {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """See, hear and be told what is going wrong inside a PyTorch training run."""


@app.command()
def demo(
    directory: Annotated[Path, typer.Option("--out", "-o", help="Where to write runs, reports and sound.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of both runs.")] = 0,
) -> None:
    """Train a healthy and a diverging network on real handwritten digits, and write report and sound of both.

    Takes about a minute on two cores. Needs the extra `demo`: pip install 'auscult[demo]'.
    """
    run_demo = _import_demo()
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
            _print_path(label, path)


@app.command()
def runs(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory to look in.")] = Path("runs"),
) -> None:
    """List the runs below a directory with their state and worst finding."""
    found = list_runs(directory)
    if not found:
        err.print(
            f"No runs below {directory}. `auscult.watch(model, optimizer, 'runs/name')` writes one.", markup=False
        )
        raise typer.Exit(2)
    table = Table("run", "steps", "verdict", box=None, pad_edge=False)
    for path in found:
        try:
            run = load(path)
            table.add_row(*_cells(str(path), f"{len(run.steps):,}", verdict(run, diagnose_run(run))))
        except (AuscultError, OSError) as error:
            table.add_row(*_cells(str(path), "?", f"cannot be read: {error}"))
    out.print(table)


@app.command()
def diagnose(
    path: RunPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print findings as JSON.")] = False,
    fail_on: Annotated[
        Severity | None, typer.Option("--fail-on", help="Exit with 1 if there is an active finding as severe as this.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", help="Leave findings out: U002, dead-units:encoder.*; repeatable.")
    ] = None,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema", callback=print_schema, is_eager=True, help="Print the JSON Schema of `--json` and exit."
        ),
    ] = False,
    skip_damage: SkipDamage = False,
) -> None:
    """Say what is wrong with a run: where, since when, with which figures, and what to try.

    Exit codes: 0 diagnosed, 1 there is an active finding as severe as `--fail-on`, 2 the run cannot be read.
    """
    run = load(path, skip_damage=skip_damage)
    findings, left_out = examine(run, ignore or ())
    if as_json:
        sys.stdout.write(diagnosis_text(run, findings, [(each.pattern, each.finding) for each in left_out]))
    else:
        _print_damage(run)
        out.print(findings_text(run, findings, [each.pattern for each in left_out]))
    if fail_on is not None:
        bound = SEVERITIES.index(fail_on.value)
        if any(SEVERITIES.index(f.severity) >= bound and f.status == "active" for f in findings):
            raise typer.Exit(1)


@app.command()
def sonify(
    path: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Directory of the run.", show_default=False)
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write: .wav, .flac, .ogg, .opus, .mp3, .mid, or .json for the score; RUN.wav by default.",
        ),
    ] = None,
    mapping: Annotated[
        Mapping, typer.Option(help="vitals: pitch is the distance from healthy. perone2019: 200 + 100 * norm Hz.")
    ] = Mapping.vitals,
    mode: Annotated[
        str,
        typer.Option(
            help="mix: early, middle and late layers as three voices. overview: and every excursion marked. arpeggio: "
            "layers one after the other. solo: one layer (--path). step: a chord for each step."
        ),
    ] = "mix",
    metric: Annotated[
        str | None,
        typer.Option(
            help="What drives the pitch: grad_norm (default), update_to_data or update_ratio (healthy: unison on C5), "
            "saturated_fraction, dead_fraction, param_norm, update_norm, grad_to_data, loss."
        ),
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=1.0, help="Length of the sound.")] = None,
    layer: Annotated[
        str | None, typer.Option("--path", metavar="PATH", help="The parameter or module that solo plays.")
    ] = None,
    steps: Annotated[str | None, typer.Option(metavar="FIRST:LAST", help="Hear only these steps.")] = None,
    context: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="NAME", help="Softly behind: loss, lr, clipping, epochs; repeat for more."),
    ] = None,
    scale: Annotated[
        str, typer.Option(help="continuous; or chromatic or pentatonic: notes, easier on the ear, less exact.")
    ] = "continuous",
    polarity: Annotated[str, typer.Option(help="up: more is higher. down: more is lower.")] = "up",
    references: Annotated[
        Path | None, typer.Option(metavar="SCORE.json", help="Hear on the scale of this score, as `-o a.json` writes.")
    ] = None,
    bits: Annotated[int, typer.Option(help="32: a WAV file of floats. 16: half as large, for any player.")] = 32,
    legend: Annotated[bool, typer.Option("--legend", help="Instead of a run: every sound with what it means.")] = False,
    skip_damage: SkipDamage = False,
) -> None:
    """Turn a run into sound, and print what is to be heard in words, which is also written beside it (.txt, .vtt).

    A minute of each sound and its meaning: auscult sonify --legend. More: docs/sound.md.
    """
    if (path is None) != legend:
        raise SetupError("Expected a run or `--legend`. Write: auscult sonify runs/NAME, or: auscult sonify --legend.")
    with err.status("Rendering the sound ..."):
        if path is None:
            score, beside = all_sounds(), Path("auscult-legend.wav")
        else:
            run, beside = load(path, skip_damage=skip_damage), _beside(path, ".wav")
            _print_damage(run)
            score = sonify_run(
                run,
                mapping.value,
                mode,
                metric,
                seconds,
                path=layer,
                steps=None if steps is None else parse_steps(steps),
                polarity=cast(Polarity, polarity),
                scale=cast(Scale, scale),
                context=cast(list[Context], context or []),
                references=None if references is None else read_references(references),
            )
        written = write_score(score, target or beside, bits)
    if score.events:
        lines = (shown_lines(line) for line in score.transcript().splitlines())
        out.print("\n".join(lines), markup=False, highlight=False)
    _print_path("sound", written)


@app.command()
def play(
    path: RunPath,
    speed: Annotated[float, typer.Option(help="Seconds of the sound per second, 0.1 to 20; pitch stays.")] = 1.0,
    start: Annotated[int | None, typer.Option("--from", metavar="STEP", help="Step to begin with.")] = None,
    following: Annotated[bool, typer.Option("--follow", help="Go on with what the run writes until it ends.")] = False,
    volume: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="0 to 1; 0.25 with --follow, else 1.")] = None,
    mapping: Annotated[Mapping, typer.Option(help="As for `sonify`.")] = Mapping.vitals,
    mode: Annotated[str, typer.Option(help="As for `sonify`.")] = "mix",
    metric: Annotated[str | None, typer.Option(help="As for `sonify`.")] = None,
    skip_damage: SkipDamage = False,
) -> None:
    """Play a run on the sound device of this machine. Needs the extra `listen`: pip install 'auscult[listen]'.

    What happens is printed while it is heard. Reads the run's files only; training is not touched. Where there is no
    sound device, as over SSH, `auscult sonify` writes a file, and `auscult report` a page that plays anywhere.
    """
    played = listen(
        path,
        mapping=mapping.value,
        mode=mode,
        metric=metric,
        speed=speed,
        start=start,
        volume=(0.25 if following else 1.0) if volume is None else volume,
        following=following,
        skip_damage=skip_damage,
        console=out,
    )
    if played.missing:
        err.print(f"note: {played.missing:.2f} s were silent, because this machine was too busy.", markup=False)


@app.command()
def report(
    paths: Annotated[
        list[Path], typer.Argument(metavar="RUN [RUN ...]", help="Directory of the run; several are compared.")
    ],
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="HTML file to write; RUN.html, or A-vs-B.html, by default.")
    ] = None,
    sound: Annotated[bool, typer.Option(help="Whether the page carries the run's sound.")] = True,
    skip_damage: SkipDamage = False,
) -> None:
    """Write a run's report: one HTML file with verdict, findings, charts and sound.

    Of several runs it shows where they part, what was set differently, and their curves and heat maps side by side.
    """
    several = [load(path, skip_damage=skip_damage) for path in paths]
    for run in several:
        _print_damage(run)
    names = "-vs-".join(dict.fromkeys(path.resolve().name for path in paths))
    with err.status("Building the report ..."):
        written = write_report(several, target or _beside(paths[0].resolve().with_name(names), ".html"), sound=sound)
    _print_path("report", written)


@app.command()
def live(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory with the runs.")] = Path("runs"),
    host: Annotated[str, typer.Option(help="Address to listen on; another than this machine's own needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes one that is free.")] = 8765,
    token: Annotated[
        str, typer.Option(envvar="AUSCULT_TOKEN", help="What a browser must know; at least 16 characters.")
    ] = "",
    allowed: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Another name by which a proxy passes requests on."),
    ] = None,
) -> None:
    """Show the runs of a directory in a browser while they go on. Needs the extra `live`: pip install 'auscult[live]'.

    From another machine: ssh -L 8765:localhost:8765 HOST, then open http://localhost:8765/ there.
    """
    try:
        from auscult.live.server import serve
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise MissingExtra(
            f"Expected {error.name} to be installed, which `auscult live` serves pages with, but it is not. "
            "Install it: pip install 'auscult[live]'."
        ) from None

    def on_ready(address: str) -> None:
        out.print(f"{'live page':<11}{address}", markup=False, highlight=False, soft_wrap=True)
        out.print(f"{'':<11}Ctrl-C stops it; training goes on.", markup=False, highlight=False)

    serve(directory, host, port, token, allowed or (), on_ready)


@app.command()
def export(
    path: RunPath,
    target: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write: .csv, .jsonl or .parquet; RUN.csv by default.")
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", metavar="NAME", help="Write this metric; repeat for more. All recorded ones by default."
        ),
    ] = None,
    paths: Annotated[
        list[str] | None,
        typer.Option("--path", metavar="PATTERN", help="Write paths like this, as 'conv1.*'; repeat for more."),
    ] = None,
    table_format: Annotated[TableFormat | None, typer.Option("--format", help="What RUN.* is written as.")] = None,
    skip_damage: SkipDamage = False,
) -> None:
    """Write a run as one table for other programs: step, metric, path, value.

    Derived metrics, as update_ratio, are written where `--metric` names them. Parquet needs the extra `parquet`.
    """
    suffix = f".{table_format.value}" if table_format is not None else ".csv"
    if table_format is not None and target is not None and target.suffix.lower() != suffix:
        raise SetupError(
            f"Expected `--format` and `--out` to agree, but got {table_format.value} and {str(target)!r}. "
            "The suffix decides; leave `--format` out."
        )
    run = load(path, skip_damage=skip_damage)
    _print_damage(run)
    columns = (TextColumn("Writing the table"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bar = progress.add_task("table", total=None)
        written = export_run(
            run,
            target or _beside(path, suffix),
            metrics or None,
            paths or None,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
    _print_path("table", written)


@clinic.command("list")
def list_cases() -> None:
    """List the cases with what each shows."""
    table = Table("case", "steps", "data", "shows", box=None, pad_edge=False)
    for case in _import_clinic("cases").CASES.values():
        needs = "--names" if case.needs_names else "digits or --data" if case.takes_images else ""
        table.add_row(*_cells(case.name, f"{case.steps:,}", needs, case.about))
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
    cases = _import_clinic("cases")
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
    out.print(findings_text(run, diagnose_run(run)))
    _print_path("report", write_report(run, _beside(monitor.path, ".html")))
    _print_path("sound", render(sonify_run(run)).write(_beside(monitor.path, ".wav")))


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
    parts = _import_clinic("assessment")
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
        _print_path("page", target)
    table = Table("", "measured", "gate", "goal", "", box=None, pad_edge=False)
    for each in found.gates:
        table.add_row(*_cells(*each.cells()))
    out.print(table)
    if check and not all(each.met for each in found.gates):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line; what cannot be done is one message and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of a run may be more than the terminal can show
    warnings.showwarning = _print_warning
    logging.getLogger("auscult").addHandler(logging.NullHandler())  # findings are printed by the commands themselves
    try:
        app()
    except (AuscultError, OSError) as error:
        err.print("error:", style="bold red", end=" ")
        err.print(shown_lines(str(error)), markup=False, highlight=False)
        sys.exit(2)


def _import_demo() -> "Callable[..., list[DemoRun]]":
    """The demo, imported only where something trains, because it needs torch."""
    try:
        from auscult.clinic.demo import run_demo
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtra(
            "Expected PyTorch to be installed, which `auscult demo` trains with, but it is not. "
            "Install it: pip install 'auscult[demo]'."
        ) from None
    return run_demo


def _import_clinic(name: str) -> ModuleType:
    """A part of the clinic, imported only where something trains, because it needs torch."""
    try:
        return import_module(f"auscult.clinic.{name}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtra(
            "Expected PyTorch to be installed, which `auscult clinic` trains with, but it is not. "
            "Install it: pip install 'auscult[demo]'."
        ) from None


def _use_one_thread() -> None:
    """The clinic's networks are too small to share out; on a busy machine, waiting for a second thread costs most."""
    import torch

    torch.set_num_threads(1)


def _beside(path: Path, suffix: str) -> Path:
    """A file beside the run's directory, named like it."""
    whole = path.resolve()
    return whole.with_name(whole.name + suffix)


def _cells(*texts: str) -> list[Text]:
    return [Text(shown_lines(text)) for text in texts]


def _print_damage(run: Run) -> None:
    for each in run.damage:
        err.print(f"left out: {shown_lines(each)}", markup=False, highlight=False)


def _print_warning(message: Warning | str, *_where: object, **_more: object) -> None:
    err.print("note:", style="bold yellow", end=" ")
    err.print(str(message), markup=False, highlight=False)


def _print_path(label: str, path: Path) -> None:
    out.print(f"{label:<11}{shown_lines(str(path))}", markup=False, highlight=False, soft_wrap=True)
