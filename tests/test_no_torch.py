"""The reading side in a process where torch cannot be imported."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

import auscult

BLOCK_TORCH = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'sklearn', 'scipy'):
            raise ModuleNotFoundError(f'{name} is not installed here', name=name.split('.')[0])
sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, path) as monitor:
        for step in range(80):
            loss = model(torch.randn(4, 3)).square().mean() * (torch.nan if step == 70 else 1.0)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    return path


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCK_TORCH + code, *arguments], capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


def test_load_diagnose_sonify_report(run, tmp_path) -> None:
    code = f"""
import auscult
run = auscult.load({str(run)!r})
assert len(run.series('loss')) == 80
finding = auscult.diagnose(run)[0]
assert finding.severity == 'critical' and finding.step == 70, finding
auscult.render(auscult.sonify(run)).write({str(tmp_path / "a.wav")!r})
auscult.report(run, {str(tmp_path / "a.html")!r})
assert 'torch' not in sys.modules
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.wav").stat().st_size > 10_000 < (tmp_path / "a.html").stat().st_size


@pytest.mark.parametrize("verb", ["diagnose", "sonify", "report", "runs", "export"])
def test_command_line(verb, run) -> None:
    code = "from auscult.cli import main; main()"
    done = python(code, verb, str(run.parent if verb == "runs" else run))
    assert done.returncode == 0, done.stderr
    assert "L001" in done.stdout or verb != "diagnose"


def test_the_live_page_is_served_without_torch(run) -> None:
    code = """
import sys, threading, urllib.request
from pathlib import Path
from auscult.live.server import serve
def ask(address):
    def get():
        with urllib.request.urlopen(address) as answer:
            print(answer.status, 'torch' in sys.modules, flush=True)
        import os
        os._exit(0)
    threading.Timer(1, get).start()
serve(Path(sys.argv[1]), '127.0.0.1', 0, on_ready=ask)
"""
    assert python(code, str(run.parent)).stdout == "200 False\n"


def test_watch_without_torch_says_what_to_install(run) -> None:
    done = python("import auscult\nauscult.watch")
    assert "pip install 'auscult[train]'" in done.stderr, done.stderr
    demo = python("from auscult.cli import main; main()", "demo", "--out", str(run.parent / "demo"))
    assert demo.returncode == 2 and "pip install 'auscult[demo]'" in demo.stderr, demo.stderr
