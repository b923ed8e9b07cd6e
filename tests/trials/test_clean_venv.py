"""S12: the package as pip installs it, without any extra, into an environment of its own."""

import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import auscult

pytestmark = pytest.mark.trial

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    programs = folder / "bin"
    subprocess.run([programs / "pip", "install", "--quiet", str(ROOT)], check=True)
    return programs


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, path) as monitor:
        for _ in range(30):
            loss = model(torch.randn(4, 3)).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    return path


def called(clean: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(clean), "COLUMNS": "500"}
    command = [clean / "auscult", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=clean)


def test_it_holds_no_sound_library_and_no_torch(clean: Path) -> None:
    code = "import importlib.util as u; print(*[n for n in {} if u.find_spec(n)])"
    names = ["torch", "soundfile", "miniaudio", "mido", "sounddevice", "scipy", "matplotlib", "numpy"]
    done = subprocess.run([clean / "python", "-c", code.format(names)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["numpy"]
    assert sys.prefix != str(clean.parent)


def test_a_wav_is_written_as_it_is_with_everything_installed(clean: Path, run_path: Path, tmp_path: Path) -> None:
    done = called(clean, "sonify", str(run_path), "-o", str(tmp_path / "a.wav"))
    assert done.returncode == 0, done.stderr
    data = (tmp_path / "a.wav").read_bytes()
    samples = np.frombuffer(data[data.index(b"data") + 8 :], "<f4").reshape(-1, 2)
    np.testing.assert_allclose(samples, auscult.render(auscult.sonify(auscult.load(run_path))).samples, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("play", "RUN"), "listen"),
        (("play", "RUN", "--follow"), "listen"),
        (("sonify", "RUN", "-o", "a.ogg"), "audio-files"),
        (("sonify", "RUN", "-o", "a.mid"), "midi"),
    ],
)
def test_what_needs_an_extra_says_so_in_one_line(clean: Path, run_path: Path, arguments, extra) -> None:
    done = called(clean, *(str(run_path) if each == "RUN" else each for each in arguments))
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert f"pip install 'auscult[{extra}]'" in line
