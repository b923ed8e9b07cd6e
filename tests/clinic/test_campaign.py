"""Campaigns: trials in processes of their own, resumed where they were left, whatever ended them."""

import multiprocessing
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from auscult.clinic.campaign import every_trial, read_results, run_campaign
from auscult.clinic.controls import CONTROLS
from auscult.clinic.faults import FAULTS
from auscult.core.errors import SetupError

SHORT = ("ips-15", "faulty", 0), ("ips-15", "fixed", 0)


def test_every_trial_is_every_variant_of_every_seed() -> None:
    count = Counter((variant, seed) for _, variant, seed in every_trial([3, 4]))
    assert count == {
        (variant, seed): number
        for seed in (3, 4)
        for variant, number in (("faulty", len(FAULTS)), ("fixed", len(FAULTS)), ("control", len(CONTROLS)))
    }


def test_a_campaign_is_resumed_and_leaves_no_runs(tmp_path) -> None:
    told: list[tuple[str, int, int]] = []

    def tell(trial, done, total) -> None:
        told.append((trial.variant, done, total))

    results = tmp_path / "results.jsonl"
    first = run_campaign(SHORT[:1], tmp_path / "runs", results, jobs=1, on_trial=tell)
    with results.open("a") as file:
        file.write('{"case": "cut o')  # the process was killed while it wrote
    both = run_campaign(SHORT, tmp_path / "runs", results, jobs=1, on_trial=tell)
    assert told == [("faulty", 1, 1), ("fixed", 2, 2)]
    assert both[0] == first[0] and both == read_results(results)
    assert both[0].nonfinite and both[1].score > 0.9
    assert not list((tmp_path / "runs").rglob("run.json"))


@pytest.mark.trial
def test_a_trial_that_fails_or_kills_its_process_is_kept_and_tried_again(tmp_path) -> None:
    runs, results = tmp_path / "runs", tmp_path / "results.jsonl"
    runs.mkdir()
    (runs / "ips-15").write_text("in the way of the first trial's directory")
    failed, fine = run_campaign([SHORT[0], ("iris-logistic", "control", 0)], runs, results, jobs=1, keep=True)
    assert failed.error is not None and fine.error is None
    assert (runs / "iris-logistic" / "control" / "0").is_dir()
    (runs / "ips-15").unlink()
    (again,) = run_campaign(SHORT[:1], runs, results, jobs=1)
    assert again.error is None and again.nonfinite


@pytest.mark.trial
def test_a_process_that_dies_takes_one_trial_with_it(tmp_path) -> None:
    keys = [("so-34311586", "fixed", 0), SHORT[1]]
    with ThreadPoolExecutor(1) as pool:
        campaign = pool.submit(run_campaign, keys, tmp_path / "runs", tmp_path / "results.jsonl", jobs=1)
        while not (tmp_path / "runs" / "so-34311586").exists():
            assert not campaign.done()
            time.sleep(0.01)
        (process,) = multiprocessing.active_children()
        process.kill()
        dead, fine = campaign.result()
    assert dead.error == "the process ended with exit code -9"
    assert fine.error is None and fine.score > 0.9


def test_jobs_must_be_positive(tmp_path) -> None:
    with pytest.raises(SetupError, match="job"):
        run_campaign(SHORT, tmp_path, tmp_path / "results.jsonl", jobs=0)
