"""Every published figure of the short runs, from a run read back by `load`; and how strictly figures are judged."""

from collections.abc import Callable
from dataclasses import replace

import pytest

import auscult
from auscult.clinic import perceptron, sandwich
from auscult.clinic.published import BLOCKS, LONG_BLOCKS, Block, Figure, printed_losses
from auscult.core.run import Run

FIGURE = Figure("2.2", "deep-tanh", 0, "activation_grad_std", "layers.1", "4.205588e-04", "last digit")


@pytest.fixture(scope="module")
def run_of(makemore_names, tmp_path_factory) -> Callable[[str], Run]:
    """Trains each case once, as far as its last figure."""
    directory = tmp_path_factory.mktemp("runs")
    runs: dict[str, Run] = {}

    def train(case: str) -> Run:
        if case not in runs:
            steps = 1 + max(block.step for block in BLOCKS if block.case == case)
            if case in perceptron.STAGES:
                monitor = perceptron.train(perceptron.STAGES[case], makemore_names, directory / case, steps=steps)
            else:
                recipe = sandwich.RECIPES[case]
                every = recipe.every if steps > 1001 else (8, 8)  # less often than the case itself: the suite is long
                monitor = sandwich.train(replace(recipe, every=every), makemore_names, directory / case, steps=steps)
            assert not monitor.failures
            runs[case] = auscult.load(monitor.path)
        return runs[case]

    return train


@pytest.mark.parametrize("block", BLOCKS, ids=lambda each: f"{each.section}-{each.case}-{each.step}-{each.metrics[0]}")
def test_a_printed_table_is_what_the_run_recorded(block: Block, run_of) -> None:
    figures = [each for line in block.lines() for each in line]
    measured = [(each, each.measured(run_of(block.case))) for each in figures]
    assert [f"{each} but {value}" for each, value in measured if each.agrees(value) is False] == []
    undemanded = {each.case for each, value in measured if each.agrees(value) is None}
    assert undemanded <= {"deep-no-fan-in"}


def test_the_tables_are_complete() -> None:
    figures = [each for block in (*BLOCKS, *LONG_BLOCKS) for line in block.lines() for each in line]
    activations, gradients, weights, losses = 3 * 5 * 15, 2 * 5 * 15, 3 * 7 * 10, 3 * 15 + 2 * 7
    assert len(figures) == activations + gradients + weights + losses == 644
    assert len(list(printed_losses())) == 6 * 20
    names = {*perceptron.STAGES, *sandwich.RECIPES}
    assert {each.case for each in figures} == names - {"deep-zero", "folding"}


@pytest.mark.parametrize(
    ("demand", "printed", "value", "agrees"),
    [
        ("last digit", "4.205588e-04", 4.2055894e-04, True),
        ("last digit", "4.205588e-04", 4.2055896e-04, False),
        ("last digit", "-0.00", 0.014, True),
        ("last digit", "-0.00", 0.016, False),
        ("four digits", "4.205588e-04", 4.2060e-04, True),
        ("four digits", "4.205588e-04", 4.2061e-04, False),
        ("four digits", "2.25", 2.264, True),
        ("four digits", "2.25", 2.266, False),
        ("four digits", "22.19", 22.194, True),
        ("four digits", "22.19", 22.196, False),
        ("0.005", "2.1240577697753906", 2.129, True),
        ("0.005", "2.1240577697753906", 2.1291, False),
        ("chaotic", "1.0", 50.0, None),
    ],
)
def test_how_strictly_a_figure_is_judged(demand, printed, value, agrees) -> None:
    assert replace(FIGURE, demand=demand, printed=printed).agrees(value) is agrees


def test_a_chaotic_saturation_is_held_to_two_points() -> None:
    figure = replace(FIGURE, metric="saturated_fraction", demand="chaotic", printed="96.66")
    assert figure.agrees(98.6) and figure.agrees(94.7) and figure.agrees(98.7) is False


def test_a_measured_number_is_shown_with_the_printed_digits() -> None:
    assert FIGURE.printed_alike(4.2055881e-4) == "4.205588e-04"
    assert replace(FIGURE, printed="-0.02").printed_alike(0.018) == "+0.02"
    assert replace(FIGURE, printed="11897").printed_alike(11897.0) == "11897"
