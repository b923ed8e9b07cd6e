"""Rows: what was not observed is neither NaN nor 0, and float32 loses neither finiteness nor the sign of a number."""

import numpy as np

from auscult.core.sink import Channel, Record, empty_row, observed, to_float32


def test_not_observed_is_told_apart_from_nan() -> None:
    for stream in ("norms", "user"):
        row = empty_row(stream, 4)
        row[1], row[2] = np.nan, 0.0
        assert observed(row).tolist() == [False, True, True, False]
        assert observed(row.copy().reshape(2, 2)).tolist() == [[False, True], [True, False]]
        assert not observed(np.frombuffer(empty_row(stream, 2).tobytes(), row.dtype)).any()
        record = Record(stream, 3, tuple(Channel("m", str(n)) for n in range(4)), row)
        assert [channel.path for channel, _ in record.items()] == ["1", "2"]


def test_rounding_to_float32_keeps_finite_finite_and_nonzero_nonzero() -> None:
    values = np.array([1e300, -1e300, 1e-300, -1e-300, 0.0, np.inf, -np.inf, np.nan, 0.1])
    rounded = to_float32(values)
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(np.isfinite(rounded), np.isfinite(values))
    np.testing.assert_array_equal(np.sign(rounded), np.sign(values))
    assert rounded[8] == np.float32(0.1)
