"""Cases: each can be found by name, what they need is said, and the exercises show what they are for."""

import numpy as np
import pytest

import auscult
from auscult.clinic import listening, melscale, perceptron, sandwich
from auscult.clinic.cases import CASES, run_case
from auscult.core.errors import SetupError


def test_every_case_is_listed_once_and_says_what_it_shows() -> None:
    assert list(CASES) == [*listening.SETTINGS, *melscale.SETTINGS, *perceptron.STAGES, *sandwich.RECIPES]
    assert all(each.about and each.steps > 0 and each.name == name for name, each in CASES.items())
    assert {name for name, each in CASES.items() if not each.needs_names} == {*listening.SETTINGS, *melscale.SETTINGS}
    assert {name for name, each in CASES.items() if each.takes_images} == set(listening.SETTINGS)


def test_what_is_missing_is_said(tmp_path) -> None:
    with pytest.raises(SetupError, match="Did you mean 'deep-tanh'"):
        run_case("deep-tan", tmp_path / "run")
    with pytest.raises(SetupError, match="--names"):
        run_case("deep-tanh", tmp_path / "run")
    with pytest.raises(SetupError, match="text file of names"):
        run_case("deep-tanh", tmp_path / "run", names=tmp_path / "nothing.txt")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_is_none_is_refused(seed, tmp_path) -> None:
    with pytest.raises(SetupError, match=r"a seed from 0 to 2\*\*63 - 1"):
        run_case("sgd-0.01", tmp_path / "run", seed=seed)
    assert not (tmp_path / "run").exists()


def test_only_cases_that_train_on_names_take_them(tmp_path) -> None:
    with pytest.raises(SetupError, match=r"--names for sgd-0\.01"):
        run_case("sgd-0.01", tmp_path / "run", names=tmp_path / "names.txt")


def test_a_seed_gives_the_same_run_again_and_another_one_another(made_up_names, tmp_path) -> None:
    stage = perceptron.STAGES["mlp-batchnorm"]
    losses = [
        np.asarray(
            auscult.load(perceptron.train(stage, made_up_names, tmp_path / str(number), seed, 20).path).series("loss")
        )
        for number, seed in enumerate((1, 1, 2))
    ]
    assert np.array_equal(losses[0], losses[1]) and not np.array_equal(losses[0], losses[2])


@pytest.mark.trial
def test_with_all_weights_zero_the_findings_say_what_never_trains(made_up_path, made_up_names, tmp_path) -> None:
    steps: list[int] = []
    monitor = run_case("deep-zero", tmp_path / "run", names=made_up_path, on_step=steps.append)
    assert steps == list(range(1, 1002))
    run = auscult.load(monitor.path)
    found = {each.code: each for each in auscult.diagnose(run)}
    assert found["G001"].severity == "critical" and found["G001"].step == 0
    assert "12 of 13 parameters have been exactly 0 since the first step" in found["G001"].summary
    assert "Only layers.10.bias trains; embedding.weight, layers.0.weight" in found["G001"].summary
    moved = [each.path for each in run.parameters if run.series("update_norm", each.path).values.any()]
    assert moved == ["layers.10.bias"]
    shares = np.bincount(made_up_names.train.targets.numpy(), minlength=20) / len(made_up_names.train.targets)
    shares = shares[shares > 0]
    entropy = -(shares * np.log(shares)).sum()  # no bias alone can do better
    assert entropy < run.series("train/loss").values[-1] < entropy + 0.03


def test_folding_is_exact_at_the_end_of_its_case(made_up_path, tmp_path) -> None:
    run = auscult.load(run_case("folding", tmp_path / "run", names=made_up_path).path)
    assert 0 < run.series("folding/float32").values[-1] <= 1e-6
    assert 0 < run.series("folding/float64").values[-1] <= 1e-14
    assert run.info.config["seed"] == 2147483647 and run.info.config["layers"] == 3
