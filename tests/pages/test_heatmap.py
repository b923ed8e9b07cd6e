import base64
import json
import zlib

import numpy as np

from auscult.core.run import Run
from auscult.pages.heatmap import NON_FINITE, NOT_OBSERVED, ZERO, heatmap
from auscult.pages.sweep import sweep


def test_codes_are_milli_decades_from_the_median(healthy: Run) -> None:
    paths = healthy.paths("grad_norm")
    swept = sweep(healthy, "grad_norm", paths)
    assert swept is not None
    coded = heatmap(swept)
    table = np.stack([healthy.series("grad_norm", path).values for path in paths])
    expected = np.log10(table / np.median(table, axis=1, keepdims=True))
    np.testing.assert_allclose(coded.codes / 1000, expected, atol=0.00051)
    assert coded.codes.dtype == np.int16 and coded.scale == "log"


def test_a_column_shows_the_value_farthest_from_the_centre(maker: type) -> None:
    values = np.ones(1000)
    values[500] = 1e-6
    values[510] = 1e3
    values[800] = 1e9
    built = maker(steps=1000)
    built.add("norms", "grad_norm", "a", values)
    swept = sweep(built.make(), "grad_norm", ("a",), 100)
    assert swept is not None
    coded = heatmap(swept)
    assert coded.codes[0, 50] == -6000 and coded.codes[0, 51] == 3000 and coded.codes[0, 80] == 9000
    assert np.count_nonzero(coded.codes) == 3


def test_nan_zero_and_hole_have_codes_of_their_own(poisoned: Run) -> None:
    paths = (*poisoned.paths("grad_norm"), "never.seen")
    swept = sweep(poisoned, "grad_norm", paths)
    assert swept is not None
    coded = heatmap(swept)
    row = coded.rows.index("layers.1.weight")
    assert (coded.codes[row, 10:26] == ZERO).all()
    assert (coded.codes[row, 41:] == NON_FINITE).all()
    assert (coded.codes[-1] == NOT_OBSERVED).all()
    assert (coded.codes[row, :10] > ZERO).all()


def test_a_nan_hides_the_rest_of_its_column(maker: type) -> None:
    values = np.ones(1000)
    values[[500, 501]] = 0, np.nan
    built = maker(steps=1000)
    built.add("norms", "grad_norm", "a", values)
    swept = sweep(built.make(), "grad_norm", ("a",), 100)
    assert swept is not None and heatmap(swept).codes[0, 50] == NON_FINITE


def test_fractions_are_linear(healthy: Run) -> None:
    paths = healthy.paths("dead_fraction")
    swept = sweep(healthy, "dead_fraction", paths)
    assert swept is not None
    coded = heatmap(swept)
    table = np.stack([healthy.series("dead_fraction", path).values for path in paths])
    assert coded.scale == "linear" and coded.reach == 1
    np.testing.assert_allclose(coded.codes / 10_000, table, atol=0.000051)


def test_reach_follows_the_data(healthy: Run, exploding: Run) -> None:
    reaches: list[int] = []
    for run in (healthy, exploding):
        swept = sweep(run, "grad_norm", run.paths("grad_norm"))
        assert swept is not None
        reaches.append(heatmap(swept).reach)
    assert reaches[0] == 1 < reaches[1] <= 4


def test_infinite_only_and_extreme_ranges_do_not_overflow(maker: type) -> None:
    built = maker(steps=200)
    built.add("norms", "grad_norm", "inf", np.full(200, np.inf))
    built.add("norms", "grad_norm", "zero", np.zeros(200))
    wide = np.full(200, 1e-38)
    wide[0] = 3e38
    built.add("norms", "grad_norm", "wide", wide)
    swept = sweep(built.make(), "grad_norm", ("inf", "zero", "wide"))
    assert swept is not None
    coded = heatmap(swept)
    assert (coded.codes[0] == NON_FINITE).all() and (coded.codes[1] == ZERO).all()
    assert coded.codes[2, 0] == 32_000


def test_to_dict_round_trip(poisoned: Run) -> None:
    swept = sweep(poisoned, "grad_norm", (*poisoned.paths("grad_norm"), "never.seen"))
    assert swept is not None
    coded = heatmap(swept)
    plain = json.loads(json.dumps(coded.to_dict(), allow_nan=False))
    codes = np.frombuffer(zlib.decompress(base64.b64decode(plain["codes"])), "<i2").reshape(
        len(plain["rows"]), len(plain["starts"])
    )
    np.testing.assert_array_equal(codes, coded.codes)
    assert plain["centres"][-1] is None
