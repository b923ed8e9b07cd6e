"""The schedule: fixed cadences stay, the governor keeps its budget and moves only at multiples of 256."""

import numpy as np
import pytest

from auscult.core.errors import SetupError
from auscult.metrics.schedule import Cadence, Schedule


def drive(schedule: Schedule, steps: range, bare: float, idle: float, norms: float, samples: float) -> list[int]:
    """Feed costs in seconds; returns the steps after which the cadence changed."""
    changed = []
    for step in steps:
        inside = idle + (norms if schedule.norms(step) else 0) + (samples if schedule.samples(step) else 0)
        if schedule.spent(step, inside, bare + inside) is not None:
            changed.append(step)
    return changed


def test_a_fixed_schedule_never_moves() -> None:
    schedule = Schedule(4, 0.02)
    assert [step for step in range(20) if schedule.norms(step)] == [0, 4, 8, 12, 16]
    assert drive(schedule, range(2048), bare=1e-3, idle=1e-3, norms=1.0, samples=1.0) == []
    assert Schedule((1, 8), 0.02).cadence == Cadence(1, 8)


def test_a_cheap_monitor_measures_every_step() -> None:
    schedule = Schedule(None, 0.02)
    drive(schedule, range(1024), bare=1.0, idle=1e-5, norms=5e-3, samples=5e-3)
    assert schedule.cadence == Cadence(1, 16)


def test_a_dear_monitor_is_thinned_until_it_keeps_its_budget() -> None:
    schedule = Schedule(None, 0.02)
    changed = drive(schedule, range(4096), bare=1e-3, idle=2e-6, norms=3e-4, samples=3e-3)
    assert changed and all((step + 1) % 256 == 0 for step in changed)
    n, s = schedule.cadence.norms, schedule.cadence.samples
    assert (2e-6 + 3e-4 / n + 3e-3 / s) / 1e-3 <= 0.02
    assert len(changed) == 1, "steady costs must not make it waver"


def test_costs_that_prove_a_tenth_higher_still_keep_the_budget() -> None:
    for norms in np.geomspace(1e-4, 1e-2, 40).tolist():
        schedule = Schedule(None, 0.02)
        drive(schedule, range(1024), bare=1e-3, idle=0.0, norms=norms, samples=5 * norms)
        n, s = schedule.cadence.norms, schedule.cadence.samples
        assert n == 1024 or 1.1 * (norms / n + 5 * norms / s) / 1e-3 <= 0.02


def test_it_recovers_only_with_a_margin() -> None:
    schedule = Schedule(None, 0.02)
    drive(schedule, range(256), bare=1e-3, idle=0, norms=2e-4, samples=0)
    thin = schedule.cadence
    assert drive(schedule, range(256, 512), bare=1.05e-3, idle=0, norms=1.9e-4, samples=0) == []
    drive(schedule, range(512, 768), bare=1.0, idle=0, norms=2e-4, samples=0)
    assert schedule.cadence.norms == 1 < thin.norms


def test_a_window_without_a_measured_step_is_no_proof_that_measuring_is_free() -> None:
    schedule = Schedule(None, 0.02)
    changed = drive(schedule, range(256 * 40), bare=1e-3, idle=1.5e-5, norms=8e-3, samples=8e-3)
    assert schedule.cadence.norms == 1024 and len(changed) <= 2
    schedule = Schedule(None, 0.02)
    drive(schedule, range(256 * 40), bare=1e-3, idle=5e-5, norms=1e-4, samples=1e-4)  # the idle cost alone is too much
    assert schedule.cadence.norms == 1024


def test_it_looks_closer_where_something_was_found() -> None:
    schedule = Schedule(None, 0.02)
    drive(schedule, range(1024), bare=1e-3, idle=2e-6, norms=3e-4, samples=3e-3)
    assert schedule.cadence.norms > 1
    schedule.look_closer(1030, "G001")
    assert [step for step in range(1024, 1056) if schedule.samples(step) and schedule.norms(step)][-16:] == [
        *range(1031, 1047)
    ]
    assert [step for step in range(1025, 1056) if schedule.examines(step)] == [1031]
    schedule.look_closer(1100, "G001")  # not twice for one cause
    assert not schedule.samples(1101)
    for number in range(20):
        schedule.look_closer(2001 + 100 * number, f"cause {number}")
    assert schedule.samples(2002) is False and schedule.samples(2602) and not schedule.samples(3902)


def test_a_fixed_cadence_does_not_look_closer() -> None:
    schedule = Schedule((4, 64), 0.02)
    schedule.look_closer(9, "G001")
    assert not schedule.norms(10) and not schedule.samples(10) and not schedule.examines(10)


def test_it_looks_back_where_the_budget_has_room_for_another_step() -> None:
    """A quarter of 2 % of 1,000 bare steps is five of them: room for four steps, not for six."""
    for dear, room in ((3.0, True), (5.0, False)):
        schedule = Schedule(None, 0.02)
        schedule.spent(0, dear, None, True)  # examined
        for step in range(1, 1001):
            schedule.spent(step, 0.0, 1.0)
        assert schedule.looks_back("G001") is room
    assert Schedule(1, 0.02).looks_back("G001")  # a fixed cadence has no budget


def test_what_a_look_back_took_is_known_the_next_time_and_no_cost_of_a_step() -> None:
    schedule = Schedule(None, 0.02)
    for step in range(256):
        schedule.spent(step, 1e-5, 1.0)
    assert schedule.looks_back("G001")
    schedule.looked_back(20.0)
    assert schedule.spent(256, 20.0 + 1e-5, 21.0) is None
    for step in range(257, 512):
        assert schedule.spent(step, 1e-5, 1.0) is None
    assert schedule.cadence.norms == 1 and not schedule.looks_back("G002")


def test_it_looks_back_once_for_each_cause_and_eight_times_in_all() -> None:
    schedule = Schedule(1, 0.02)
    asked = [each for each in "aabbcdefghijkl" if schedule.looks_back(each)]
    assert asked == list("abcdefgh")


@pytest.mark.parametrize("every", [0, 3, -2, (1, 12)])
def test_bad_cadences(every) -> None:
    with pytest.raises(SetupError, match="power of two"):
        Schedule(every, 0.02)


def test_bad_budget() -> None:
    with pytest.raises(SetupError, match=r"budget=0\.02"):
        Schedule(None, 2.0)
