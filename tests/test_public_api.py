"""What `import auscult` offers, and what it costs."""

import subprocess
import sys

import pytest

import auscult

NAMES = [
    "Audio", "Finding", "Findings", "Monitor", "Run", "Score", "Series",
    "diagnose", "import_runs", "load", "render", "report", "sonify", "watch",
]  # fmt: skip


def test_the_facade_is_these_names() -> None:
    assert auscult.__all__ == NAMES
    for name in NAMES:
        assert getattr(auscult, name).__name__ == name
        assert name in dir(auscult)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'wacth'; it has Audio, Finding"):
        auscult.wacth  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, auscult; print([m for m in ('torch','numpy','rich','typer') if m in sys.modules], "
        "len([m for m in sys.modules if m.startswith('auscult')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "3"]
