from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.pages.test_report import Page

from auscult.core.errors import SetupError
from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.sink import NOT_OBSERVED_32
from auscult.pages.comparison import comparison_html
from auscult.pages.differences import divided, setting_table
from auscult.pages.heatmap import NON_FINITE, NOT_OBSERVED, ZERO
from auscult.pages.parting import distance, parting_sentence, partings
from auscult.pages.sweep import shared_edges, sweep
from auscult.reading import report


def two(maker: type, change: Callable[[np.ndarray], np.ndarray], steps: int = 300) -> tuple[Run, Run]:
    """Two runs of two parameters; the second one's `b` is changed."""
    runs: list[Run] = []
    for name in ("first", "second"):
        built = maker(name, steps=steps)
        built.config = {"lr": 1e-3 if name == "first" else 3e-3, "depth": 2}
        for path, level in (("a", 1.0), ("b", 0.1)):
            values = level * np.exp(0.1 * np.random.default_rng(0).standard_normal(steps))
            built.add("norms", "grad_norm", path, change(values) if (name, path) == ("second", "b") else values)
        built.add("user", "loss", "", np.ones(steps))
        runs.append(built.make())
    return runs[0], runs[1]


def from_step(step: int, factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: values * np.where(np.arange(len(values)) >= step, factor, 1.0)


def test_equal_runs_do_not_part(maker: type) -> None:
    compared = partings(*two(maker, lambda values: values))
    assert compared.found == () and compared.steps == 300
    assert "agree in every norm and every logged value, in 300 steps" in parting_sentence(compared, ("x", "y"))


def test_the_first_step_and_parameter_at_every_size_of_difference(maker: type) -> None:
    growing = lambda values: values * np.exp(np.maximum(0, np.arange(300) - 40) * 0.005)  # noqa: E731
    found = {each.level: each for each in partings(*two(maker, growing)).found}
    grown = 1 - np.exp(-0.005 * np.arange(260))  # |a - b| / max(a, b), 40 steps on
    for level, bound in (("by more than 1 %", 0.01), ("by more than 10 %", 0.1), ("by more than a factor of 2", 0.5)):
        assert found[level].step == 40 + int((grown > bound).argmax())
        assert found[level].channel == ("grad_norm", "b") and found[level].count == 1
    assert found["at all"].step == 41 and "by more than a factor of 10" not in found


def test_the_sentence_names_step_parameter_and_values(maker: type) -> None:
    said = parting_sentence(partings(*two(maker, from_step(123, 20.0))), ("x", "y"))
    assert said.startswith("x and y part at step 123, first in grad_norm of b (")
    assert said.endswith("by more than a factor of 10.")


def test_runs_that_share_no_step_are_not_called_equal(maker: type, run_of: Callable[..., Run]) -> None:
    compared = partings(two(maker, lambda values: values)[0], run_of(steps=0))
    assert "no step in common" in parting_sentence(compared, ("x", "y"))


def test_distance_of_every_kind_of_number() -> None:
    hole = np.array([NOT_OBSERVED_32]).view(np.float32)[0]
    left = np.array([1, 1, 0, np.nan, np.nan, np.inf, hole, -2, 0], np.float32)
    right = np.array([1, 2, 0, np.nan, 1, np.inf, 7, 2, 3], np.float32)
    assert distance(left, right).tolist() == [0, 0.5, 0, 0, 1, 0, 0, 2, 1]


def test_the_heat_map_is_the_ratio(maker: type) -> None:
    left, right = two(maker, from_step(100, 50.0))
    maps = [sweep(run, "grad_norm", ("a", "b"), 600, edges=shared_edges([np.arange(300)])) for run in (left, right)]
    assert maps[0] is not None and maps[1] is not None
    found = divided(maps[0], maps[1], ("first", "second"))
    assert found is not None and found.rows == ("a", "b")
    assert (found.codes[0] == 0).all() and (found.codes[1, :100] == 0).all()
    np.testing.assert_allclose(found.codes[1, 100:] / 1000, np.log10(50.0), atol=0.001)


def test_nan_zero_and_hole_stay_apart_in_the_ratio(maker: type) -> None:
    def spoil(values: np.ndarray) -> np.ndarray:
        values = values.copy()
        values[10:20], values[20:30] = 0, np.nan
        return values

    left, right = two(maker, spoil)
    edges = shared_edges([np.arange(300)])
    maps = [sweep(run, "grad_norm", ("b", "c"), edges=edges) for run in (left, right)]
    assert maps[0] is not None and maps[1] is not None
    found = divided(maps[0], maps[1], ("first", "second"))
    assert found is not None
    assert (found.codes[0, 10:20] == ZERO).all() and (found.codes[0, 20:30] == NON_FINITE).all()
    assert (found.codes[1] == NOT_OBSERVED).all()


@pytest.mark.parametrize("lengths", [(300, 300), (64 * 700, 64 * 900)])
def test_shared_columns_cover_every_step_of_both(lengths: tuple[int, int]) -> None:
    edges = shared_edges([np.arange(10, length) for length in lengths])
    assert edges[0] <= 10 and len(edges) <= 600 and (np.diff(edges) > 0).all()
    if max(lengths) > 600:
        assert (edges % 64 == 0).all()


def test_the_page_of_two_runs(healthy: Run, exploding: Run, finding: Callable[..., Finding]) -> None:
    page = Page(comparison_html([healthy, exploding], [[], [finding()]]))
    assert page.open == [] and len(set(page.ids)) == len(page.ids)
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == ["parting", "settings", "findings", "depth", "curves"]
    loss = next(each for each in page.data["charts"] if "loss" in each["title"].lower())
    assert sorted(set(loss["groups"])) == [0, 1] and len(loss["groups"]) == len(loss["curves"])
    assert page.data["heatmaps"][0]["pair"] == ["mnist", "mel-scale"]
    assert "mnist and mel-scale part at step 121" in page.words
    assert "G001 exploding-gradient, layers.2.weight–Critical, since step 120" in page.words


def test_settings_that_differ_are_listed_and_the_others_counted(maker: type) -> None:
    words = Page(comparison_html([*two(maker, lambda values: values)], [[], []])).words
    assert "lr0.0010.003" in words and "other settings and facts are the same" in words
    assert "depth" not in words.split("Set differently")[1].split("other settings")[0]


def test_three_runs_and_runs_of_one_name(healthy: Run, poisoned: Run) -> None:
    page = Page(comparison_html([healthy, healthy, poisoned], [[], [], []]))
    assert "mnist (1) and mnist (2) agree in every norm" in page.words
    assert {each["pair"][1] for each in page.data["heatmaps"]} == {"mnist (2)", "poisoned"}
    assert all(len(each["curves"]) <= 12 for each in page.data["charts"])


def test_empty_runs_and_hostile_names(run_of: Callable[..., Run], hostile: Run) -> None:
    assert "no step in common" in Page(comparison_html([run_of(steps=0), hostile], [[], []])).words
    page = Page(comparison_html([hostile, hostile], [[], []]))
    assert page.open == [] and not [tag for tag, _ in page.tags if tag in ("img", "b", "iframe")]


@pytest.mark.parametrize("count", [0, 7])
def test_as_many_runs_as_there_are_colours(healthy: Run, count: int, tmp_path) -> None:
    with pytest.raises(SetupError, match=f"between 1 and 6 runs, but got {count}"):
        report([healthy] * count, tmp_path / "r.html")


def test_long_settings_are_compared_in_full_and_shown_in_part(maker: type) -> None:
    first, second = two(maker, lambda values: values)
    long = [replace(run, info=replace(run.info, config={"prompt": "y" * 100_000 + end, "same": "x" * 100_000}))
            for run, end in ((first, ""), (second, "z"))]  # fmt: skip
    html = setting_table(long, ("first", "second"))
    assert "(100,000 characters)" in html and "(100,001 characters)" in html
    assert "same</th>" not in html and len(html) < 10_000
