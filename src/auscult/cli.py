"""The command line: one command per public verb; parses, calls, prints.

Exit codes: 0 done, 1 a finding as severe as `--fail-on` exists, 2 the input cannot be used, 130 ended by Ctrl-C.
"""

import logging
import sys
import warnings
from enum import Enum
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from auscult.agents.command import print_schema, serve_agents
from auscult.clinic.command import clinic, make_demo
from auscult.core.errors import AuscultError, MissingExtra, SetupError
from auscult.core.finding import SEVERITIES
from auscult.core.run import Run
from auscult.core.version import __version__
from auscult.imports.command import import_log
from auscult.live.listening import listen
from auscult.pages.diagnosis import diagnosis_text
from auscult.pages.export import export_run
from auscult.pages.terminal import cells, findings_text, print_path
from auscult.pages.verdict import verdict
from auscult.pages.wording import shown_lines
from auscult.reading import beside, examine
from auscult.reading import diagnose as diagnose_run
from auscult.reading import report as write_report
from auscult.reading import sonify as sonify_run
from auscult.sound.files import read_references, write_score
from auscult.sound.legend import legend as all_sounds
from auscult.sound.request import parse_steps
from auscult.store.reader import list_runs, load

app = typer.Typer(
    help="See, hear and be told what is going wrong inside a PyTorch training run.",
    epilog="A run is the directory that `auscult.watch(model, optimizer, path)` wrote. Start with: auscult demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(make_demo)
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


class Mode(str, Enum):
    """The modes as `--mode` takes them."""

    mix = "mix"
    overview = "overview"
    arpeggio = "arpeggio"
    solo = "solo"
    step = "step"


class ScaleName(str, Enum):
    """The scales as `--scale` takes them."""

    continuous = "continuous"
    chromatic = "chromatic"
    pentatonic = "pentatonic"


class Direction(str, Enum):
    """The polarities as `--polarity` takes them."""

    up = "up"
    down = "down"


class Background(str, Enum):
    """What `--with` takes."""

    loss = "loss"
    lr = "lr"
    clipping = "clipping"
    epochs = "epochs"


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
    table = Table(Column("run", overflow="fold"), "steps", "verdict", box=None, pad_edge=False)
    for path in found:
        try:
            run = load(path)
            table.add_row(*cells(str(path), f"{len(run.steps):,}", verdict(run, diagnose_run(run))))
        except (AuscultError, OSError) as error:
            table.add_row(*cells(str(path), "?", f"cannot be read: {error}"))
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
        Mode,
        typer.Option(
            help="mix: early, middle and late layers as three voices. overview: and every excursion marked. arpeggio: "
            "layers one after the other. solo: one layer (--path). step: a chord for each step."
        ),
    ] = Mode.mix,
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
        list[Background] | None, typer.Option("--with", help="Softly behind the layers; repeat for more.")
    ] = None,
    scale: Annotated[
        ScaleName, typer.Option(help="continuous; or chromatic or pentatonic: notes, easier on the ear, less exact.")
    ] = ScaleName.continuous,
    polarity: Annotated[Direction, typer.Option(help="up: more is higher. down: more is lower.")] = Direction.up,
    references: Annotated[
        Path | None,
        typer.Option(metavar="SCORE.json", help="Hear on this score's scale: `-o a.json` writes one."),
    ] = None,
    bits: Annotated[int, typer.Option(help="32: a WAV file of floats. 16: half as large, for any player.")] = 32,
    legend: Annotated[bool, typer.Option("--legend", help="Instead of a run: every sound with what it means.")] = False,
    skip_damage: SkipDamage = False,
) -> None:
    """Turn a run into sound, and print what is to be heard in words, which is also written beside it (.txt, .vtt).

    Every sound with its meaning, in 40 seconds: auscult sonify --legend. More: docs/sound.md.
    """
    if (path is None) != legend:
        raise SetupError("Expected a run or `--legend`. Write: auscult sonify runs/NAME, or: auscult sonify --legend.")
    with err.status("Rendering the sound ..."):
        if path is None:
            score, place = all_sounds(), Path("auscult-legend.wav")
        else:
            run, place = load(path, skip_damage=skip_damage), beside(path, ".wav")
            _print_damage(run)
            scales: dict[str, float] = {}
            if references is not None:
                metric, scales = read_references(references, metric)
            score = sonify_run(
                run,
                mapping.value,
                mode.value,
                metric,
                seconds,
                path=layer,
                steps=None if steps is None else parse_steps(steps),
                polarity=polarity.value,
                scale=scale.value,
                context=[each.value for each in context or ()],
                references=scales,
            )
        written = write_score(score, target or place, bits)
    for line in (score.summary, *score.transcript().splitlines()):
        out.print(shown_lines(line), markup=False, highlight=False)
    print_path(out, "sound", written)


@app.command()
def play(
    path: RunPath,
    speed: Annotated[float, typer.Option(help="Seconds of the sound per second, 0.1 to 20; pitch stays.")] = 1.0,
    start: Annotated[int | None, typer.Option("--from", min=0, metavar="STEP", help="Step to begin with.")] = None,
    following: Annotated[bool, typer.Option("--follow", help="Go on with what the run writes until it ends.")] = False,
    volume: Annotated[float | None, typer.Option(min=0.0, max=1.0, help="0 to 1; 0.25 with --follow, else 1.")] = None,
    mapping: Annotated[Mapping, typer.Option(help="As for `sonify`.")] = Mapping.vitals,
    mode: Annotated[Mode, typer.Option(help="As for `sonify`; with --follow mix or overview.")] = Mode.mix,
    metric: Annotated[str | None, typer.Option(help="As for `sonify`.")] = None,
    layer: Annotated[
        str | None, typer.Option("--path", metavar="PATH", help="The parameter or module that solo plays.")
    ] = None,
    skip_damage: SkipDamage = False,
) -> None:
    """Play a run on the sound device of this machine. Needs the extra `listen`: pip install 'auscult[listen]'.

    What happens is printed while it is heard; space pauses. Reads the run's files only; training is not touched. Where
    there is no sound device, as over SSH, `auscult sonify` writes a file, and `auscult report` a page for any browser.
    """
    played = listen(
        path,
        mapping=mapping.value,
        mode=mode.value,
        metric=metric,
        layer=layer,
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
        written = write_report(several, target or beside(paths[0].resolve().with_name(names), ".html"), sound=sound)
    print_path(out, "report", written)


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
            target or beside(path, suffix),
            metrics or None,
            paths or None,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
    print_path(out, "table", written)


app.command("import")(import_log)
app.command("mcp")(serve_agents)
app.add_typer(clinic, name="clinic")


def main() -> None:
    """Run the command line; what cannot be done is one message and exit code 2, and Ctrl-C the exit code 130."""
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
    except KeyboardInterrupt:
        sys.exit(130)


def _print_damage(run: Run) -> None:
    for each in run.damage:
        err.print(f"left out: {shown_lines(each)}", markup=False, highlight=False)


def _print_warning(message: Warning | str, *_where: object, **_more: object) -> None:
    err.print("note:", style="bold yellow", end=" ")
    err.print(str(message), markup=False, highlight=False)
