"""The terminal: findings as text, with colours where the terminal has them.

Text from a run is never read as markup, and its control characters never reach the terminal.
"""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from auscult.core.finding import Evidence, Finding, Severity, consequences, in_groups
from auscult.core.run import Run
from auscult.pages.verdict import is_sick, verdict
from auscult.pages.wording import SEVERITY_WORDS, figure, ignored_line, place, shown, shown_lines

STYLES: dict[Severity, str] = {"critical": "bold red", "warning": "bold yellow", "info": "bold cyan"}


def findings_text(run: Run, findings: Sequence[Finding], ignored: Sequence[str] = ()) -> Group:
    """The verdict and every finding, worst first, as a renderable for `rich.console.Console.print`.

    Args:
        run: The run.
        findings: What the rules found in it, in any order; consequences are shown indented behind their cause.
        ignored: The pattern that each finding fits that the user ignores.
    """
    ordered = in_groups(findings)
    style = "bold green" if len(run.steps) else "bold"
    if is_sick(ordered):
        style = STYLES[min(ordered, key=lambda each: each.rank).severity]
    blocks: list[RenderableType] = [Text(f"{shown(run.info.name)}: ", "bold").append(verdict(run, findings), style)]
    for each in ordered:
        heading, body = _heading(each), Padding(_body(each, ordered), (0, 0, 0, 2), expand=False)
        indent = 4 if each.cause in {other.key for other in ordered} else 0
        blocks += [Text(), *(Padding(part, (0, 0, 0, indent), expand=False) for part in (heading, body))]
    if ignored:
        blocks += [Text(), Text(ignored_line(ignored), "dim")]
    return Group(*blocks)


def cells(*texts: str) -> list[Text]:
    """Cells of a table, whatever stands in them."""
    return [Text(shown_lines(text)) for text in texts]


def print_path(console: Console, label: str, path: Path) -> None:
    """Say where something was written to; the path stays in one piece."""
    console.print(f"{label:<11}{shown_lines(str(path))}", markup=False, highlight=False, soft_wrap=True)


def _heading(finding: Finding) -> Text:
    style = "dim" if finding.status == "recovered" else STYLES[finding.severity]
    word = SEVERITY_WORDS[finding.severity] + (", recovered" if finding.status == "recovered" else "")
    return Text.assemble(
        (f"{word} ", style),
        (f"{shown(finding.code)} {shown(finding.name)}", "bold"),
        f"  {place(finding.path)}, since step {finding.step:,}",
    )


def _body(finding: Finding, findings: Sequence[Finding]) -> Table:
    """Two columns, so that a wrapped sentence stays beside its label."""
    lines = Table.grid(padding=(0, 2, 0, 0))
    lines.add_column(style="dim", no_wrap=True)
    lines.add_column(overflow="fold")
    lines.add_row("what", Text(shown_lines(finding.summary)))
    explained = [f"{shown(each.code)} {shown(each.name)}" for each in consequences(finding, findings)]
    if explained:
        lines.add_row("explains", Text(", ".join(explained)))
    for each in finding.evidence:
        lines.add_row("evidence", Text.assemble(*_evidence(each)))
    for each in finding.advice:
        lines.add_row("try", Text(shown_lines(each), "green"))
    for each in finding.ruled_out:
        lines.add_row("ruled out", Text(shown_lines(each)))
    if finding.confidence < 1:
        lines.add_row("confidence", f"{finding.confidence:.0%}")
    return lines


def _evidence(evidence: Evidence) -> tuple[str | tuple[str, str], ...]:
    bound = "" if evidence.bound is None else f" (bound {figure(evidence.bound)})"
    return (
        f"{shown_lines(evidence.metric)} of {place(evidence.path, evidence.metric)} = ",
        (figure(evidence.value), "bold"),
        f" at step {evidence.step:,}{bound}",
    )
