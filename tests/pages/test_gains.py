import re
from collections.abc import Callable

import numpy as np
import pytest

from auscult.core.detail import Detail, TensorDetail
from auscult.core.run import Parameter
from auscult.pages.gains import gain_table

Maker = Callable[..., TensorDetail]


@pytest.mark.parametrize("gain", [5 / 3, 2**0.5, 1.0])
def test_the_gain_that_a_layer_was_drawn_with(tensor: Maker, gain: float) -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((400, 300)) * gain / 400**0.5
    inputs = random.standard_normal((256, 400))
    detail = Detail(
        3,
        (tensor("activation", "layers.0", inputs @ weight), tensor("param", "layers.0.weight", weight)),
        fan_ins={"layers.0.weight": 400},
    )
    html = gain_table(detail, [Parameter("layers.0.weight", (400, 300), "float32", True, "0")])
    cells = re.findall(r"<td>([^<]+)</td>", html)
    assert cells[:2] == ["400 × 300", "400"] and "at step 3" in html
    assert float(cells[2]) == pytest.approx(gain / 20, rel=0.02)
    assert float(cells[3]) == pytest.approx(gain, rel=0.02)
    assert float(cells[4]) == pytest.approx(gain, rel=0.02), "std of the output of inputs of std 1"


def test_an_output_that_was_not_observed_has_no_std(tensor: Maker) -> None:
    detail = Detail(0, (tensor("param", "bare", np.ones((2, 2))),), fan_ins={"bare": 2, "gone": 9})
    html = gain_table(detail, [Parameter(path, (2, 2), "float32", True, "0") for path in ("bare", "gone", "other")])
    assert re.findall(r"<td>([^<]+)</td>", html) == ["2 × 2", "2", "0", "1.414", "–"]


def test_nothing_known() -> None:
    assert "The fan-in of no layer is known" in gain_table(Detail(0), [])
