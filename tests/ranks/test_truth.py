"""What all ranks add up equals what one process measures in float64, whatever the parallelism, and changes nothing."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import auscult

TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
NAMES = 2  # collectives once, after the first step: which names the ranks log, and their values

TWO = (
    "ddp:float64::watched",
    "ddp:float32:clip:watched",
    "ddp:float32:clip:bare",
    "ddp:float64:accumulate:watched",
    "fsdp2:float64:clip:watched",
    "fsdp2:float32:clip:watched",
    "fsdp2:float32:clip:bare",
    "fsdp2:float64:accumulate:watched",
    "fsdp2:float32:sparse:watched",
    "tp_sp:float64:clip:watched",
)
FOUR = tuple(
    f"{kind}:{dtype}:{mode}:watched"
    for kind in ("ddp", "fsdp2", "hsdp", "tp", "tp_sp", "fsdp2_tp", "fsdp2_tp_sp")
    for dtype, mode in (("float64", ""), ("float64", "clip"), ("float32", "clip"))
) + tuple(f"{kind}:float64:accumulate:watched" for kind in ("ddp", "hsdp", "fsdp2_tp"))


@cache
def worker():
    spec = importlib.util.spec_from_file_location("ranks_worker", Path(__file__).with_name("worker.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def truth(clip: bool) -> list[dict]:
    return worker().truth(clip)


def check(told: dict, scenario: str) -> None:
    """Norms in float64 as they were added up; rounded to float32 as they were written."""
    _, dtype, mode, _ = scenario.split(":")
    expected = truth(mode == "clip")
    assert told["failures"] == [] and told["reason"] == ""
    assert sorted(map(int, told["norms"])) == list(range(0, len(expected), 2 if mode == "sparse" else 1))
    for step, rows in told["norms"].items():
        for metric, measured in rows.items():
            right = expected[int(step)][metric]
            unseen = [measured[path] for path in measured if path not in right and metric == "grad_norm"]
            assert np.isnan(unseen).all() and len(unseen) == 3 * (metric == "grad_norm")  # not observed, never 0
            values = [measured[path] for path in right]
            np.testing.assert_allclose(values, list(right.values()), rtol=TOLERANCE[dtype], atol=1e-15)
    run = auscult.load(told["path"])
    losses = [each["run"]["loss"] for each in expected]
    np.testing.assert_allclose(run.series("loss").values, losses, rtol=TOLERANCE[dtype])
    totals = np.array([expected[step]["run"]["total"] for step in run.series("grad_norm").steps])
    np.testing.assert_allclose(run.series("grad_norm").values, totals, rtol=1e-5)
    hidden = [value for path, value in expected[0]["grad_norm"].items() if path.startswith("blocks.1.")]
    np.testing.assert_allclose(
        run.series("grad_norm", "blocks.1").values[0], np.sqrt(np.square(hidden).sum()), rtol=1e-6
    )
    for metric in ("grad_std", "param_mean"):
        for path, value in expected[0][metric].items():
            np.testing.assert_allclose(run.series(metric, path).values[0], value, rtol=1e-5, atol=1e-7)
    if mode == "clip":
        np.testing.assert_allclose(run.series("clip_ratio").values, totals / worker().CLIP, rtol=1e-5)
        np.testing.assert_allclose(run.series("clip_coefficient").values, worker().CLIP / totals, rtol=1e-4)


def check_collectives(told: dict, scenario: str) -> None:
    """One for each measured step, begun when the step is over; none for others; one more for Partial gradients."""
    kind, _, mode, _ = scenario.split(":")
    partial = int(kind == "tp_sp")
    due = [int(mode != "sparse" or step % 2 == 0) for step in range(3)]
    expected = [begun + partial * now for begun, now in zip([0, *due], due)]
    expected[2] += NAMES
    assert told["counts"] == expected, scenario


@pytest.mark.parametrize("scenario", [each for each in TWO if each.endswith("watched")])
def test_two_ranks_measure_what_one_process_would(trained, scenario) -> None:
    first, second = (each[scenario] for each in trained(2, *TWO))
    check(first, scenario)
    check_collectives(first, scenario)
    assert second["counts"] == first["counts"]
    assert second["norms"] == {} and second["path"] == first["path"]  # one writer


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_training_is_the_same_to_the_bit_without_the_monitor(trained, kind) -> None:
    for told in trained(2, *TWO):
        assert told[f"{kind}:float32:clip:watched"]["ended"] == told[f"{kind}:float32:clip:bare"]["ended"]


@pytest.mark.ranks
@pytest.mark.parametrize("scenario", FOUR)
def test_four_ranks_measure_what_one_process_would(trained, scenario) -> None:
    told = trained(4, *FOUR)
    check(told[0][scenario], scenario)
    check_collectives(told[0][scenario], scenario)
