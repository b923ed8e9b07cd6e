"""Generated pages are current, and the README's code runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from auscult.core.digest import BLOCK

ROOT = Path(__file__).parents[1]


def test_generated_pages_and_the_architecture_tree_are_current() -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "docs.py", "--check"], check=True)


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_within_the_project_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / page).read_text()):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


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
