"""S19: captions as an independent parser of WebVTT reads them, whatever stands in them."""

import io

import numpy as np
import pytest
import webvtt

from auscult.core.errors import SetupError
from auscult.core.score import CAPTION_SECONDS, Score, SoundEvent
from auscult.sound.files import write_score
from auscult.sound.legend import legend
from auscult.sound.mappings import sonify_run

AWKWARD = (
    "a --> b",
    "<b>not bold</b> & <00:00:01.000> no time",
    "two\nlines\n\nand a gap",
    "\u2028line separator\x85next",
    "WEBVTT",
    "NOTE nothing",
    "STYLE ::cue {}",
    "日本語 ü 🎵",
    "",
)


def cues_of(score: Score) -> list:
    """What webvtt-py finds; it raises where the file is malformed."""
    return webvtt.from_buffer(io.StringIO(score.captions(), newline="")).captions


def shown(text: str) -> str:
    """What a player shows of a cue's text."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def test_each_event_is_one_cue_with_its_words_and_time(make_run, calm):
    norms = calm(200, 6)
    norms[50:60] = np.nan
    norms[100:110] = 0
    for score in (sonify_run(make_run(norms), mode="overview"), legend()):
        cues = cues_of(score)
        assert len(cues) == len(score.events) == len(score.transcript().splitlines()) > 1
        for cue, event in zip(cues, score.events):
            assert abs(cue.start_in_seconds - event.time) <= 1 and cue.start == clock(event.time)
            assert cue.end == clock(event.time + CAPTION_SECONDS)
            assert shown(cue.raw_text) == f"step {event.step}: {event.text}"


def clock(seconds: float) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{thousandths:03d}"


def test_nothing_in_a_text_or_a_title_breaks_the_file():
    events = tuple(SoundEvent(3599.9995 + number, "finding", text, number) for number, text in enumerate(AWKWARD))
    cues = cues_of(Score("run --> 1\n\n00:00 <x>", "vitals", 4000.0, (), events))
    assert [cue.identifier for cue in cues] == [str(number) for number in range(1, len(AWKWARD) + 1)]
    assert [shown(cue.raw_text) for cue in cues] == [f"step {each.step}: {each.line}" for each in events]
    assert cues[0].start == "01:00:00.000"
    (only,) = cues_of(Score("quiet --> <b>", "vitals", 1.0, ()))
    assert (only.start, shown(only.raw_text)) == ("00:00:00.000", Score("quiet --> <b>", "vitals", 1.0, ()).summary)
    assert only.raw_text.endswith("nothing was found.")


def test_no_terminal_escape_of_a_name_reaches_the_files():
    event = SoundEvent(1.0, "finding", "weight of \x1b[2J\u202e", 3, "info")
    score = Score("run\x1b]0;title\x07", "vitals", 2.0, (), (event,))
    for text in (score.captions(), score.transcript()):
        assert all(each.isprintable() or each == "\n" for each in text)
    assert "\\x1b[2J" in score.transcript()


def test_a_wrong_ending_names_every_right_one(tmp_path):
    with pytest.raises(SetupError, match=r"\.mid or \.json"):
        write_score(legend(), tmp_path / "a.txt")


@pytest.mark.parametrize("ending", ["mid", "json"])
def test_notes_and_the_score_itself_have_their_words_beside_them_too(tmp_path, ending):
    score = legend()
    (tmp_path / "b.txt").write_text("a log")
    write_score(score, tmp_path / f"a.{ending}")
    assert (tmp_path / "a.txt").read_text() == f"{score.summary}\n{score.transcript()}\n"
    assert (tmp_path / "a.vtt").read_text() == score.captions()
    with pytest.raises(SetupError, match="another file"):
        write_score(score, tmp_path / f"b.{ending}")
    assert not (tmp_path / f"b.{ending}").exists()
