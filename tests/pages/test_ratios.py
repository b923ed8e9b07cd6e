import re
from collections.abc import Callable

import numpy as np

from auscult.core.detail import Detail, TensorDetail
from auscult.core.run import Parameter
from auscult.pages.ratios import ratio_table

Maker = Callable[..., TensorDetail]


def rows(html: str) -> list[list[str]]:
    found = re.findall(r"<tr>(<th scope=\"row\">.*?)</tr>", html)
    return [re.sub(r"</t[hd]>", "|", re.sub(r"<t[hd][^>]*>", "", each)).split("|")[:-1] for each in found]


def weight(path: str, shape: tuple[int, ...] = (27, 10)) -> Parameter:
    return Parameter(path, shape, "float32", True, "0")


def test_ratios_are_of_bessel_corrected_stds(tensor: Maker) -> None:
    random = np.random.default_rng(0)
    param, grad, update = (random.standard_normal(270) * scale for scale in (1.0, 1.4e-3, 1e-4))
    detail = Detail(0, tuple(tensor(kind, "C", each) for kind, each in
                             (("param", param), ("grad", grad), ("update", update))))  # fmt: skip
    (row,) = rows(ratio_table(detail, [weight("C")]))
    assert row[:2] == ["C", "27 × 10"]
    expected = (grad.mean(), grad.std(ddof=1), param.std(ddof=1), grad.std(ddof=1) / param.std(ddof=1),
                update.std(ddof=1) / param.std(ddof=1))  # fmt: skip
    np.testing.assert_allclose([float(each) for each in row[2:]], expected, rtol=1e-3)


def test_odd_weights_are_said_as_they_are(tensor: Maker) -> None:
    some = np.arange(4.0)
    detail = Detail(0, (
        tensor("param", "zero", np.zeros(4)), tensor("param", "still", np.zeros(4)), tensor("grad", "zero", some),
        tensor("grad", "still", np.zeros(4)), tensor("grad", "bare", some), tensor("grad", "bad", np.full(4, np.nan)),
        tensor("param", "bad", some),
    ))  # fmt: skip
    table = {row[0]: row for row in rows(ratio_table(detail, [weight(name) for name in
                                                             ("zero", "still", "bare", "bad", "unseen")]))}  # fmt: skip
    assert table["zero"][5] == "inf" and table["still"][5] == "0" and table["bad"][5] == "NaN"
    assert table["bare"][4:] == ["–", "–", "–"] and "unseen" not in table


def test_without_gradients(tensor: Maker) -> None:
    assert "No gradient of a weight" in ratio_table(Detail(0, (tensor("param", "a", [1.0, 2.0]),)), [weight("a")])


def test_very_many_weights_are_thinned_and_counted(tensor: Maker) -> None:
    names = [f"layers.{number}" for number in range(500)]
    html = ratio_table(Detail(0, tuple(tensor("grad", each, [1.0, 2.0]) for each in names)), [weight(n) for n in names])
    assert len(rows(html)) == 200 and "Shown are 200 of 500 weights" in html
