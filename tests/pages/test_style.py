"""Contrast of the page's colours, by the formula of WCAG 2.2 (relative luminance, contrast ratio)."""

import re
from importlib.resources import files
from itertools import pairwise

import pytest

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
