"""The floor plan of DESIGN section 2, held by import-linter, by names and by sizes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "auscult"
MODULES = sorted(SOURCE.rglob("*.py"))


def test_rooms_import_only_floors_below() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_are_single_nouns_of_readable_size(module: Path) -> None:
    parts = {part.removesuffix(".py") for part in module.relative_to(SOURCE).parts}
    assert not parts & {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "tools"}
    text = module.read_text()
    assert len(text.splitlines()) <= 600
    tree = ast.parse(text)
    assert ast.get_docstring(tree) is not None or not tree.body
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            assert not body or body[-1].end_lineno - body[0].lineno < 60, node.name
