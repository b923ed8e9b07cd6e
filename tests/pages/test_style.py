"""Contrast of the page's colours, by the formula of WCAG 2.2 (relative luminance, contrast ratio)."""

import re
from importlib.resources import files
from itertools import combinations, pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

CSS = files("auscult.pages").joinpath("assets", "report.css").read_text("utf-8")
LIGHT, DARK = (
    dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{6});", block))
    for block in CSS.split("@media screen and (prefers-color-scheme: dark)")[:2]
)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["ink", "quiet", "link", "critical", "warning", "info", "healthy", "bad"])
def test_text_can_be_read(colours: dict[str, str], name: str) -> None:
    assert contrast(colours[f"--{name}"], colours["--paper"]) >= 4.5
    assert contrast(colours[f"--{name}"], colours["--page"]) >= 4.5


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_curves_and_lines_stand_out(colours: dict[str, str]) -> None:
    for name in (*(f"curve-{index}" for index in range(1, 7)), "focus", "playhead"):
        assert contrast(colours[f"--{name}"], colours["--paper"]) >= 3, name


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_the_map_is_ordered_by_lightness_alone(colours: dict[str, str]) -> None:
    """Whoever sees no hue still sees how far a cell is from healthy."""
    for arm in ("low", "high"):
        ratios = [contrast(colours[f"--map-{name}"], colours["--map-centre"]) for name in (f"{arm}-1", f"{arm}-2")]
        assert 1.5 < ratios[0] < ratios[1] and ratios[1] > 5
    for name in ("nonfinite", "zero"):
        assert contrast(colours[f"--map-{name}"], colours["--map-centre"]) >= 4.5


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_layers_are_ordered_by_lightness_and_stand_out(colours: dict[str, str]) -> None:
    tones = [colours[f"--depth-{number}"] for number in range(1, 13)]
    assert all(contrast(tone, colours["--paper"]) >= 3 for tone in tones)
    assert luminance(tones[-1]) > 3 * luminance(tones[0])
    bright = [luminance(tone) for tone in tones]
    assert all(after > 0.99 * before for before, after in pairwise(bright))


# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009,
# table 1 at severity 1.0; for linear RGB.
DEFICIENCIES = {
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
D65 = np.array([0.95047, 1.0, 1.08883])


def seen(colour: str, deficiency: str) -> NDArray[np.float64]:
    """CIELAB of a colour as someone sees it."""
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    if deficiency != "none":
        linear = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    x, y, z = (cube_root(each) for each in XYZ @ linear / D65)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def cube_root(share: float) -> float:
    return share ** (1 / 3) if share > (6 / 29) ** 3 else share / (3 * (6 / 29) ** 2) + 4 / 29


def distance(one: str, other: str, deficiency: str) -> float:
    """CIE 1976; about 2.3 is just noticeable."""
    return float(np.linalg.norm(seen(one, deficiency) - seen(other, deficiency)))


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("deficiency", ["none", *DEFICIENCIES])
def test_whoever_sees_fewer_hues_tells_the_map_apart(colours: dict[str, str], deficiency: str) -> None:
    stops = [colours[f"--map-{name}"] for name in ("low-2", "low-1", "centre", "high-1", "high-2")]
    for one, other in combinations(stops, 2):
        assert distance(one, other, deficiency) >= 20, (one, other)
    for name in ("nonfinite", "zero", "hole"):
        assert distance(colours[f"--map-{name}"], colours["--map-centre"], deficiency) >= 14, name


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("deficiency", ["none", *DEFICIENCIES])
def test_whoever_sees_fewer_hues_tells_layers_apart_by_depth(colours: dict[str, str], deficiency: str) -> None:
    tones = [colours[f"--depth-{number}"] for number in range(1, 13)]
    lightness = [seen(tone, deficiency)[0] for tone in tones]
    assert lightness[-1] - lightness[0] > 25
    assert all(distance(tones[at], tones[at + 4], deficiency) >= 10 for at in range(8))


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("deficiency", ["none", *DEFICIENCIES])
def test_whoever_sees_fewer_hues_tells_curves_apart(colours: dict[str, str], deficiency: str) -> None:
    """By more than their dashes, of which each curve of a chart has its own."""
    curves = [colours[f"--curve-{number}"] for number in range(1, 7)]
    assert all(distance(one, other, deficiency) >= 10 for one, other in combinations(curves, 2))
