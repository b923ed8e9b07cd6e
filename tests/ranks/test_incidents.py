"""What only a run of several ranks can get wrong, in real processes, and what happens to auscult when they die."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.ranks.conftest import finish, start

import auscult

SCRIPT = Path(__file__).with_name("incidents.py")
NAMES = ("nan_on_one", "unequal", "only_first", "apart", "fsdp1", "stages", "one_ulp", "same_data")


@pytest.fixture(scope="module")
def incidents(tmp_path_factory) -> list[dict]:
    directory = tmp_path_factory.mktemp("incidents")
    return finish(start(2, directory, *NAMES, script=SCRIPT), directory)


def codes(told: dict) -> set[str]:
    """The findings about ranks; R005 speaks of the machine that the test runs on."""
    return {code for code, _, _ in told["findings"] if code[0] == "R"} - {"R005"}


def test_nothing_failed_anywhere(incidents) -> None:
    for rank in incidents:
        assert all(told.get("failures", []) == [] for told in rank.values())


def test_one_ulp_on_one_rank_is_found_at_the_next_logged_step(incidents) -> None:
    told = incidents[0]["one_ulp"]
    assert codes(told) == {"R001"} and [step for code, step, _ in told["findings"] if code == "R001"] == [71]
    assert told["at"] == 73  # the sum of step 71 is read when step 72 is over, and judged when it is written


def test_a_nan_names_the_rank_it_began_on_and_all_ranks_stop_at_one_step(incidents) -> None:
    told = incidents[0]["nan_on_one"]
    assert codes(told) == {"R002"} and "rank 1 at step 12" in told["findings"][0][2]
    assert incidents[0]["nan_on_one"]["stopped"] == incidents[1]["nan_on_one"]["stopped"] is not None


def test_a_rank_without_batches_holds_nobody_up(incidents) -> None:
    told = incidents[0]["unequal"]
    assert codes(told) == {"R004"} and "Rank 1 had no more batches at step 10" in told["findings"][0][2]
    run = auscult.load(told["path"])
    assert run.last_step == 79 and len(run.series("grad_norm")) == 80  # every parameter is whole on rank 0


def test_the_same_batches_on_all_ranks(incidents) -> None:
    assert codes(incidents[0]["same_data"]) == {"R003"}


def test_ranks_with_directories_of_their_own_are_runs_of_their_own(incidents) -> None:
    assert [(rank["apart"]["alone"], rank["apart"]["saved"]) for rank in incidents] == [(True, 2), (True, 3)]


def test_watching_on_rank_0_alone_is_refused_instead_of_waited_for(incidents) -> None:
    assert (
        "all 2 ranks" in incidents[0]["only_first"]["error"] and "if rank == 0" in incidents[0]["only_first"]["error"]
    )


@pytest.mark.parametrize(("name", "why"), [("fsdp1", "FSDP1"), ("stages", "pipeline")])
def test_what_is_not_supported_is_not_observed(incidents, name, why) -> None:
    run = auscult.load(incidents[0][name]["path"])
    events = [json.loads(line) for line in (Path(incidents[0][name]["path"]) / "events.jsonl").read_text().splitlines()]
    assert [why in each["reason"] for each in events if each["kind"] == "not_observed"] == [True]
    assert all(len(run.series(metric)) == 0 for metric in ("grad_norm", "param_norm", "update_norm"))
    assert len(run.series("loss")) == 5 and len(run.series("rank_loss", "1")) == 5


def test_sigkill_of_one_rank(tmp_path) -> None:
    """The others see torch's own failure at once; what was saved is there; another number of ranks goes on."""
    ranks = start(2, tmp_path, "killed", script=SCRIPT)
    said = [each.communicate(timeout=240)[0] for each in ranks]
    assert ranks[1].returncode == -9 and ranks[0].returncode == 0, said
    told = json.loads((tmp_path / "rank0.json").read_text())["killed"]
    assert "by peer" in told["error"] and told["failures"] == []
    assert told["closed"] < 20 and told["saved"] >= 18  # not the patience of a farewell; one step was on its way
    path = tmp_path / "killed" / "run"
    run = auscult.load(path)
    assert run.last_step >= told["saved"]
    np.testing.assert_allclose(run.series("loss").values[:19], told["truth"][:19], rtol=1e-6)
    last = run.last_step
    for each in finish(start(3, tmp_path, "resumed", script=SCRIPT), tmp_path):
        assert each["resumed"] == {"first": last + 1, "path": str(path), "failures": []}
    assert auscult.load(path).last_step == last + 5


@pytest.mark.ranks
def test_four_ranks_name_the_one_that_differs(tmp_path) -> None:
    told = finish(start(4, tmp_path, "one_ulp", script=SCRIPT), tmp_path)[0]["one_ulp"]
    assert codes(told) == {"R001"} and "step 71 (rank 3: most replicas agree on others)" in told["findings"][0][2]


@pytest.mark.ranks
@pytest.mark.parametrize("world", [2, 4])
def test_no_false_alarm_in_a_thousand_healthy_steps(tmp_path, world) -> None:
    told = finish(start(world, tmp_path, "healthy", script=SCRIPT), tmp_path)[0]["healthy"]
    for kind, each in told.items():
        assert codes(each) == set() and each["failures"] == [], kind
        run = auscult.load(each["path"])
        assert len(run.series("grad_norm")) == 1000
        if kind in ("ddp", "hsdp"):  # which have replicas
            assert not run.series("rank_differs", "1").values.any()


@pytest.mark.ranks
@pytest.mark.parametrize("name", ["ddp.py", "fsdp2.py"])
def test_the_examples_run_under_torchrun(tmp_path, name) -> None:
    script = Path(__file__).parents[2] / "examples" / name
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [*command, str(tmp_path / "run")], env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["run"]
    run = auscult.load(tmp_path / "run")
    assert len(run.series("grad_norm")) == len(run.series("loss")) > 0 and len(run.series("rank_loss", "1")) > 0
