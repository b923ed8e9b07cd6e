from dataclasses import replace

import numpy as np

from auscult.core.finding import Evidence, Finding
from auscult.core.score import SoundEvent
from auscult.core.sink import Channel
from auscult.sound.events import absences, alarms, end_of, notices, spread, standstills
from auscult.sound.frames import Track, follow, open_table, weights
from auscult.sound.intervals import stretches
from auscult.sound.mappings import sonify_run
from auscult.sound.request import Request

STEPS = np.arange(1000)
TIMES = STEPS / 20


def finding(step, severity="warning", summary="It is wrong."):
    return Finding("T001", "test", severity, "", step, summary, (Evidence("loss", "", step, 1.0),), ("Try.",))


def alarms_of(run):
    table = open_table(run, "grad_norm")
    track = follow(table, weights(table), np.array([0, len(table.steps)]))
    return alarms("grad_norm", [track], table.steps, TIMES)


def test_stretches():
    assert stretches(np.array([1, 1, 0, 0, 1, 0, 1], bool)) == [(0, 2), (4, 5), (6, 7)]
    assert stretches(np.zeros(0, bool)) == []


def test_an_alarm_names_the_place_and_the_value(make_run, calm):
    norms = calm(1000, 3)
    norms[400:, 1] = np.nan
    norms[500:, 0] = np.inf
    (alarm,) = alarms_of(make_run(norms))
    assert (alarm.kind, alarm.step, alarm.time) == ("nan", 400, 20.0)
    assert alarm.text == "grad_norm of layer1.weight is not finite (nan)"


def test_an_alarm_sounds_again_after_recovery_but_not_all_the_time(make_run, calm):
    norms = calm(1000, 1)
    norms[[100, 105, 110, 600]] = np.inf
    first, second = alarms_of(make_run(norms))
    assert (first.step, second.step) == (100, 600)
    assert first.text == "grad_norm of layer0.weight is not finite (inf); again 2 more times until step 110"


def test_findings_are_heard_at_their_step_the_worst_first():
    events = notices([finding(300), finding(100), finding(100, "critical"), finding(50, "info")], STEPS, TIMES)
    assert [(each.step, each.time, each.severity) for each in events] == [
        (50, 2.5, "info"),
        (100, 5.0, "critical"),
        (100, 5.0, "warning"),
        (300, 15.0, "warning"),
    ]
    assert notices([finding(10**9), finding(-1)], STEPS, TIMES)[1].time == TIMES[-1]
    assert notices([finding(5)], STEPS[:0], TIMES[:0])[0].time == 0.0


def test_events_are_300_ms_apart_and_clear_of_alarms(make_run, calm):
    norms = calm(1000, 1)
    norms[400:] = np.nan
    alarmed = alarms_of(make_run(norms))
    events = spread(alarmed, notices([finding(step) for step in (395, 399, 400, 400, 401)], STEPS, TIMES))
    times = np.array([event.time for event in events])
    assert len(events) == 6
    assert (np.diff(times) >= 0.3 - 1e-9).all()
    alarm = next(event for event in events if event.kind == "nan")
    assert alarm.time == 20.0
    others = np.array([event.time for event in events if event.kind == "finding"])
    assert not ((others > 20.0 - 0.28) & (others < 20.0 + 1.1)).any()
    assert end_of(events) > times[-1]


def test_too_many_at_once_are_counted():
    events = spread([], notices([finding(0, summary=f"Number {k}.") for k in range(50)], STEPS, TIMES))
    assert max(event.time for event in events) <= 3.0 + 1e-9
    assert events[-1].text.endswith(f"(and {50 - len(events)} more)")


def test_an_excursion_is_marked_at_its_step_whatever_else_is_heard_there(make_run, calm):
    norms = calm(1000, 9)
    places = [100, 104, 300, 304, 308, 312, 316, 320, 500]
    norms[places, [0, 8, 4, 8, 0, 4, 8, 0, 4]] *= 1e3
    norms[503:, 8] = np.nan
    findings = [finding(100), finding(300, "critical"), finding(300)]
    score = sonify_run(make_run(norms), findings, Request(seconds=50.0), mode="overview")
    marked = [each for each in score.events if each.kind == "excursion"]
    assert [each.step for each in marked] == places
    np.testing.assert_allclose([each.time for each in marked], np.array(places) / 20)
    (ticks,) = [each for each in score.voices if each.name == "excursion"]
    np.testing.assert_allclose(ticks.times, np.array(places) / 20)


def test_excursions_so_near_that_their_ticks_would_blur_are_one_tick_that_counts_them(make_run, calm):
    norms = calm(100_000, 9)
    norms[[50_000, 50_001, 50_002, 50_500], [0, 4, 8, 4]] *= 1e3
    first, second = sonify_run(make_run(norms), mode="overview").events
    assert (first.step, first.text) == (50_000, "grad_norm of layer0.weight makes an excursion (and 2 more)")
    assert (second.step, second.text) == (50_500, "grad_norm of layer4.weight makes an excursion")


def test_what_happens_at_the_very_end_makes_the_sound_at_most_four_seconds_longer():
    end = TIMES[-1] + TIMES[1]
    crowd = notices([finding(999, each) for each in ("info", "warning", "critical") * 9], STEPS, TIMES)
    crowd += [SoundEvent(TIMES[-1], "stalled", "stood still", 999)] * 9
    alarm = SoundEvent(TIMES[-1], "nan", "not finite", 999)
    for events in (spread([], crowd), spread([alarm], crowd), spread([alarm], crowd[::-1])):
        assert 0 < end_of(events) - end <= 4.0


def test_a_run_that_stood_still_is_heard_where_it_went_on_and_where_it_never_did(make_run, calm):
    run = make_run(calm(1000, 1))
    seconds = np.full((1000, 1), 0.05, np.float32)
    seconds[300], seconds[500] = 45.0, 2.0
    run.source.tables["steps"] = ((Channel("step_time", ""),), STEPS, seconds)
    (event,) = standstills(run, STEPS, TIMES)
    assert (event.kind, event.step, event.time) == ("stalled", 300, 15.0)
    assert "45 s" in event.text
    still = {"kind": "standstill", "step": 1000, "passes": 64, "skipped": 0}
    events = standstills(replace(run, events=(still,)), STEPS, TIMES)
    assert [(each.step, each.time) for each in events] == [(300, 15.0), (1000, TIMES[-1])]
    assert "64 passes" in events[1].text
    assert not standstills(make_run(calm(1000, 1)), STEPS, TIMES)
    part = standstills(replace(run, events=(still,)), STEPS[:400], TIMES[:400])
    assert [each.step for each in part] == [300]  # what is not in the part that is heard is not told in it


def test_groups_that_fall_silent_together_are_told_in_one_line():
    def track(missing, zero):
        axis = np.zeros(1000, bool)
        axis[missing], zeros = True, np.zeros(1000, bool)
        zeros[zero] = True
        none, value = np.full(1000, -1), np.full(1000, np.nan)
        return Track(("w",), np.zeros(1), 1.0, none[:1], none[:1], zeros, np.zeros(1000, int), none, value, axis)

    tracks = [track(slice(100, 200), slice(0, 0)), track(slice(100, 200), slice(400, 500)), track(slice(0, 50), [])]
    events = absences("grad_norm", ["early", "middle", "late"], tracks, STEPS, TIMES)
    assert [(each.kind, each.step, each.text) for each in events] == [
        ("zero", 400, "grad_norm of middle is exactly 0"),
        ("missing", 100, "grad_norm of early, middle is not observed"),
    ]
