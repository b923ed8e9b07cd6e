"""What `run.plot` draws, asked of matplotlib itself."""

import subprocess
import sys
from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot

from auscult.core.errors import SetupError, UnknownName
from auscult.core.plot import draw_series
from auscult.core.run import Run
from auscult.core.series import Series

mpl.use("agg")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def texts(ax) -> list[str]:
    return [each.get_text().strip() for each in ax.get_legend().get_texts()] if ax.get_legend() else []


def test_the_whole_run_is_one_curve(run: Run) -> None:
    ax = run.plot("grad_norm")
    series = run.series("grad_norm")
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), series.steps)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), series.values)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "grad_norm")


def test_values_that_are_no_numbers_are_crosses_at_their_steps(run: Run) -> None:
    crosses = run.plot("grad_norm").lines[1]
    assert crosses.get_marker() == "x"
    np.testing.assert_array_equal(crosses.get_xdata(), np.arange(66, 70))


def test_one_path_several_and_all(run: Run) -> None:
    assert texts(run.plot("grad_norm", path="0.weight"))[0] == "0.weight"
    several = run.plot("grad_norm", path=["0.weight", "1.weight"])
    assert [each for each in texts(several) if ":" not in each] == ["0.weight", "1.weight"]
    every = run.plot("update_to_data")
    assert [each for each in texts(every) if ":" not in each] == list(run.paths("update_to_data"))
    assert run.plot("update_ratio").lines and run.plot("step_time").get_ylabel() == "step_time (s)"


def test_it_draws_where_it_is_told_to(run: Run) -> None:
    _, ax = pyplot.subplots()
    assert run.plot("lr", ax=ax) is ax and len(pyplot.get_fignums()) == 1


def test_a_logged_name_is_no_formula(run: Run) -> None:
    ax = run.plot("$loss_")
    ax.figure.canvas.draw()
    assert ax.get_ylabel() == r"\$loss_"


def test_the_axis_is_logarithmic_where_values_are_far_apart() -> None:
    steps = np.arange(5)
    assert draw_series([Series("x", "", steps, 10.0**steps)]).get_yscale() == "log"
    assert draw_series([Series("x", "", steps, 1.0 + steps)]).get_yscale() == "linear"
    assert draw_series([Series("x", "", steps, 10.0**steps - 1)]).get_yscale() == "linear"


def test_what_cannot_be_drawn_is_refused(run: Run) -> None:
    with pytest.raises(UnknownName, match="grad_norms"):
        run.plot("grad_norms")
    with pytest.raises(UnknownName, match="nowhere"):
        run.plot("grad_norm", path="nowhere")
    with pytest.raises(SetupError, match="at least one"):
        run.plot("grad_norm", path=[])


def test_without_matplotlib_it_says_what_to_install(run: Run) -> None:
    code = """
import sys
sys.modules["matplotlib"] = None
import numpy as np
from auscult.core.errors import MissingExtra
from auscult.core.plot import draw_series
from auscult.core.series import Series
try:
    draw_series([Series("x", "", np.arange(2), np.ones(2))])
except MissingExtra as error:
    assert "pip install 'auscult[plot]'" in str(error)
else:
    raise SystemExit("drawn")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
