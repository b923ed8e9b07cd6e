import numpy as np
import pytest

from auscult.core.errors import SetupError
from auscult.sound.mappings import MAPPINGS, sonify_run
from auscult.sound.request import Request


def test_every_entry_composes_a_score(make_run, calm):
    run = make_run(calm(30, 3))
    for mapping, modes in MAPPINGS.items():
        for mode in modes:
            score = sonify_run(
                run, (), Request(path="layer1.weight" if mode == "solo" else None), mapping=mapping, mode=mode
            )
            assert (score.mapping, score.mode, score.title, score.metric) == (mapping, mode, "test", "grad_norm")
            assert len(score.steps) == len(score.step_times)
            assert score.steps[0] == 0 and (np.diff(score.steps) > 0).all()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"mapping": "vital"}, "vitals, perone2019"),
        ({"mode": "sole"}, "mix, overview, arpeggio, solo, step"),
        ({"mapping": "perone2019", "mode": "arpeggio"}, "mix"),
        ({"metric": "lr"}, "grad_norm"),
        ({"seconds": 0.0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": 1e9}, "seconds"),
        ({"steps": (5, 3)}, "steps"),
        ({"steps": (10, 99)}, "0 to 9"),
        ({"polarity": "left"}, "up, down"),
        ({"scale": "minor"}, "pentatonic"),
        ({"context": ("noise",)}, "clipping"),
        ({"references": {"early layers": 0.0}}, "references"),
        ({"mode": "solo"}, "path='conv1.weight'"),
        ({"path": "layer0.weight"}, "mode='solo'"),
        ({"mode": "solo", "path": "layer0.wight"}, "Did you mean 'layer0.weight'"),
    ],
)
def test_what_is_unknown_is_answered_with_what_is_known(make_run, calm, wrong, named):
    names = {name: wrong[name] for name in ("mapping", "mode") if name in wrong}
    with pytest.raises(SetupError, match=named):
        sonify_run(make_run(calm(10, 2)), (), Request(**{k: v for k, v in wrong.items() if k not in names}), **names)
