"""Listening: one run of each end, against the oracle of the trials; data and sampler are pinned."""

import numpy as np
import pytest
from tests.trials.oracle import judge, objections, train_bare

import auscult
from auscult.clinic.images import Images, load_digits
from auscult.clinic.listening import SETTINGS, train


@pytest.fixture(scope="module")
def digits() -> Images:
    return load_digits()


@pytest.mark.parametrize(("name", "seed"), [("sgd-0.01", 0), ("sgd-1.0", 9)])  # ten seeds of all five: make trials
def test_the_diagnosis_is_what_became_of_the_run(name, seed, digits, tmp_path) -> None:
    bare = train_bare(SETTINGS[name], digits, seed)
    run = auscult.load(train(SETTINGS[name], tmp_path / "run", seed, images=digits).path)
    np.testing.assert_array_equal(run.series("loss").values[: len(bare.losses)], bare.losses)  # the same run
    verdict, findings = judge(bare), auscult.diagnose(run)
    assert objections(verdict, findings) == [], verdict
    assert (findings == []) == (name == "sgd-0.01")
    assert run.info.config["data"] == "digits"
