"""A run at rest: diagnose it, hear it, put it on a page. Never imports torch."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path

from auscult.core.atomic import write_atomically
from auscult.core.digest import digest_run
from auscult.core.errors import SetupError
from auscult.core.finding import Finding
from auscult.core.findings import Findings
from auscult.core.run import Run
from auscult.core.score import Score
from auscult.pages.charts import pictures
from auscult.pages.comparison import MAX_RUNS, comparison_html
from auscult.pages.report import report_html
from auscult.rules.ignoring import Ignored, checked_patterns
from auscult.rules.registry import RULES, asked, judgement
from auscult.sound.mappings import sonify_report, sonify_run
from auscult.sound.request import Context, Polarity, Request
from auscult.sound.scales import Scale


def diagnose(run: Run, ignore: Sequence[str] = ()) -> Findings:
    """What is wrong with a run.

    Args:
        run: A run, as `load` gives it.
        ignore: Patterns of findings to leave out, besides those that were given to `watch`: a rule's code or name, and
            after a colon a path, all with wildcards: `U002`, `dead-units:encoder.*`.

    Returns:
        Findings, active before recovered, worst first, consequences behind their cause; empty for a healthy run. For
        `run.until(step)` they are the ones that were known at that step. A list, which shows itself in a notebook.

    Raises:
        SetupError: if a pattern is malformed.
    """
    return Findings(examine(run, ignore)[0])


def examine(run: Run, ignore: Sequence[str] = ()) -> tuple[list[Finding], list[Ignored]]:
    """As `diagnose`, and the findings that were left out with the pattern that each fits."""
    patterns = (*run.segments[-1].ignore, *checked_patterns(ignore, RULES))
    closed, now = digest_run(run)
    return judgement(asked(closed, now), patterns)


def sonify(
    run: Run,
    mapping: str = "vitals",
    mode: str = "mix",
    metric: str | None = None,
    seconds: float | None = None,
    *,
    path: str | None = None,
    steps: tuple[int, int] | None = None,
    polarity: Polarity = "up",
    scale: Scale = "continuous",
    context: Sequence[Context] = (),
    references: Mapping[str, float] | None = None,
) -> Score:
    """Turn a run into a score: pitch says how far a group of layers is from healthy, an alarm that a number is NaN.

    Args:
        run: A run, as `load` gives it.
        mapping: `vitals`, or `perone2019` for the original one tone of 200 + 100 * norm Hz per layer and step.
        mode: `mix`: early, middle and late layers as three voices. `overview`: the same, each excursion marked at its
            step. `arpeggio`: layers one after the other, early to late. `solo`: one layer. `step`: a chord per step.
        metric: What drives the pitch: `grad_norm` (against the run's own beginning, the default), `update_ratio` or
            `update_to_data` (against 1e-3: a healthy run is a unison on C5), `saturated_fraction` or `dead_fraction`
            (against 5 %), `param_norm`, `update_norm`, `grad_to_data`, or `loss`, the default where only that is known.
        seconds: Length, up to an hour; None lets the number of steps decide. Earcons at the end may add up to 4 s. In
            `step` and `perone2019`, which have their own pace: how much is heard.
        path: The parameter or module that `solo` plays.
        steps: First and last step to hear; None for all.
        polarity: `up`: more is higher; `down`: more is lower.
        scale: `continuous`, or the nearest notes of `chromatic` or `pentatonic`, easier on the ear and less exact.
        context: Softly behind the layers, any of `loss`, `lr`, `clipping`, `epochs`.
        references: Those of another score (`score.references`), to hear both runs on one scale.

    Raises:
        SetupError: if something is unknown or cannot be.
    """
    request = Request(metric, seconds, path, steps, polarity, scale, tuple(context), dict(references or {}))
    return sonify_run(run, diagnose(run), request, mapping=mapping, mode=mode)


def report(run: Run | Sequence[Run], path: str | PathLike[str], sound: bool = True) -> Path:
    """Write the report of a run, or of several side by side: one self-contained HTML file.

    Args:
        run: A run, as `load` gives it, or up to six of them, which are compared with the first.
        path: Where to write it; folders are made.
        sound: Whether it can be heard, as three voices, as an overview and as an arpeggio; a comparison is silent.

    Returns:
        The path written.

    Raises:
        SetupError: if the path does not end in `.html` or `.htm`, or cannot be written, or there is no run or too many.
    """
    runs = [run] if isinstance(run, Run) else list(run)
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise SetupError(f"Expected `path` to end in .html, but got {str(target)!r}. Write report(run, 'report.html').")
    if not 0 < len(runs) <= MAX_RUNS:
        raise SetupError(
            f"Expected between 1 and {MAX_RUNS} runs, but got {len(runs)}. Write report([first, second], 'both.html')."
        )
    page = _report(runs[0], sound) if len(runs) == 1 else comparison_html(runs, [diagnose(each) for each in runs])
    write_atomically(target, page.encode("utf-8"))
    return target


def _report(run: Run, sound: bool) -> str:
    findings, ignored = examine(run)
    with ThreadPoolExecutor(1) as second:  # half of the time goes into NumPy, beside which others may run
        heard = second.submit(sonify_report, run, findings) if sound else None
        drawn = pictures(run, findings)
        scores = heard.result() if heard is not None else []
    return report_html(run, findings, scores, [each.pattern for each in ignored], drawn)


def beside(path: Path, suffix: str) -> Path:
    """Where what is made of a run goes by default: beside its directory, named like it."""
    whole = path.resolve()
    return whole.with_name(whole.name + suffix)
