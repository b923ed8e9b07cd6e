import pytest

from auscult.core.errors import SetupError
from auscult.sound.mappings import MAPPINGS, sonify_run


def test_every_entry_composes_a_score(make_run, calm):
    run = make_run(calm(30, 3))
    for mapping, modes in MAPPINGS.items():
        for mode in modes:
            score = sonify_run(run, mapping=mapping, mode=mode)
            assert (score.mapping, score.title) == (mapping, "test")
            assert len(score.steps) == len(score.step_times) == 30


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"mapping": "vital"}, "vitals, perone2019"),
        ({"mode": "solo"}, "mix"),
        ({"mapping": "perone2019", "mode": "arpeggio"}, "mix"),
        ({"metric": "loss"}, "grad_norm"),
        ({"seconds": 0.0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": 1e9}, "seconds"),
    ],
)
def test_what_is_unknown_is_answered_with_what_is_known(make_run, calm, wrong, named):
    with pytest.raises(SetupError, match=named):
        sonify_run(make_run(calm(10, 2)), **wrong)
