"""Cases: every run of the clinic, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from os import PathLike
from typing import Protocol

from auscult.clinic import listening, melscale, perceptron, sandwich
from auscult.clinic.images import Images, load_mnist
from auscult.clinic.makemore import SEED
from auscult.clinic.names import Names, load_names
from auscult.core.errors import SetupError
from auscult.core.finding import Finding
from auscult.monitor import Monitor
from auscult.monitor.silent import SilentMonitor


class Train(Protocol):
    """Trains one case; `data` is there where the case needs names, or takes images and was given some."""

    def __call__(
        self,
        data: Names | Images | None,
        path: str | PathLike[str],
        seed: int,
        on_step: Callable[[int], object] | None,
        on_finding: Callable[[Finding], object] | None,
    ) -> Monitor | SilentMonitor:
        """Train it; returns the closed monitor."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """One run of the clinic.

    Attributes:
        name: Its name.
        about: What it shows.
        steps: Number of updates.
        seed: The seed it is published with.
        needs_names: Whether it trains on a file of names.
        train: Trains it.
        takes_images: Whether it trains on MNIST's own files where it is given them, on scikit-learn's digits otherwise.
    """

    name: str
    about: str
    steps: int
    seed: int
    needs_names: bool
    train: Train
    takes_images: bool = False


def run_case(
    name: str,
    path: str | PathLike[str],
    seed: int | None = None,
    names: str | PathLike[str] | None = None,
    images: str | PathLike[str] | None = None,
    on_step: Callable[[int], object] | None = None,
    on_finding: Callable[[Finding], object] | None = None,
) -> Monitor | SilentMonitor:
    """Train a case.

    Args:
        name: A name of `CASES`.
        path: Directory of the run.
        seed: None takes the seed that the case is published with.
        names: A file of names, for the cases that train on one.
        images: The directory of MNIST's own files, for the cases that take it.
        on_step: Called with the number of updates made.
        on_finding: Called with every finding that is new or changed.

    Returns:
        The closed monitor.

    Raises:
        SetupError: if there is no such case, the seed is none, it needs names and got none that can be read, or it got
            names or images that it does not take or that cannot be read.
    """
    case = case_by_name(name)
    if seed is not None and not 0 <= seed < 2**63:
        raise SetupError(f"Expected a seed from 0 to 2**63 - 1, but got {seed}. Leave it out for the published one.")
    if names is not None and not case.needs_names:
        raise SetupError(
            f"Expected a case that trains on names, but got --names for {name}, which does not. Leave it out; "
            "`auscult clinic list` says which cases take it."
        )
    if case.needs_names and names is None:
        raise SetupError(
            f"Expected a file of names for {name}, but got none. makemore's own is names.txt in "
            "github.com/karpathy/makemore; pass it: --names names.txt."
        )
    if images is not None and not case.takes_images:
        able = ", ".join(each.name for each in CASES.values() if each.takes_images)
        raise SetupError(
            f"Expected a case that trains on images, but got --data for {name}, which does not. Leave it out; it is "
            f"for {able}."
        )
    data = load_names(names) if case.needs_names and names is not None else None
    if images is not None:
        data = load_mnist(images)
    return case.train(data, path, case.seed if seed is None else seed, on_step, on_finding)


def case_by_name(name: str) -> Case:
    """The case of that name.

    Raises:
        SetupError: if there is none.
    """
    if name not in CASES:
        close = get_close_matches(name, CASES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise SetupError(f"Expected a case of the clinic, but got {name!r}.{hint} `auscult clinic list` names them.")
    return CASES[name]


def _listening(
    setting: listening.Setting,
    data: Names | Images | None,
    path: str | PathLike[str],
    seed: int,
    on_step: Callable[[int], object] | None,
    on_finding: Callable[[Finding], object] | None,
) -> Monitor | SilentMonitor:
    assert not isinstance(data, Names)  # the case takes images
    return listening.train(setting, path, seed, images=data, on_step=on_step, on_finding=on_finding)


def _perceptron(
    stage: perceptron.Stage,
    data: Names | Images | None,
    path: str | PathLike[str],
    seed: int,
    on_step: Callable[[int], object] | None,
    on_finding: Callable[[Finding], object] | None,
) -> Monitor | SilentMonitor:
    assert isinstance(data, Names)  # the case needs them
    return perceptron.train(stage, data, path, seed, on_step=on_step, on_finding=on_finding)


def _sandwich(
    recipe: sandwich.Recipe,
    data: Names | Images | None,
    path: str | PathLike[str],
    seed: int,
    on_step: Callable[[int], object] | None,
    on_finding: Callable[[Finding], object] | None,
) -> Monitor | SilentMonitor:
    assert isinstance(data, Names)  # the case needs them
    return sandwich.train(recipe, data, path, seed, on_step=on_step, on_finding=on_finding)


def _melscale(
    setting: melscale.Setting,
    data: Names | Images | None,
    path: str | PathLike[str],
    seed: int,
    on_step: Callable[[int], object] | None,
    on_finding: Callable[[Finding], object] | None,
) -> Monitor | SilentMonitor:
    return melscale.train(setting, path, seed, on_step=on_step, on_finding=on_finding)


def _listening_about(setting: listening.Setting) -> str:
    optimizer = "Adam" if setting.optimizer == "adam" else "SGD with momentum 0.5"
    return f"a small convolutional network on digits, {optimizer}, lr {setting.lr}, batch {setting.batch}"


CASES = {
    each.name: each
    for each in (
        *(
            Case(each.name, _listening_about(each), listening.STEPS, 0, False, partial(_listening, each), True)
            for each in listening.SETTINGS.values()
        ),
        *(
            Case(each.name, each.about, melscale.STEPS, 0, False, partial(_melscale, each))
            for each in melscale.SETTINGS.values()
        ),
        *(
            Case(each.name, each.about, perceptron.STEPS, SEED, True, partial(_perceptron, each))
            for each in perceptron.STAGES.values()
        ),
        *(
            Case(each.name, each.about, each.steps, SEED, True, partial(_sandwich, each))
            for each in sandwich.RECIPES.values()
        ),
    )
}
"""Name to Case, in the order in which they are listed."""
