"""S20: the same score gives the same file, and on processors with other instructions one that nobody can tell apart."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from auscult.core.score import Score, Voice
from auscult.sound.earcons import earcon_voice
from auscult.sound.synth import render

DISPATCHED = """
from numpy._core._multiarray_umath import __cpu_dispatch__ as names, __cpu_features__ as found
print(" ".join(name for name in names if found[name]))
"""
WRITE = """
import sys
from tests.sound.test_same import score
from auscult.sound.synth import render
render(score()).write(sys.argv[1])
"""


def score() -> Score:
    """Three gliding voices and an earcon, 4 s."""
    generator = np.random.default_rng(20)
    times = np.linspace(0, 4, 41)
    voices = tuple(
        Voice(timbre, times, np.exp(generator.uniform(4.9, 7.6, 41)), np.full(41, 0.2), timbre=timbre, pan=pan)
        for timbre, pan in (("warm", -0.6), ("hollow", 0.0), ("bright", 0.6))
    )
    return Score("t", "test", 4.0, (*voices, earcon_voice("nan", [2.0])))


def settings() -> dict[str, dict[str, str]]:
    """Environments in which NumPy computes otherwise: without its fastest instructions, on other kernels of BLAS."""
    found = subprocess.run([sys.executable, "-c", DISPATCHED], capture_output=True, text=True, check=True).stdout
    features = found.split()
    less = {f"without {' '.join(features[at:])}": " ".join(features[at:]) for at in range(len(features))}
    return {
        "as it is": {},
        **{name: {"NPY_DISABLE_CPU_FEATURES": value} for name, value in less.items()},
        "Prescott": {"OPENBLAS_CORETYPE": "Prescott"},
        "Haswell": {"OPENBLAS_CORETYPE": "Haswell"},
        "two threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The file that a process writes in each of these environments."""
    folder = tmp_path_factory.mktemp("sounds")
    files: dict[str, bytes] = {}
    for name, setting in settings().items():
        path = folder / f"{len(files)}.wav"
        environment = {**os.environ, "PYTHONPATH": ":".join(["", *sys.path]), **setting}
        command = [sys.executable, "-W", "error", "-c", WRITE, str(path)]
        subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], check=True)
        files[name] = path.read_bytes()
    return files


def samples_of(file: bytes) -> np.ndarray:
    return np.frombuffer(file[file.index(b"data") + 8 :], "<f4")


def test_the_same_score_gives_the_same_file_in_every_process(written, tmp_path) -> None:
    for name in ("a.wav", "b.wav"):
        render(score()).write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == written["as it is"]


def test_other_instructions_differ_by_less_than_100_db_below_full_scale(written) -> None:
    expected = samples_of(written["as it is"])
    assert len(expected) == 2 * 4 * 44_100 and np.abs(expected).max() > 0.1
    for name, file in written.items():
        apart = np.abs(samples_of(file).astype(np.float64) - expected).max()
        assert apart <= 1e-5, name
