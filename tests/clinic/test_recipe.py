"""Recipes: ordinary training scripts, healthy and with the mistakes that people make."""

import math

import pytest
import torch
from torch.nn import functional

import auscult
from auscult.clinic.networks import ACTIVATIONS, build_network, initialise
from auscult.clinic.objectives import OBJECTIVES, score
from auscult.clinic.recipe import Lesson, Recipe, build_model, load_rows
from auscult.clinic.tables import TABLES, Table, load_table, scale_inputs, scale_targets
from auscult.core.errors import SetupError

DIGITS = Recipe("digits", "unit", hidden=(32,), lr=3e-3, epochs=5)


def train(tmp_path, **settings):
    outcome = Recipe(**{"data": "digits", "norm": "unit", "hidden": (32,), "lr": 3e-3, "epochs": 5, **settings}).train(
        tmp_path / "run", seed=0
    )
    return outcome, auscult.load(tmp_path / "run")


def test_a_healthy_recipe_learns_and_is_recorded(tmp_path) -> None:
    outcome, run = train(tmp_path)
    assert outcome.score > 0.85
    assert outcome.updated
    assert outcome.steps == 5 * math.ceil(1348 / 32) == len(run.series("loss").values)
    assert len(run.series("val/accuracy").values) == 5
    assert run.series("val/accuracy").values[-1] == pytest.approx(outcome.score)


def test_one_seed_gives_one_run(tmp_path) -> None:
    first, second, other = (DIGITS.train(tmp_path / name, seed) for name, seed in (("a", 3), ("b", 3), ("c", 4)))
    assert first == second
    assert first != other
    losses = [auscult.load(tmp_path / name).series("loss").values for name in "ab"]
    assert (losses[0] == losses[1]).all()


@pytest.mark.parametrize("quirk", ["no-step", "old-optimizer"])
def test_a_training_without_updates_changes_nothing(tmp_path, quirk: str) -> None:
    outcome, _ = train(tmp_path, quirk=quirk, epochs=1)
    assert not outcome.updated
    assert outcome.score < 0.3


def test_without_zero_grad_gradients_add_up(tmp_path) -> None:
    """With a learning rate of nearly 0, the gradient at step k is the sum of k + 1 equal ones."""
    settings = {"data": "xor", "norm": 1.0, "batch": 4, "epochs": 4, "optimizer": "sgd", "lr": 1e-9}
    _, run = train(tmp_path, **settings, quirk="no-zero-grad")
    norms = run.series("grad_norm", "0.weight").values
    assert norms / norms[0] == pytest.approx([1, 2, 3, 4], rel=1e-4)


def test_ascending_raises_the_loss(tmp_path) -> None:
    _, run = train(tmp_path, quirk="ascend", optimizer="sgd", lr=0.05, epochs=2)
    assert run.series("loss").values[-10:].min() > 2 * run.series("loss").values[0]


def test_the_first_layer_can_be_left_out(tmp_path) -> None:
    _, run = train(tmp_path, quirk="first-layer-left-out", epochs=1)
    assert {each.path for each in run.parameters if each.group is None} == {"0.weight", "0.bias"}


def test_evaluation_mode_leaves_running_statistics_alone(tmp_path) -> None:
    for quirk, counted in (("evaluation-mode", 0), (None, 43)):
        recipe = Recipe("digits", "unit", hidden=(8,), batch_norm=True, epochs=1, quirk=quirk)
        table, held = load_rows(recipe, 0)
        model = build_model(recipe, table)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with auscult.watch(model, optimizer, tmp_path / "run") as monitor:
            Lesson(recipe, model, optimizer, table, held, 0).teach(monitor)
        assert int(model[1].num_batches_tracked) == counted


def test_the_same_batch_is_learnt_by_heart(tmp_path) -> None:
    same, run = train(tmp_path, quirk="same-batch", epochs=10)
    assert run.series("loss").values[-1] < 0.01
    assert same.score < 0.8


def test_labels_of_other_rows_teach_nothing(tmp_path) -> None:
    outcome, _ = train(tmp_path, quirk="shuffled-apart")
    assert outcome.score < 0.3


def test_dropout_that_goes_on_makes_two_evaluations_differ() -> None:
    inputs = torch.ones(4, 8)
    for always in (False, True):
        torch.manual_seed(0)
        model = build_network(8, 3, (16,), dropout=0.5, dropout_always=always).eval()
        assert torch.equal(model(inputs), model(inputs)) is not always


def test_clipping_bounds_the_gradient(tmp_path) -> None:
    _, run = train(tmp_path, max_norm=1e-3, optimizer="sgd", lr=0.1, epochs=1)
    assert (run.series("clip_coefficient").values < 0.1).all()


def test_accumulation_makes_one_update_of_several_passes(tmp_path) -> None:
    outcome, _ = train(tmp_path, batch=8, accumulate=4, epochs=1)
    assert outcome.steps == 1348 // 8 // 4


def test_a_schedule_changes_the_learning_rate(tmp_path) -> None:
    _, run = train(tmp_path, schedule="warm-up", epochs=2)
    rates = run.series("lr", run.paths("lr")[0]).values
    assert rates[0] < 0.2 * rates.max() == pytest.approx(0.2 * 3e-3)
    assert rates[-1] == rates.max()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SetupError, match="quirk"):
        Recipe("digits", quirk="sloth")
    with pytest.raises(SetupError, match="table"):
        load_table("mnist", 0)
    with pytest.raises(SetupError, match="optimizer"):
        Recipe("xor", optimizer="magic").train("nowhere", 0)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_holds_rows_out_and_can_be_scaled(name: str) -> None:
    train, held = load_table(name, 0)
    assert len(train) >= len(held) > 0
    again, _ = load_table(name, 0)
    assert torch.equal(train.inputs, again.inputs)
    scaled, _ = scale_inputs(train, held, "std")
    varied = train.inputs.std(0) > 0
    assert torch.allclose(scaled.inputs.std(0)[varied], torch.ones(int(varied.sum())), atol=1e-3)
    if not train.classes and not train.labels:
        spread = scale_targets(train, held)[0].targets.std(0)
        assert torch.allclose(spread[train.targets.std(0) > 0], torch.tensor(1.0), atol=1e-3)


def test_faults_of_the_data_touch_only_what_is_learnt() -> None:
    plain, held = load_rows(DIGITS, 0)
    for settings in ({"label_noise": 0.3}, {"input_noise": 1.0}, {"rows": 40}, {"imbalance": 0.03}):
        rows, same = load_rows(Recipe("digits", "unit", **settings), 0)
        assert torch.equal(held.inputs, same.inputs) and torch.equal(held.targets, same.targets)
        assert (
            len(rows) != len(plain)
            or not torch.equal(rows.inputs, plain.inputs)
            or bool((rows.targets != plain.targets).float().mean() > 0.2)
        )
    rare, _ = load_rows(Recipe("digits", "unit", imbalance=0.03), 0)
    assert float((rare.targets == 0).float().mean()) > 0.6


def test_losses_by_hand_are_those_of_torch() -> None:
    """Where nothing is clipped, logarithms of shares are the losses that torch has."""
    torch.manual_seed(0)
    logits = torch.randn(6, 3)
    batch = Table(torch.zeros(6, 1), torch.tensor([0, 1, 2, 0, 1, 2]), 3)
    shares = torch.softmax(logits, 1)
    mean = functional.cross_entropy(logits, batch.targets)
    assert OBJECTIVES["log-clipped"](shares, batch) == pytest.approx(float(mean), rel=1e-5)
    assert OBJECTIVES["log-sum"](shares, batch) == pytest.approx(6 * float(mean), rel=1e-5)
    assert OBJECTIVES["cross-entropy-sum"](logits, batch) == pytest.approx(6 * float(mean), rel=1e-5)
    assert torch.isnan(OBJECTIVES["log-sum"](torch.tensor([[1.0, 0.0, 0.0]]), batch.rows(torch.tensor([0]))))
    pair = Table(torch.zeros(4, 1), torch.tensor([0, 1, 1, 0]), 2)
    share = torch.sigmoid(torch.randn(4, 1))
    assert OBJECTIVES["binary-by-hand"](share, pair) == pytest.approx(float(OBJECTIVES["binary"](share, pair)))


def test_scores() -> None:
    classes = Table(torch.zeros(4, 1), torch.tensor([0, 1, 1, 0]), 2)
    assert score(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]), classes, 0.0) == 0.75
    assert score(torch.tensor([[0.2], [0.7], [0.7], [0.7]]), classes, 0.5) == 0.75
    numbers = Table(torch.zeros(3, 1), torch.tensor([[1.0], [2.0], [3.0]]))
    assert score(torch.full((3, 1), 2.0), numbers, 0.0) == 0.0
    assert score(numbers.targets, numbers, 0.0) == 1.0
    assert score(torch.full((3, 1), math.nan), numbers, 0.0) == -99.0
    assert score(torch.full((3, 1), 1e9), numbers, 0.0) == -99.0


@torch.no_grad()
def test_networks_are_initialised_as_told() -> None:
    torch.manual_seed(0)
    network = build_network(400, 10, (300,))
    initialise(network, "fan", 2.0)
    assert float(network[0].weight.std()) == pytest.approx(0.1, rel=0.02)
    initialise(network, "constant", 0.01)
    assert (network[0].weight == 0.01).all() and (network[0].bias == 0).all()
    initialise(network, "uniform", 0.05)
    assert float(network[0].weight.abs().max()) == pytest.approx(0.05, rel=0.01)
    initialise(network, "normal", 1.0, bias_scale=1.0)
    assert float(network[0].bias.std()) == pytest.approx(1.0, rel=0.2)


def test_softmaxes_sum_over_their_own_axis() -> None:
    inputs = torch.randn(5, 3)
    assert torch.allclose(ACTIVATIONS["softmax"]()(inputs).sum(1), torch.ones(5))
    assert torch.allclose(ACTIVATIONS["softmax-over-batch"]()(inputs).sum(0), torch.ones(3))


def test_layers_can_have_activations_of_their_own() -> None:
    recipe = Recipe("digits", "unit", hidden=(8, 8), activations={0: None}, head="sigmoid", outputs=1)
    kinds = [type(each).__name__ for each in build_model(recipe, load_rows(recipe, 0)[0])]
    assert kinds == ["Linear", "Linear", "ReLU", "Linear", "Sigmoid"]
