"""The five listening runs, seeds 0 to 9, against an oracle that trains each of them bare."""

import numpy as np
import pytest
from tests.trials.oracle import judge, objections, train_bare

import auscult
from auscult.clinic.images import Images, load_digits
from auscult.clinic.listening import SETTINGS, train

pytestmark = pytest.mark.trial


@pytest.fixture(scope="module")
def digits() -> Images:
    return load_digits()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_the_diagnosis_is_what_became_of_the_run(setting, seed, digits, tmp_path) -> None:
    bare = train_bare(setting, digits, seed)
    run = auscult.load(train(setting, tmp_path / "run", seed, images=digits).path)
    np.testing.assert_array_equal(run.series("loss").values[: len(bare.losses)], bare.losses)  # the same run
    verdict, findings = judge(bare), auscult.diagnose(run)
    assert objections(verdict, findings) == [], verdict
    if setting.name == "sgd-0.01":
        assert verdict.label == "trained" and findings == []
