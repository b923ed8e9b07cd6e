import numpy as np
import pytest

from auscult.core.errors import SetupError
from auscult.sound.files import read_references, write_score
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


def test_references_of_layers_that_are_not_heard_are_told_to_be_of_no_use(make_run, calm):
    run = make_run(calm(60, 6))
    references = sonify_run(run).references
    with pytest.warns(UserWarning, match="early layers, middle layers, late layers, and none of these is heard"):
        sonify_run(run, (), Request(references=references), mode="arpeggio")
    assert sonify_run(run, (), Request(references=references), mode="overview").references == references


def test_a_file_of_references_knows_its_metric(make_run, calm, tmp_path):
    run = make_run(calm(60, 6))
    score = sonify_run(run)
    path = write_score(score, tmp_path / "a.json")
    assert read_references(path) == read_references(path, "grad_norm") == ("grad_norm", score.references)
    with pytest.raises(SetupError, match="grad_norm, but got 'update_to_data'"):
        read_references(path, "update_to_data")
    with pytest.raises(SetupError, match="has none"):
        read_references(write_score(sonify_run(run, mapping="perone2019"), tmp_path / "b.json"))


@pytest.mark.parametrize("mode", ["mix", "overview", "arpeggio", "solo"])
def test_the_map_of_steps_reaches_to_the_last_step(make_run, calm, mode):
    score = sonify_run(
        make_run(calm(5000, 3)), (), Request(path="layer1.weight" if mode == "solo" else None), mode=mode
    )
    assert (score.steps[0], score.steps[-1]) == (0, 4999)
    np.testing.assert_allclose(score.step_times, score.steps * 60 / 5000)
    assert sonify_run(make_run(calm(50, 3)), (), Request(seconds=0.1)).steps.tolist() == [0, 49]
    assert sonify_run(make_run(calm(1, 3))).steps.tolist() == [0]
