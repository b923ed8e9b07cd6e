import base64
import re
import struct
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from auscult.core.detail import UnitKind, UnitMap
from auscult.pages.unitmap import unit_maps


def make_map(path: str = "layers.1", kind: UnitKind = "saturated", units: int = 10, samples: int = 32) -> UnitMap:
    """Unit 3 is always so, the others by chance."""
    state = np.random.default_rng(0).random((samples, units)) < 0.2
    state[:, 3] = True
    return UnitMap(kind, path, state.mean(0, dtype=np.float32), np.arange(units, dtype=np.int32),
                   state.T.astype(np.float32))  # fmt: skip


def tags(html: str) -> list[tuple[str, list[str]]]:
    """Every tag with the names of its attributes."""
    found: list[tuple[str, list[str]]] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, [name for name, _ in attributes]))
    parser.feed(html)
    return found


def images(html: str) -> list[bytes]:
    return [base64.b64decode(each) for each in re.findall(r'src="data:image/png;base64,([^"]+)"', html)]


def test_the_picture_has_samples_down_and_units_across() -> None:
    units = make_map()
    (image,) = images(unit_maps([units]))
    width, height = struct.unpack(">II", image[16:24])
    assert (width, height) == (10, 32)
    length = struct.unpack(">I", image[33:37])[0]
    pixels = np.frombuffer(zlib.decompress(image[41 : 41 + length]), np.uint8).reshape(32, 11)[:, 1:]
    np.testing.assert_array_equal(pixels, np.where(units.map.T == 1, 255, 0))
    assert (pixels[:, 3] == 255).all()


def test_the_text_counts_units_and_outputs() -> None:
    units = make_map()
    html = unit_maps([units])
    share = 100 * units.map.mean(dtype=float)
    assert f"10% of 10 units saturated for the whole batch; {share:.4g}% of outputs" in html
    assert "10% of 10 units exactly 0 for the whole batch" in unit_maps([make_map(kind="zero")])


def test_many_modules_are_thinned_but_all_are_in_the_table() -> None:
    html = unit_maps([make_map(f"layers.{number}") for number in range(100)])
    assert len(images(html)) == 24 and "Shown are 24 of 100 modules" in html
    assert html.count('<th scope="row">') == 100


def test_names_are_escaped(hostile_paths: tuple[str, ...]) -> None:
    html = unit_maps([make_map(path) for path in hostile_paths])
    assert "<script" not in html and html.count("<img ") == len(hostile_paths)
    assert [names for tag, names in tags(html) if tag == "img"] == [["src", "alt"]] * len(hostile_paths)


@pytest.mark.parametrize("shape", [(0, 0), (4, 0)])
def test_a_map_without_cells_has_no_picture(shape: tuple[int, int]) -> None:
    empty = UnitMap("zero", "a", np.zeros(shape[0], np.float32), np.arange(shape[0], dtype=np.int32),
                    np.zeros(shape, np.float32))  # fmt: skip
    html = unit_maps([empty])
    assert not images(html) and ("–" in html) == (shape[0] == 0)
