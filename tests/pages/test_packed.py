import base64
import zlib

import numpy as np

from auscult.pages.packed import packed, shortened


def test_packed_is_deflated_little_endian_base64() -> None:
    values = np.array([[1, -2], [32767, -32768]], np.int16)
    assert np.frombuffer(zlib.decompress(base64.b64decode(packed(values))), "<i2").tolist() == values.ravel().tolist()
    floats = np.array([[0.5, -1.25, np.inf]], ">f4")
    assert np.frombuffer(zlib.decompress(base64.b64decode(packed(floats))), "<f4").tolist() == [0.5, -1.25, np.inf]


def test_shortened_keeps_three_digits_sign_zero_and_what_is_not_finite() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal(100_000) * 10.0 ** random.uniform(-30, 30, 100_000)
    np.testing.assert_allclose(shortened(values), values, rtol=2.5e-4)
    special = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, -1.0, 3.4e38])
    kept = shortened(special)
    np.testing.assert_array_equal(kept[:6], special[:6].astype(np.float32))
    assert np.isfinite(kept[6]) and len(zlib.compress(kept.tobytes())) > 0
    assert len(packed(shortened(values))) < 0.8 * len(packed(values.astype(np.float32)))
