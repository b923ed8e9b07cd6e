from math import log

import numpy as np
import pytest
import torch
from tests.rules.conftest import digest_columns, parameter
from torch import Tensor, nn

import auscult
from auscult.core.audit import Audit
from auscult.core.digest import Digest, digest_run
from auscult.core.run import Module, Parameter, Segment
from auscult.rules.initialization import InitialLoss, RandomGain

MOMENTS = ("param_norm", "param_mean", "param_std", "update_mean", "update_std")


def findings(value, classes=10, reduction="mean", expected=None, batch=32):
    expected = log(classes) if classes else expected
    audit = Audit(0, "cross_entropy", value, expected, classes, reduction, (batch, classes or 1), (batch,))
    return list(InitialLoss().check(Digest((Segment(0, 0.0),), audit)))


def test_the_first_loss_of_makemore():
    """27.88 against -log(1/27) = 3.2958, as printed in the notebook."""
    (finding,) = findings(27.8817, classes=27)
    assert finding.severity == "warning" and finding.step == 0
    assert finding.evidence[0].value == pytest.approx(27.8817)
    assert finding.evidence[0].bound == pytest.approx(3.2958, abs=1e-4)


def test_a_new_head_on_frozen_layers_is_info():
    frozen = Parameter("body.weight", (8, 8), "float32", trainable=False, group=None)
    audit = Audit(0, "cross_entropy", 12.0, log(10), 10, "mean", (32, 10), (32,))
    (finding,) = InitialLoss().check(Digest((Segment(0, 0.0, (frozen,)),), audit))
    assert finding.severity == "info"


@pytest.mark.parametrize("value", [2.30, 2.5, 2.8, 0.02])
def test_default_initialisation_and_a_fine_tuned_start_are_silent(value):
    assert findings(value) == []


def test_somewhat_high_is_info():
    assert [each.severity for each in findings(3.6)] == ["info"]
    assert [each.severity for each in findings(5.7)] == ["info"]


def test_two_classes_need_half_a_nat():
    assert findings(1.1, classes=2) == []
    assert len(findings(1.5, classes=2)) == 1


def test_summed_loss_is_divided_by_the_number_of_targets():
    assert findings(2.35 * 32, reduction="sum") == []
    assert len(findings(20.0 * 32, reduction="sum")) == 1


def test_regression_is_info_at_most():
    assert findings(5.0, classes=None, expected=1.0) == []
    assert [each.severity for each in findings(29000.0, classes=None, expected=6000.0)] == []
    assert [each.severity for each in findings(90000.0, classes=None, expected=6000.0)] == ["info"]


def test_silent_without_an_expectation_or_a_number():
    assert findings(9.0, classes=None, expected=None) == []
    assert findings(float("nan")) == []


class Weighed(nn.Module):
    """Features times a gain, then a small network."""

    def __init__(self, gain: Tensor) -> None:
        super().__init__()
        self.gain = nn.Parameter(gain)
        self.net = nn.Sequential(nn.Linear(len(gain), 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs * self.gain)


class Queried(nn.Module):
    """Attention of one learned query over projected inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(64))
        self.project = nn.Linear(64, 64)
        self.output = nn.Linear(64, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.project(inputs)
        return self.output((hidden @ self.query / 8).softmax(0) @ hidden)


def random_gains(model, inputs, path, **options):
    """What I002 says of a training of three steps, and its run."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with auscult.watch(model, optimizer, path, **options) as monitor:
        for _ in range(3):
            loss = model(inputs).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    run = auscult.load(monitor.path)
    return list(RandomGain().check(digest_run(run)[1])), run


@pytest.fixture
def decibels() -> Tensor:
    torch.manual_seed(0)
    return -80 + 12 * torch.randn(64, 40)


@pytest.fixture
def features() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(64, 64)


def test_a_random_gain_on_decibels_is_named_with_the_figures_of_its_first_step(decibels, tmp_path):
    model = Weighed(torch.randn(40))
    before = model.gain.detach().double().numpy().copy()
    outputs = model.net[0](decibels * model.gain).detach().double().numpy()
    (finding,), run = random_gains(model, decibels, tmp_path / "run")
    assert (finding.severity, finding.path, finding.step, finding.phase) == ("warning", "gain", 0, "forward")
    assert [(each.metric, each.path, each.step) for each in finding.evidence] == [
        ("param_mean", "gain", 0),
        ("param_std", "gain", 0),
        ("activation_std", "net.0", 0),
    ]
    mean, std, loud = finding.evidence
    assert mean.value == pytest.approx(before.mean(), abs=2e-3)  # the first update of AdamW moves an element by its lr
    assert std.value == pytest.approx(before.std(ddof=1), abs=2e-3)
    assert loud.value == pytest.approx(outputs.std(ddof=1), rel=1e-4) and loud.value > 10 > loud.bound == 2.0
    assert auscult.diagnose(run)[0] == finding


def test_the_same_gain_is_info_on_standardised_inputs_and_where_activations_are_not_observed(decibels, tmp_path):
    gain = torch.randn(40)
    (quiet,), _ = random_gains(Weighed(gain.clone()), (decibels + 80) / 12, tmp_path / "quiet")
    (unseen,), _ = random_gains(Weighed(gain.clone()), decibels, tmp_path / "unseen", activations=False)
    for finding in (quiet, unseen):
        assert (finding.severity, finding.path, finding.step) == ("info", "gain", 0)
        assert [each.metric for each in finding.evidence] == ["param_mean", "param_std"]


def test_a_gain_in_a_module_of_its_own_is_measured_by_the_module_after_it(decibels, tmp_path):
    class Gain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.randn(40))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs * self.scale

    model = nn.Sequential(Gain(), nn.Linear(40, 32), nn.ReLU(), nn.Linear(32, 2))
    (finding,), _ = random_gains(model, decibels, tmp_path / "run")
    assert (finding.severity, finding.path, finding.evidence[-1].path) == ("warning", "0.scale", "1")


@pytest.mark.parametrize(
    "gain",
    [torch.ones(40), torch.linspace(-1, 1, 40), 1 + 0.02 * torch.linspace(-1, 1, 40)],
    ids=["ones", "uniform", "near one"],
)
def test_other_beginnings_are_silent_however_loud_the_inputs(gain, decibels, tmp_path):
    found, run = random_gains(Weighed(gain.clone()), decibels, tmp_path / "run")
    assert found == []
    assert run.series("activation_std", "net.0").values[0] > 2


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(64, 64), nn.PReLU(), nn.Linear(64, 2)),
        lambda: nn.Sequential(nn.Linear(64, 64), nn.PReLU(64), nn.Linear(64, 2)),
        lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(64, 64)), nn.Tanh(), nn.Linear(64, 2)),
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(64, 64)), nn.Tanh(), nn.Linear(64, 2)),
        lambda: nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.BatchNorm1d(64), nn.Linear(64, 2)),
        lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)),
    ],
    ids=["prelu", "prelu per channel", "weight_norm", "weight_norm parametrized", "norms", "biases"],
)
def test_default_initialisations_are_silent(make, features, tmp_path):
    assert random_gains(make(), features, tmp_path / "run")[0] == []


def test_rows_of_an_embedding_are_silent(tmp_path):
    """One row: N(0, 1) and 64 elements, but two dimensions."""
    model = nn.Sequential(nn.Embedding(1, 64), nn.Linear(64, 2))
    assert random_gains(model, torch.zeros(8, dtype=torch.long), tmp_path / "run")[0] == []


def test_a_learned_query_of_one_dimension_is_info(features, tmp_path):
    (finding,), _ = random_gains(Queried(), features, tmp_path / "run")
    assert (finding.severity, finding.path) == ("info", "query")


def test_where_matrices_began_as_n01_too_they_are_what_is_loud(features, tmp_path):
    """Linear outputs of standard deviation 8 on unit inputs are what ||W|| / sqrt(outputs) = sqrt(64) gives."""
    model = nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
    )
    for each in model.parameters():
        nn.init.normal_(each)
    (finding,), run = random_gains(model, features, tmp_path / "run")
    assert finding.severity == "info"
    assert finding.summary.startswith("0.bias, 2.weight, 2.bias and 3.bias began")
    assert min(run.series("activation_std", path).values[0] for path in ("0", "1", "3", "4")) > 4


def loud_run(training, mean=0.0, std=1.0, elements=128, first_activation=6.0):
    """The healthy training with a gain before its first layer."""
    rows, layers = training.rows, [Module(f"layers.{layer}", "Linear", True) for layer in range(4)]
    training.parameters = (parameter("gain", elements), *training.parameters)
    training.modules = (Module("", "Model", False), *layers)
    for metric, value in zip(MOMENTS, (elements**0.5, mean, std, 0.0, 1e-3)):
        training.columns[metric, "gain"] = np.full(rows, value)
    for each in layers:
        training.columns["activation_std", each.path] = np.full(rows, 1.0)
    training.columns["activation_std", "layers.0"][0] = first_activation
    return training


def severities(training, until=None):
    return [(each.severity, each.path) for each in RandomGain().check(training.digest(until))]


def test_critical_once_the_run_has_broken_and_at_the_same_step(training):
    loud_run(training).column("param_norm", "layers.0.weight")[200:] = np.nan
    assert severities(training, 128) == [("warning", "gain")]
    (finding,) = RandomGain().check(training.digest())
    assert (finding.severity, finding.step) == ("critical", 0) and "broken" in finding.summary


def test_what_became_loud_later_is_info(training):
    loud_run(training, first_activation=1.0).column("activation_std", "layers.0")[64:] = 50.0
    assert severities(training) == [("info", "gain")]


@pytest.mark.parametrize(
    ("mean", "std", "elements"),
    [(0.3, 1.0, 128), (1.0, 1.0, 128), (0.0, 0.577, 128), (0.0, 0.65, 32), (0.0, 1.3, 128), (0.0, 1.0, 31)],
)
def test_moments_that_n01_does_not_give_are_silent(mean, std, elements, training):
    assert severities(loud_run(training, mean, std, elements)) == []


def test_several_vectors_are_one_info(training):
    loud_run(training, first_activation=1.0)
    training.parameters = (parameter("other", 64), *training.parameters)
    for metric in MOMENTS:
        training.columns[metric, "other"] = training.column(metric, "gain")
    (finding,) = RandomGain().check(training.digest())
    assert finding.path == "" and finding.summary.startswith("other and gain began")


@pytest.mark.parametrize("elements", [32, 40, 128, 1024])
def test_nearly_every_draw_is_recognised_and_no_uniform_one(elements, training):
    """3 standard errors on either side of two moments: 99 % of draws, and -1 to 1 has 1 / sqrt(3)."""
    noise = np.random.default_rng(elements)
    draws = {f"normal_{number}": noise.standard_normal(elements) for number in range(400)}
    draws |= {f"uniform_{number}": noise.uniform(-1, 1, elements) for number in range(400)}
    loud_run(training)
    columns = {key: column[:1] for key, column in training.columns.items()}
    for path, draw in draws.items():
        columns |= {(metric, path): columns[metric, "gain"] for metric in MOMENTS}
        columns["param_mean", path], columns["param_std", path] = draw.mean(keepdims=True), np.array([draw.std(ddof=1)])
    parameters = tuple(parameter(path, elements) for path in draws)
    digest = digest_columns(columns, parameters, training.modules)
    named = [each.path.partition("_")[0] for each in RandomGain().check(digest)]
    assert named.count("normal") >= 0.97 * 400
    assert named.count("uniform") <= 0.01 * 400


def test_a_loud_start_that_is_over_is_info(training):
    training.audit = Audit(0, "cross_entropy", 12.0, log(10), 10, "mean", (32, 10), (32,))
    (finding,) = InitialLoss().check(training.digest(128))
    assert (finding.severity, finding.status) == ("warning", "active")
    training.column("loss")[128:] = 0.2
    (finding,) = InitialLoss().check(training.digest())
    assert (finding.severity, finding.status) == ("info", "recovered")
