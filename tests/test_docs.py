"""Generated pages are current, and the README's code runs as it stands there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup as Group
from typer.main import get_command

from auscult.cli import app
from auscult.clinic.cases import CASES
from auscult.core.digest import BLOCK
from auscult.rules.registry import RULES

ROOT = Path(__file__).parents[1]
PAGES = sorted(page.relative_to(ROOT) for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", (ROOT / page).read_text(), flags=re.S | re.M)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> list[list[str]]:
    """The arguments of every `auscult ...` in a page, in lines of code or within a sentence."""
    fenced = "\n".join(re.findall(r"^```(?:bash)?\n(.*?)^```", text, re.S | re.M))
    found = re.findall(r"^auscult (.*)$", fenced, re.M) + re.findall(r"`auscult ([a-z-][^`]*)`", text)
    return [shlex.split(each, comments=True) for each in found]


def test_generated_pages_and_the_architecture_tree_are_current() -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "docs.py", "--check"], check=True)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?", prose(page)):
        if target.startswith("http"):
            continue
        place = (ROOT / page).parent / target if target else ROOT / page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_exist_with_the_options_that_pages_give_them(page: Path) -> None:
    for words in commands((ROOT / page).read_text()):
        verb, options = get_command(app), [each.split("=")[0] for each in words if re.match(r"--?[a-z]", each)]
        while isinstance(verb, Group) and words and not words[0].startswith("-"):
            verb, words = verb.commands[words[0]], words[1:]
        known = {name for each in verb.params for name in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
        assert known.issuperset(options), (words, options)


def test_the_readme_counts_what_there_is() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(RULES) == 49 and "Forty-nine rules" in text
    assert len(CASES) == 30 and "thirty small runs" in text


def test_the_readmes_ten_lines_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    training = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss_fn = nn.CrossEntropyLoss()
loader = [(torch.randn(6, 4), torch.randint(3, (6,))) for _ in range(20)]
"""
    assert len(blocks) == 2
    subprocess.run([sys.executable, "-c", training + blocks[0]], check=True, cwd=tmp_path)
    subprocess.run([sys.executable, "-c", blocks[1]], check=True, cwd=tmp_path)
    assert (tmp_path / "report.html").exists() and (tmp_path / "run.wav").exists()


def test_the_file_format_names_every_field_of_a_block() -> None:
    page = (ROOT / "docs" / "file-format.md").read_text()
    rows = re.findall(r"^\| (`[^|]+`) \| `(<\w+)` \|", page, re.M)
    listed = {name: kind for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    assert listed == {name: BLOCK[name].str for name in BLOCK.names}
