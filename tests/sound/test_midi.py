import sys

import mido
import numpy as np
import pytest

from auscult.core.errors import MissingExtra
from auscult.core.score import Score, SoundEvent, Voice
from auscult.sound.mappings import sonify_run
from auscult.sound.midi import write_midi


def played(path):
    """Seconds, note, bend in semitones and velocity of every note of a file, by voice, and its markers."""
    file = mido.MidiFile(path)
    notes = {}
    for track in file.tracks[1:]:
        now, bend, found = 0, 0.0, []
        for message in track:
            now += message.time
            if message.type == "pitchwheel":
                bend = message.pitch / 4096
            elif message.type == "note_on":
                found.append((now / 1000, message.note + bend, message.velocity))
        notes[track.name] = found
    return file, notes, [each.text for each in file.tracks[0] if each.type == "marker"]


def test_notes_have_the_pitch_time_and_length_of_the_score(tmp_path):
    times = np.array([0.0, 2.0])
    glide = Voice("early", times, np.array([261.6256, 523.2511]), np.full(2, 0.25))
    tones = Voice("tick", np.array([0.5, 1.5]), np.array([440.0, 450.0]), np.full(2, 0.3), np.full(2, 0.1))
    event = SoundEvent(1.25, "nan", "not finite", 9)
    path = write_midi(Score("a run", "vitals", 2.0, (glide, tones), (event,)), tmp_path / "a.mid")
    file, notes, markers = played(path)
    assert file.tracks[0].name == "a run" and file.length == pytest.approx(2.0, abs=0.06)
    assert markers == ["step 9: not finite"]
    assert [each[0] for each in notes["tick"]] == [0.5, 1.5]
    np.testing.assert_allclose([each[1] for each in notes["tick"]], [69, 69 + 12 * np.log2(450 / 440)], atol=1e-3)
    started = np.array([each[:2] for each in notes["early"]])
    np.testing.assert_allclose(started[:, 1], 60 + 6 * started[:, 0], atol=0.01)
    assert len(started) == 13


def test_silence_has_no_notes_and_sixteen_voices_share_the_channels(tmp_path):
    silent = Voice("v", np.array([0.0, 1.0]), np.full(2, 440.0), np.zeros(2))
    _, notes, _ = played(write_midi(Score("t", "vitals", 1.0, (silent,)), tmp_path / "a.mid"))
    assert notes == {"v": []}
    many = tuple(Voice(f"v{k}", np.array([0.0, 1.0]), np.full(2, 440.0), np.full(2, 0.1)) for k in range(20))
    file, _, _ = played(write_midi(Score("t", "vitals", 1.0, many), tmp_path / "b.mid"))
    assert {each.channel for track in file.tracks for each in track if each.type == "note_on"} == set(range(16)) - {9}


def sounding(path):
    """What a player sounds: (seconds, voice, Hz, pan) whenever anything changes, with the bend and pan of each channel.

    Messages of one tick take effect together.
    """
    file = mido.MidiFile(path)
    messages = []
    for track in file.tracks[1:]:
        now = 0
        for message in track:
            now += message.time
            messages.append((now, track.name, message))
    bends, pans, notes = {}, {}, {}
    messages.sort(key=lambda each: each[0])
    for index, (now, name, message) in enumerate(messages):
        if message.type == "pitchwheel":
            bends[message.channel] = message.pitch / 4096
        elif message.type == "control_change":
            pans[message.channel] = message.value / 63.5 - 1
        elif message.type == "note_on":
            notes[name, message.note] = message.channel
        elif message.type == "note_off":
            notes.pop((name, message.note), None)
        if index + 1 == len(messages) or messages[index + 1][0] > now:
            for (voice, note), channel in notes.items():
                yield now / 1000, voice, 440 * 2 ** ((note + bends.get(channel, 0) - 69) / 12), pans[channel]


def test_thirty_voices_on_fifteen_channels_keep_their_pitch_and_their_place(make_run, calm, tmp_path):
    norms = calm(300, 12)
    norms[100:200, :9] = 0
    norms[250:, 3] = np.nan
    score = sonify_run(make_run(norms), mode="arpeggio")
    assert len(score.voices) > 20
    voices = {each.name: each for each in score.voices}
    heard = list(sounding(write_midi(score, tmp_path / "a.mid")))
    assert {name for _, name, _, _ in heard} == {name for name, each in voices.items() if each.amplitudes.any()}
    for seconds, name, hertz, pan in heard:
        voice = voices[name]
        assert pan == pytest.approx(voice.pan, abs=0.01)
        if voice.durations is not None:
            wanted = voice.frequencies[np.searchsorted(voice.times, seconds + 1e-3) - 1]
            assert abs(1200 * np.log2(hertz / wanted)) < 1


def test_what_is_too_high_for_midi_is_held_with_one_warning(make_run, tmp_path):
    run = make_run(np.geomspace(1, 215, 50)[:, None])
    score = sonify_run(run, mapping="perone2019")
    with pytest.warns(UserWarning, match=r"^4 tones are higher than 14,080 Hz"):
        path = write_midi(score, tmp_path / "a.mid")
    _, notes, _ = played(path)
    wanted = 69 + 12 * np.log2((200 + 100 * np.geomspace(1, 215, 50)) / 440)
    np.testing.assert_allclose([each[1] for each in notes["layers"]], np.minimum(wanted, 129), atol=1e-3)


def test_without_mido_one_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mido", None)
    with pytest.raises(MissingExtra, match=r"auscult\[midi\]"):
        write_midi(Score("t", "vitals", 1.0, ()), tmp_path / "a.mid")
