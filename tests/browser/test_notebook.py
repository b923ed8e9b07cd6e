"""A notebook, really executed: what each noun shows there, in a real browser, in dark and in light."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.browser.conftest import Visits
from tests.browser.test_accessibility import violations

pytestmark = pytest.mark.browser

CELLS = (
    "import auscult\nrun = auscult.load({path!r})\nrun",
    "run.series('grad_norm')",
    "auscult.diagnose(run)",
    "auscult.sonify(run)",
    "%matplotlib inline\nrun.plot('grad_norm', path=run.paths('grad_norm'))",
)
EXECUTE = """
import sys, nbformat, nbclient
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, kernel_name='python3', timeout=120).execute()
nbformat.write(notebook, sys.argv[1])
"""


@pytest.fixture(scope="module", params=["nan", "hostile"])
def outputs(request: pytest.FixtureRequest, run_path: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory):
    """What each cell shows, by media type."""
    path = tmp_path_factory.mktemp("notebook") / "run.ipynb"
    cells = [
        {"cell_type": "code", "execution_count": None, "id": f"cell-{place}", "metadata": {}, "outputs": [],
         "source": source.format(path=str(run_path(request.param)))}
        for place, source in enumerate(CELLS)
    ]  # fmt: skip
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    subprocess.run([sys.executable, "-c", EXECUTE, path], check=True, timeout=180)
    executed = json.loads(path.read_text())["cells"]
    return [[each["data"] for each in cell["outputs"] if "data" in each] for cell in executed]


@pytest.mark.parametrize(("scheme", "colours"), [("light", "#fff; color: #000"), ("dark", "#111; color: #fff")])
def test_each_noun_shows_itself(visits: Visits, outputs, tmp_path: Path, scheme: str, colours: str) -> None:
    html = ["".join(data[0]["text/html"]) for data in outputs[:4]]
    assert all(len(each) < 30_000 for each in html), "small"
    page_file = tmp_path / "cells.html"
    body = "".join(f"<section>{each}</section>" for each in html)
    page_file.write_text(
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>cells</title>"
        f"<link rel='icon' href='data:,'><style>body {{ background: {colours} }}</style></head>"
        f"<body><main><h1>cells</h1>{body}</main></body></html>"
    )
    page = visits.open(page_file.as_uri(), scheme=scheme, ready="body")
    assert violations(page) == []
    assert page.locator("section").count() == 4
    assert not page.locator("script, section img, [onerror], [onmouseover]").count()
    words = page.locator("section").all_text_contents()
    assert "grad_norm" in words[0] and "finished" in words[0]
    assert "NaN or inf" in words[1] and page.locator("section >> nth=1 >> svg path").count() == 1
    assert "since step 40" in words[2] and "What to try:" in words[2]
    assert "vitals" in words[3] and page.locator("section >> nth=3 >> svg path").count() >= 3
    for summary in page.locator("summary").all()[:4]:
        summary.click()


def test_plot_draws_a_picture(outputs) -> None:
    assert any("image/png" in data for data in outputs[4])
