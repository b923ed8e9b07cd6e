"""Sound in a process in which nothing can be imported but the standard library, NumPy and auscult."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import auscult

NOTHING_ELSE = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.split('.')[0]
        if top not in sys.stdlib_module_names and top not in ('numpy', 'auscult'):
            raise ModuleNotFoundError(f'{name} is not installed here', name=top)
sys.meta_path.insert(0, Blocker())
"""


def test_numpy_alone_writes_a_wav(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, tmp_path / "run") as monitor:
        for _ in range(20):
            loss = model(torch.randn(4, 3)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    code = NOTHING_ELSE + (
        "import auscult\n"
        f"auscult.render(auscult.sonify(auscult.load({str(tmp_path / 'run')!r}))).write({str(tmp_path / 'a.wav')!r})\n"
        f"auscult.report(auscult.load({str(tmp_path / 'run')!r}), {str(tmp_path / 'a.html')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    data = (tmp_path / "a.wav").read_bytes()
    assert data[:4] == b"RIFF" and data[8:12] == b"WAVE"
    samples = np.frombuffer(data[data.index(b"data") + 8 :], "<f4")
    assert samples.any() and np.isfinite(samples).all()
