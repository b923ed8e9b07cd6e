import struct

import numpy as np
import pytest
import soundfile

from auscult.core.audio import Audio
from auscult.core.errors import SetupError


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
        Audio(np.zeros((3, 1), np.float32), 44_100).write(tmp_path / "a.mp3")


def test_duration_is_in_seconds():
    assert Audio(np.zeros((22_050, 2), np.float32), 44_100).duration == 0.5
