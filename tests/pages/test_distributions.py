import re
from collections.abc import Callable

import numpy as np
import pytest

from auscult.core.detail import TensorDetail
from auscult.pages.distributions import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Picture, distribution

Maker = Callable[..., TensorDetail]
PICTURE = Picture("Activations", "Outputs of the modules.", "module")


def normal(seed: int = 0, size: int = 20_000) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size)


def lines(html: str) -> list[str]:
    return re.findall(r'<path class="(tone-[^"]+)" d="M[^"]+"><title>', html)


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def points(html: str) -> np.ndarray:
    drawn = re.findall(r'd="M([^"]+)"><title>', html)[0]
    return np.array([[float(number) for number in point.split()] for point in drawn.split("L")])


def test_the_line_is_a_normal_density(tensor: Maker) -> None:
    """In the coordinates of the page the area under the line is what the axes say it is."""
    html = distribution(PICTURE, [tensor("activation", "layers.1", normal())], {})
    x, y = points(html).T
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    assert x.min() >= 0 and x.max() <= width and y.max() <= height
    highest = x[y.argmin()]
    assert highest == pytest.approx(width / 2, abs=width / 20), "the peak is at 0"
    level = (height - np.interp([width / 2 * (1 + each) for each in (-0.5, 0.5)], x, y)) / (height - y.min())
    assert level[0] == pytest.approx(level[1], abs=0.06)


def test_axis_values_stand_where_they_belong(tensor: Maker) -> None:
    html = distribution(PICTURE, [tensor("activation", "a", np.tanh(normal() * 3))], {})
    texts = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">([^<]+)</text>', html)
    (left, low), (middle, zero), (right, high) = ((float(at), float(value)) for at, value in texts)
    assert zero == 0 and low == -high
    x = points(html)[:, 0] + LEFT
    unit = (right - middle) / high
    assert x.max() == pytest.approx(middle + unit, abs=0.2), "tanh ends at 1"
    assert x.min() == pytest.approx(middle - unit, abs=0.2)
    assert middle - left == pytest.approx(right - middle, abs=0.11)


def test_the_legend_has_the_figures(tensor: Maker) -> None:
    values = np.concatenate([np.zeros(100), normal(size=300)])
    html = distribution(PICTURE, [tensor("activation", "layers.1", values)], {"layers.1": 0.2025})
    said = words(html)
    for part in ("layers.1", f"{values.mean():.3g}", f"{values.std(ddof=1):.3g}", "20.25%", "25%",
                 f"{values.astype(np.float32).min():.3g}", f"{values.astype(np.float32).max():.3g}"):  # fmt: skip
        assert part in said
    assert "saturated" in said
    assert "saturated" not in words(distribution(PICTURE, [tensor("activation", "layers.1", values)], {}))


def test_what_is_not_finite_is_said_and_not_drawn(tensor: Maker) -> None:
    bad, plain = tensor("activation", "a", np.full(7, np.nan)), tensor("activation", "b", normal())
    html = distribution(PICTURE, [bad, plain], {})
    assert "a nothing finite – – – – – 7" in words(html)
    assert lines(html) == ["tone-12"]
    alone = distribution(PICTURE, [bad], {})
    assert "Nothing to draw" in alone and '<svg class="densities"' not in alone


def test_exact_zeros_are_said(tensor: Maker) -> None:
    said = words(distribution(PICTURE, [tensor("grad", "dead", np.zeros(50))], {}))
    assert "Nothing to draw" in said and "dead 0 0 100% 0 0 0% 0" in said


def test_many_layers_are_thinned_and_counted(tensor: Maker) -> None:
    several = [tensor("activation", f"layers.{number}", normal(number, 200)) for number in range(200)]
    html = distribution(PICTURE, several, {})
    tones = lines(html)
    assert len(tones) == 24 and "Shown are 24 of 200 modules" in html
    assert "layers.0<" in html and "layers.199<" in html
    assert tones[0] == "tone-1" and tones[-1].startswith("tone-12")
    assert len(set(tones)) == 24, "what shares a colour is told apart by dashes"
    assert len(html) < 40_000


def test_names_are_escaped(tensor: Maker, hostile_paths: tuple[str, ...]) -> None:
    several = [tensor("activation", path, normal(size=50)) for path in hostile_paths]
    html = distribution(PICTURE, several, {hostile_paths[0]: 0.5})
    assert "<script" not in html and "<img" not in html and "\u202e" not in html and "\x1b" not in html
    assert html.count("&lt;/script&gt;&lt;script&gt;") == 2, "the title of the line, and the row"


@pytest.mark.parametrize("scale", [1e-38, 1e-9, 1e-3, 7.0, 3e6, 1e37])
def test_any_scale_can_be_drawn(tensor: Maker, scale: float) -> None:
    html = distribution(PICTURE, [tensor("grad", "a", normal() * scale)], {})
    assert len(lines(html)) == 1 and np.isfinite(points(html)).all()
    assert all(len(text) < 8 for text in re.findall(r"<text [^>]+>([^<]+)<", html))
