"""What is told from sizes and times alone, where the times are coarse."""

import os
import time

from auscult.live.pulse import PulseTaker


def test_a_tail_that_begins_within_one_tick_of_the_filesystem_is_noticed(tmp_path, grower, monkeypatch) -> None:
    monkeypatch.setattr("auscult.store.rowlog.Sealer.submit", lambda *args, **kwargs: None)  # which comes later
    growing = grower(tmp_path / "run").grow(200)
    streams, tick = [tmp_path / "run" / each for each in ("steps", "norms", "user")], time.time_ns() + 60 * 10**9
    taker = PulseTaker(tmp_path / "run")
    for tail in ("tail-000000000000.log", "tail-000000000256.log"):
        for each in streams:
            os.utime(each, ns=(tick, tick))
        assert all((each / tail).exists() for each in streams)
        before = taker.take()
        growing.grow(10)
        assert taker.take().shape != before.shape
        growing.grow(100)
