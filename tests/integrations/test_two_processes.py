"""Real trainers on two processes over gloo: norms are those of one process, and only rank 0 writes and sends."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.integrations import two
from tests.integrations.conftest import read_tensorboard

import auscult

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("default"),  # of the trainers' own
    pytest.mark.filterwarnings("error:auscult"),
]


def launched(trainer: str, out: Path) -> list[dict]:
    """What both ranks told."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = two.os.environ | {
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1", "PYTHONPATH": two.os.pathsep.join(filter(None, sys.path)), "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    ranks = [
        subprocess.Popen(
            [sys.executable, two.__file__, trainer, str(out)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=out,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        said = [each.communicate(timeout=180)[0] for each in ranks]
    finally:
        for each in ranks:
            each.kill()
    assert all(each.returncode == 0 for each in ranks), "\n".join(said)
    return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("trainer", ["lightning", "accelerate", "transformers"])
def test_norms_are_those_of_one_process_and_only_rank_0_sends(trainer: str, tmp_path: Path) -> None:
    truth = two.by_hand(tmp_path)
    ranks = launched(trainer, tmp_path)
    assert [each["failures"] for each in ranks] == [[], []]
    np.testing.assert_allclose([each["sum"] for each in ranks], truth["sum"], rtol=1e-5)
    assert [each.name for each in tmp_path.glob("run*")] == ["run"]
    run = auscult.load(tmp_path / "run")
    np.testing.assert_allclose(run.series("grad_norm"), truth["before"], rtol=1e-5)
    np.testing.assert_allclose(run.series("grad_norm_clipped"), truth["after"], rtol=1e-5)
    assert run.info.world_size == 2 and max(truth["before"]) > 1.001 * max(truth["after"])
    points = read_tensorboard(tmp_path)  # by event files of one process: two would have every step twice
    assert [step for step, _ in points["grad_norm"]] == list(range(two.STEPS))
    np.testing.assert_allclose([value for _, value in points["grad_norm"]], truth["before"], rtol=1e-5)
    assert len(list((tmp_path / "run" / "tensorboard").glob("events.*"))) == 1
