import io
from collections.abc import Callable

from rich.console import Console

from auscult.core.finding import Evidence, Finding
from auscult.core.run import Run
from auscult.pages.terminal import findings_text
from auscult.pages.wording import finding_line


def printed(run: Run, findings: list[Finding], terminal: bool = False, width: int = 200) -> str:
    file = io.StringIO()
    color = "truecolor" if terminal else None
    Console(file=file, width=width, force_terminal=terminal, color_system=color).print(findings_text(run, findings))
    return file.getvalue()


def test_a_finding_is_complete(exploding: Run, finding: Callable[..., Finding]) -> None:
    text = printed(exploding, [finding()])
    for part in (
        "mel-scale: Critical: exploding-gradient (G001)",
        "layers.2.weight, since step 120",
        "grew 4,000-fold",
        "grad_norm of layers.2.weight = 2,310 at step 164 (bound 6.2)",
        "grad_norm of the whole run = 9,411 at step 164",
        "Lower the learning rate to 3e-4",
        "Clip at 1.0",
        "Bad batch: the loss stayed high",
        "90%",
    ):
        assert part in text


def test_worst_first(exploding: Run, finding: Callable[..., Finding]) -> None:
    text = printed(exploding, [finding(code="U003", severity="warning", step=1), finding(code="N001")])
    assert text.index("N001", 40) < text.index("U003")


def test_plain_when_piped_coloured_in_a_terminal(healthy: Run, finding: Callable[..., Finding]) -> None:
    assert "\x1b" not in printed(healthy, [finding()])
    assert "\x1b[" in printed(healthy, [finding()], terminal=True)


def test_names_are_neither_markup_nor_escapes(
    hostile: Run, hostile_paths: tuple[str, ...], finding: Callable[..., Finding]
) -> None:
    several = [
        finding(path=path, summary=f"[bold]x[/] {path}", evidence=(Evidence("[red]y", path, 1, 2.0),))
        for path in hostile_paths
    ]
    text = printed(hostile, several, width=1000)
    assert "[bold]x[/]" in text and "[red]y" in text and "\\x1b[31mred" in text
    assert "\x1b" not in text and "\x00" not in text and "\u202e" not in text
    for each in several:
        line = finding_line(each)
        assert line.isprintable()


def test_the_line_of_a_log(finding: Callable[..., Finding]) -> None:
    line = finding_line(finding())
    assert line.startswith("CRITICAL G001 exploding-gradient, layers.2.weight since step 120: The gradient norm")
    assert line.endswith("Try: Lower the learning rate to 3e-4, or warm it up over 1,000 steps.")
    assert finding_line(finding(status="recovered")).startswith("CRITICAL recovered G001")


def test_narrow_terminals_lose_nothing(exploding: Run, finding: Callable[..., Finding]) -> None:
    wide = "".join(printed(exploding, [finding()], width=300).split())
    narrow = "".join(printed(exploding, [finding()], width=40).split())
    assert sorted(wide) == sorted(narrow)


def test_a_consequence_stands_indented_behind_its_cause(exploding: Run, finding: Callable[..., Finding]) -> None:
    root = finding(code="U001", name="lr-too-high", severity="warning", step=9, path="")
    follows = finding(code="L001", name="non-finite", severity="critical", step=99, cause=root.key)
    lines = printed(exploding, [follows, finding(code="A002", name="saturated", severity="info"), root]).splitlines()
    assert "Critical: lr-too-high (U001)" in lines[0] and "explains 1 other finding, and 1 further" in lines[0]
    headings = [line for line in lines if line.lstrip().startswith(("Critical ", "Warning ", "Note "))]
    assert ["U001" in headings[0], "L001" in headings[1], headings[1].startswith("    ")] == [True] * 3
    assert any("explains" in line and "L001 non-finite" in line for line in lines[1:])
