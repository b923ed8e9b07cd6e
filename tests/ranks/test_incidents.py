"""What only a run of several ranks can get wrong, in real processes, and what happens to auscult when they die."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.ranks.conftest import finish, start

import auscult

SCRIPT = Path(__file__).with_name("incidents.py")
NAMES = ("nan_on_one", "unequal", "only_first", "apart", "fsdp1", "stages", "one_ulp", "same_data")
ODD = ("partitioned", "experts", "split_embedding", "compiled")
APART = ("raised_on_one", "joined", "closed_on_one", "late_name", "missed_turn")


@pytest.fixture(scope="module")
def incidents(tmp_path_factory) -> list[dict]:
    directory = tmp_path_factory.mktemp("incidents")
    return finish(start(2, directory, *NAMES, script=SCRIPT), directory)


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> list[dict]:
    directory = tmp_path_factory.mktemp("odd")
    return finish(start(2, directory, *ODD, script=SCRIPT), directory, 240)


@pytest.fixture(scope="module")
def apart(tmp_path_factory) -> list[dict]:
    """Where ranks do not come to meet each other: not even the end of the processes may wait, half an hour for gloo."""
    directory = tmp_path_factory.mktemp("apart")
    return finish(start(2, directory, *APART, script=SCRIPT), directory, 240)


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


@pytest.mark.ranks
@pytest.mark.parametrize(("name", "why"), [("partitioned", "partitioned optimizer"), ("experts", "different values")])
def test_what_only_looks_like_replicas_is_not_observed(odd, name, why) -> None:
    path = Path(odd[0][name]["path"])
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    assert [why in each["reason"] for each in events if each["kind"] == "not_observed"] == [True]
    run = auscult.load(path)
    assert all(len(run.series(metric)) == 0 for metric in ("grad_norm", "param_norm", "update_norm"))
    assert len(run.series("grad_std", "0.weight")) == 0 and len(run.series("loss")) == 5
    assert codes(odd[0][name]) == ({"R001"} if name == "experts" else set())


@pytest.mark.ranks
def test_a_gradient_that_is_whole_on_every_rank_counts_once(odd) -> None:
    told = odd[0]["split_embedding"]
    measured = auscult.load(told["path"]).series("grad_norm", "0.weight").values
    np.testing.assert_allclose(measured, told["truth"], rtol=1e-6)


@pytest.mark.ranks
def test_a_compiled_wrapper_is_seen_through(odd) -> None:
    told = odd[0]["compiled"]
    assert told["parallel"] and "0.weight" in auscult.load(told["path"]).paths("grad_norm")


@pytest.mark.ranks
def test_nobody_waits_for_a_rank_that_does_not_come(apart) -> None:
    """All processes have ended; every step is there."""
    assert apart[1]["raised_on_one"]["left_after"] < 4  # seconds, of which it waits one
    for name, steps in (("joined", 12), ("closed_on_one", 5), ("late_name", 7), ("missed_turn", 8)):
        told = apart[0][name]
        run = auscult.load(told["path"])
        assert len(run.series("loss")) == steps, name
        assert len(run.series("grad_norm", "0.weight" if name != "missed_turn" else "scale")) >= 3, name
    assert "Join" in apart[0]["joined"]["lost"]


@pytest.mark.ranks
def test_sums_of_partial_gradients_that_one_rank_missed_are_not_observed(apart) -> None:
    run = auscult.load(apart[0]["missed_turn"]["path"])
    assert run.series("grad_norm", "blocks.0.norm.weight").steps.tolist() == [0, 1, 2]


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
def test_sigkill_of_the_rank_that_writes_loses_nothing_that_another_has(tmp_path) -> None:
    """The survivors put beside the run what was not written, and a run without the death has exactly the same."""
    ranks = start(3, tmp_path, "first_killed", script=SCRIPT)
    said = [each.communicate(timeout=240)[0] for each in ranks]
    assert [each.returncode for each in ranks] == [-9, 0, 0], said
    told = [json.loads((tmp_path / f"rank{rank}.json").read_text())["first_killed"] for rank in (1, 2)]
    assert all(each["failures"] == [] for each in told)
    path, added = tmp_path / "first_killed" / "run", set(told[0]["added"]) | set(told[1]["added"])
    assert len(added) >= 38 and list((path / "rescued").glob("*.npz"))
    run = auscult.load(path)
    assert run.steps.tolist() == list(range(max(added) + 1)) and added <= set(run.steps.tolist())
    twin = auscult.load(finish(start(3, tmp_path, "unharmed", script=SCRIPT), tmp_path)[0]["unharmed"]["path"])
    for metric, name in (("loss", ""), ("own", ""), ("grad_norm", "0.weight"), ("update_norm", ""), ("rank_loss", "2")):
        some, same = run.series(metric, name), twin.series(metric, name)
        assert some.steps.tolist() == same.steps[: len(some)].tolist(), metric
        np.testing.assert_array_equal(some.values, same.values[: len(some)], metric)
    assert run.series("own").steps[-1] == max(added)
    with_main_alone = auscult.load(_without_rescued(path, tmp_path / "bare"))
    assert with_main_alone.last_step < run.last_step  # otherwise this test shows nothing
    for each in finish(start(2, tmp_path, "resumed_first", script=SCRIPT), tmp_path):
        assert each["resumed_first"]["first"] == max(added) + 1
    gone_on = auscult.load(path)
    assert gone_on.steps.tolist() == list(range(max(added) + 6))
    np.testing.assert_array_equal(gone_on.series("own").values[: len(run.steps)], run.series("own").values)


def _without_rescued(path: Path, copy: Path) -> Path:
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("rescued"))
    return copy


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
