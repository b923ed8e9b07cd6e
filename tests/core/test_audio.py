import json
import struct
import subprocess
import sys
import wave
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from auscult.core.audio import Audio
from auscult.core.errors import MissingExtra, SetupError
from auscult.core.score import Score, SoundEvent, Voice


def tone(seconds=3.0, sample_rate=48_000, frequency=441.0):
    """A stereo sine, in its middle surrounded by silence."""
    at = np.arange(round(seconds * sample_rate)) / sample_rate
    sine = 0.3 * np.sin(2 * np.pi * frequency * at)
    return np.stack([sine, -sine], axis=1).astype(np.float32)


def peak(samples, sample_rate):
    """Frequency of the largest bin, refined by a parabola."""
    level = np.log(np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 4 * len(samples))) + 1e-9)
    k = int(level.argmax())
    left, centre, right = level[k - 1 : k + 2]
    return (k + 0.5 * (left - right) / (left - 2 * centre + right)) * sample_rate / (4 * len(samples))


@pytest.mark.parametrize("channels", [1, 2])
def test_file_is_float_to_libsndfile_and_bit_exact(tmp_path, channels):
    samples = np.random.default_rng(0).normal(0, 0.3, (999, channels)).astype(np.float32)
    path = Audio(samples, 44_100).write(tmp_path / "new" / "sound.wav")
    info = soundfile.info(path)
    assert (info.format, info.subtype, info.samplerate, info.channels, info.frames) == (
        "WAV", "FLOAT", 44_100, channels, 999,
    )  # fmt: skip
    back, _ = soundfile.read(path, dtype="float32", always_2d=True)
    assert back.tobytes() == samples.tobytes()


def test_header_carries_tag_3_and_a_fact_chunk(tmp_path):
    data = Audio(np.zeros((7, 2), np.float32), 48_000).write(tmp_path / "a.wav").read_bytes()
    assert struct.unpack("<4sI4s", data[:12]) == (b"RIFF", len(data) - 8, b"WAVE")
    fact, at = data.index(b"fact"), data.index(b"fmt ")
    assert struct.unpack("<HHIIHH", data[at + 8 : at + 24]) == (3, 2, 48_000, 384_000, 8, 32)
    assert struct.unpack("<I", data[fact + 8 : fact + 12]) == (7,)


def test_an_empty_sound_can_be_written(tmp_path):
    path = Audio(np.zeros((0, 1), np.float32), 44_100).write(tmp_path / "empty.wav")
    assert soundfile.info(path).frames == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(SetupError, match="finite"):
        Audio(np.array([[0.0], [value]], np.float32), 44_100)


def test_wrong_shape_dtype_and_name_are_refused(tmp_path):
    with pytest.raises(SetupError, match="float32"):
        Audio(np.zeros((3, 1)), 44_100)
    with pytest.raises(SetupError, match="frames, channels"):
        Audio(np.zeros(3, np.float32), 44_100)
    with pytest.raises(SetupError, match=r"\.wav"):
        Audio(np.zeros((3, 1), np.float32), 44_100).write(tmp_path / "a.aac")
    with pytest.raises(SetupError, match="16 or 32"):
        Audio(np.zeros((3, 1), np.float32), 44_100).write(tmp_path / "a.wav", bits=24)
    with pytest.raises(SetupError, match="48_000"):
        Audio(np.zeros((3, 1), np.float32), 44_100).write(tmp_path / "a.opus")


def test_duration_is_in_seconds():
    assert Audio(np.zeros((22_050, 2), np.float32), 44_100).duration == 0.5


def test_sixteen_bits_are_within_one_step_to_the_standard_library(tmp_path):
    samples = np.random.default_rng(1).uniform(-1, 1, (999, 2)).astype(np.float32)
    path = Audio(samples, 44_100).write(tmp_path / "a.wav", bits=16)
    with wave.open(str(path)) as file:
        assert (file.getsampwidth(), file.getnchannels(), file.getframerate()) == (2, 2, 44_100)
        back = np.frombuffer(file.readframes(999), "<i2").reshape(-1, 2)
    assert np.abs(back / 32767 - samples).max() <= 1 / 32767


@pytest.mark.parametrize(("bits", "scale"), [(32, 2**23), (16, 2**15)])
def test_flac_loses_nothing_but_bits(tmp_path, bits, scale):
    samples = np.random.default_rng(2).uniform(-0.9, 0.9, (9999, 2)).astype(np.float32)
    back, rate = soundfile.read(Audio(samples, 44_100).write(tmp_path / "a.flac", bits=bits), dtype="float64")
    assert rate == 44_100 and np.abs(back - samples).max() <= 1 / scale
    once_more, _ = soundfile.read(
        Audio(back.astype(np.float32), 44_100).write(tmp_path / "b.flac", bits=bits), dtype="float64"
    )
    np.testing.assert_array_equal(once_more, back)


@pytest.mark.parametrize("ending", ["ogg", "opus", "mp3"])
def test_lossy_files_keep_pitch_and_length(tmp_path, ending):
    back, rate = soundfile.read(Audio(tone(), 48_000).write(tmp_path / f"a.{ending}"))
    assert abs(len(back) / rate - 3.0) <= 0.05
    assert abs(1200 * np.log2(peak(back[rate // 2 : -rate // 2, 0], rate) / 441.0)) <= 5


def test_ten_minutes_of_ogg_end_no_process(tmp_path):
    code = (
        "import sys; import numpy as np; from auscult.core.audio import Audio; "
        "Audio(np.random.default_rng(0).normal(0, 0.1, (600 * 8000, 2)).astype(np.float32), 8000)"
        ".write(sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "long.ogg"], timeout=120).returncode == 0
    assert soundfile.info(tmp_path / "long.ogg").duration == pytest.approx(600, abs=0.05)


def told(steps=600):
    """A score with a name and events that are hard to write down."""
    events = (
        SoundEvent(0.25, "nan", "loss is\nnot finite --> <b>&", 7),
        SoundEvent(3671.5, "finding", "Ü, 漢字", 9, "warning"),
    )
    return Score("run/名 <1>", "vitals", 4000.0, (), events, np.arange(steps) / 10, np.arange(steps) * 167)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "opus", "mp3"])
def test_the_name_and_the_map_of_steps_are_in_the_file(tmp_path, ending):
    path = Audio(np.zeros((4800, 2), np.float32), 48_000, told()).write(tmp_path / f"a.{ending}")
    with soundfile.SoundFile(path) as file:
        about = json.loads(file.comment)
        assert file.title == ("run/\\u540d <1>" if ending == "mp3" else "run/名 <1>")
        assert file.frames >= 4800
    assert about["steps"][0] == 0 and about["steps"][-1] == 599 * 167 and len(about["steps"]) == 100
    np.testing.assert_allclose(np.array(about["step_times"]) * 1670, about["steps"])
    assert about["metric"] == "grad_norm"


def test_every_file_has_its_words_beside_it(tmp_path):
    Audio(np.zeros((480, 1), np.float32), 48_000, told()).write(tmp_path / "a.wav")
    first, *lines = (tmp_path / "a.txt").read_text(encoding="utf-8").splitlines()
    assert first == told().summary
    assert [line.split(": ")[1] for line in lines] == ["loss is not finite --> <b>&", "Ü, 漢字"]
    head, *cues = (tmp_path / "a.vtt").read_text(encoding="utf-8").split("\n\n")
    assert head.startswith("WEBVTT") and "-->" not in head
    times, texts = zip(*((cue.split("\n")[1], cue.split("\n", 2)[2]) for cue in cues))
    assert times == ("00:00:00.250 --> 00:00:03.250", "01:01:11.500 --> 01:01:14.500")
    assert [text.strip() for text in texts] == ["step 7: loss is not finite --&gt; &lt;b&gt;&amp;", "step 9: Ü, 漢字"]


def test_of_a_healthy_run_the_words_say_that_nothing_was_found_and_what_is_heard(tmp_path):
    steady = Voice("early layers", np.array([0.0, 3661.0]), np.full(2, 523.25), np.full(2, 0.25))
    calm = replace(told(), events=(), voices=(steady,))
    assert calm.summary == (
        "auscult: run/名 <1>, 4000.0 s of sound, steps 0 to 100,033; early layers by grad_norm (vitals, mix); "
        "nothing was found."
    )
    Audio(np.zeros((480, 1), np.float32), 48_000, calm).write(tmp_path / "a.wav")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == calm.summary + "\n"
    _, cue = (tmp_path / "a.vtt").read_text(encoding="utf-8").split("\n\n")
    assert cue.startswith("1\n00:00:00.000 --> 00:00:03.000\nauscult: run/名 &lt;1&gt;, 4000.0 s")
    many = replace(calm, voices=tuple(replace(steady, name=f"layer{k}") for k in range(12)))
    assert "12 layers by grad_norm" in many.summary
    silent = replace(calm, voices=(replace(steady, amplitudes=np.zeros(2)),))
    assert "no layers by grad_norm" in silent.summary


def test_another_file_is_not_replaced_by_the_words_but_an_older_transcript_is(tmp_path):
    sound = Audio(np.zeros((480, 1), np.float32), 48_000, told())
    log = tmp_path / "mnist.txt"
    log.write_text("epoch 1 loss 0.3\n")
    with pytest.raises(SetupError, match=r"mnist\.txt.*another file"):
        sound.write(tmp_path / "mnist.wav")
    assert [each.name for each in tmp_path.iterdir()] == ["mnist.txt"] and log.read_text() == "epoch 1 loss 0.3\n"
    for _ in range(2):
        sound.write(tmp_path / "other.wav")
    assert (tmp_path / "other.txt").read_text(encoding="utf-8").startswith(told().summary)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "opus", "mp3"])
def test_a_name_that_is_no_text_or_holds_an_escape_can_be_written_and_does_nothing(tmp_path, ending):
    named = replace(told(), title="a\udcff\x00 \x1b[2J")
    path = Audio(np.zeros((4800, 1), np.float32), 48_000, named).write(tmp_path / f"a.{ending}")
    with soundfile.SoundFile(path) as file:
        assert file.title == "a\\udcff\\x00 \\x1b[2J" and json.loads(file.comment)["mode"] == "mix"


def test_without_soundfile_one_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    sound = Audio(np.zeros((480, 1), np.float32), 48_000)
    with pytest.raises(MissingExtra, match=r"auscult\[audio-files\]"):
        sound.write(tmp_path / "a.flac")
    assert sound.write(tmp_path / "a.wav").exists()
