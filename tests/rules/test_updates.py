from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import auscult
from auscult.core.run import Module
from auscult.rules.updates import ParameterInNoOptimizer, ParametersNotUpdated


def freeze(training, *paths, start=0):
    for path in paths:
        training.column("update_norm", path)[start:] = 0.0


def in_vain(training):
    """The first two layers are held by an optimizer of their own, which is stepped though no gradient ever comes."""
    for each in training.parameters:
        if each.path < "layers.2":
            training.regroup(**{each.path.replace(".", "__"): "maker.0"})
            del training.columns["grad_norm", each.path]
            freeze(training, each.path)
    training.columns["lr", "maker.0"] = np.full(training.rows, 1e-2)


class TestParametersNotUpdated:
    def test_silent_on_healthy(self, training):
        assert not list(ParametersNotUpdated().check(training.digest()))

    def test_one_matrix_is_a_warning_after_eight_rows(self, training):
        freeze(training, "layers.1.weight")
        assert not list(ParametersNotUpdated().check(training.digest(7)))
        for rows in (8, 320):
            (finding,) = ParametersNotUpdated().check(training.digest(rows))
            assert (finding.path, finding.severity, finding.step) == ("layers.1.weight", "warning", 0)
        gradient = training.column("grad_norm", "layers.1.weight")[0]
        assert finding.evidence[1].value == pytest.approx(gradient, rel=1e-6)

    def test_everything_is_one_critical_finding(self, training):
        freeze(training, *(each.path for each in training.parameters))
        (finding,) = ParametersNotUpdated().check(training.digest())
        assert (finding.path, finding.severity) == ("layers", "critical")

    def test_a_learning_rate_of_zero_explains_it(self, training):
        freeze(training, "layers.1.weight")
        training.columns["lr", "main"][:] = 0.0
        assert not list(ParametersNotUpdated().check(training.digest()))

    def test_a_warm_up_from_zero_is_silent_until_it_has_begun(self, training):
        training.columns["lr", "main"][:12] = 0.0
        for each in training.parameters:
            training.column("update_norm", each.path)[:12] = 0.0
        for rows in (8, 12, 13, 30, 320):
            assert not list(ParametersNotUpdated().check(training.digest(rows)))

    def test_a_warm_up_from_zero_recorded_every_eighth_step_is_silent(self, training):
        """64 rows of zeros, then 8 steps of lr without a row of norms: nothing is known yet."""
        training.columns["lr", "main"][:512] = 0.0
        lr = np.where(np.arange(640) < 512, 0.0, 1e-2)
        for key, column in list(training.columns.items()):
            if key[0] != "lr":
                spread = np.ma.array(np.zeros(640), mask=True)
                spread[::8] = np.where((np.arange(80) < 64) & (key[0] == "update_norm"), 0.0, column[:80])
                training.columns[key] = spread
        training.columns["lr", "main"] = lr
        for rows in (512, 520, 521, 640):
            assert not list(ParametersNotUpdated().check(training.digest(rows)))

    def test_zero_gradient_is_another_rule(self, training):
        freeze(training, "layers.1.weight")
        training.column("grad_norm", "layers.1.weight")[:] = 0.0
        assert not list(ParametersNotUpdated().check(training.digest()))

    def test_a_normalisation_weight_that_rounding_holds_is_info(self, training):
        freeze(training, "layers.1.bias")
        training.column("grad_norm", "layers.1.bias")[:] = 1e-6
        assert [each.severity for each in ParametersNotUpdated().check(training.digest())] == ["info"]

    def test_frozen_after_a_while_is_silent(self, training):
        freeze(training, "layers.1.weight", start=100)
        assert not list(ParametersNotUpdated().check(training.digest()))

    def test_no_gradient_at_all_is_one_info(self, training):
        for path in ("layers.1.weight", "layers.1.bias"):
            del training.columns["grad_norm", path]
            freeze(training, path)
        (finding,) = ParametersNotUpdated().check(training.digest())
        assert finding.severity == "info" and "layers.1.weight and layers.1.bias" in finding.summary

    def test_layers_in_front_that_are_cut_off_from_the_loss(self, training):
        """What detach() does, against an unused head, which comes last, and a run that learns."""
        training.modules = (
            Module("", "Net", False),
            *(Module(f"layers.{layer}", "M", True, "affine") for layer in range(4)),
        )
        for layer in range(4):
            training.sample("activation_std", 1.0, f"layers.{layer}")
        for path in ("layers.0.weight", "layers.0.bias"):
            del training.columns["grad_norm", path]
            freeze(training, path)
        training.sample_losses()
        assert [each.severity for each in ParametersNotUpdated().check(training.digest())] == ["info"]
        training.column("loss")[:] = 2.0
        training.sample_losses()
        (finding,) = ParametersNotUpdated().check(training.digest())
        assert (finding.severity, finding.path, finding.step) == ("warning", "layers.0", 0)
        training.modules = (*training.modules[:1], *training.modules[:0:-1])
        assert [each.severity for each in ParametersNotUpdated().check(training.digest())] == ["info"]

    def test_an_optimizer_that_is_stepped_in_vain(self, training):
        in_vain(training)
        assert not list(ParametersNotUpdated().check(training.digest(7)))
        severities = {}
        for rows in (8, 64, 127, 128, 320):
            (finding,) = ParametersNotUpdated().check(training.digest(rows))
            severities[rows] = finding.severity
            assert (finding.path, finding.step, finding.phase) == ("layers", 0, "backward")
        assert severities == {8: "info", 64: "info", 127: "info", 128: "warning", 320: "warning"}
        update, lr = finding.evidence
        assert (update.metric, update.path, update.value) == ("update_norm", "layers.0.weight", 0.0)
        assert (lr.metric, lr.path, lr.value) == ("lr", "maker.0", pytest.approx(1e-2))
        assert finding.summary.startswith("Optimizer maker made updates, but layers.0.weight")

    def test_only_one_optimizer_and_all_of_it_in_vain_is_critical_at_once(self, training):
        for each in training.parameters:
            del training.columns["grad_norm", each.path]
            freeze(training, each.path)
        (finding,) = ParametersNotUpdated().check(training.digest(8))
        assert finding.severity == "critical" and "The optimizer made updates" in finding.summary

    @pytest.mark.parametrize("change", ["waits", "unused head", "moves", "began late", "frozen"])
    def test_an_optimizer_that_waits_or_has_something_to_do_is_no_alarm(self, training, change):
        in_vain(training)
        paths = [each.path for each in training.parameters if each.group == "maker.0"]
        if change == "waits":
            for each in paths:
                training.columns["update_norm", each] = np.ma.masked_all(training.rows)
        elif change == "unused head":
            training.regroup(layers__2__weight="maker.0")
        elif change == "moves":
            training.column("update_norm", paths[0])[200:] = 1e-3
        elif change == "began late":
            training.columns["grad_norm", paths[0]] = np.ma.masked_less(np.arange(training.rows) / 200, 1)
            training.column("update_norm", paths[0])[200:] = 1e-3
        else:
            training.parameters = tuple(replace(each, trainable=each.path not in paths) for each in training.parameters)
        findings = list(ParametersNotUpdated().check(training.digest()))
        assert [each.severity for each in findings] == ([] if change == "frozen" else ["info"])
        assert not any("made updates" in each.summary for each in findings)

    def test_frozen_parameters_are_silent(self, training):
        freeze(training, "layers.0.weight")
        training.parameters = tuple(
            replace(each, trainable=False) if each.path == "layers.0.weight" else each for each in training.parameters
        )
        assert not list(ParametersNotUpdated().check(training.digest()))


def play(path, game: str) -> list[str]:
    """Train two networks against each other for 180 steps; returns the severities of U003 as they were told."""
    torch.manual_seed(0)
    maker, critic = (nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, width)) for width in (4, 1))
    by_maker, by_critic = (torch.optim.Adam(each.parameters(), 1e-3) for each in (maker, critic))
    heard = []
    monitor = auscult.watch(
        nn.ModuleDict({"maker": maker, "critic": critic}),
        {"maker": by_maker, "critic": by_critic},
        path,
        every=1,
        on_finding=lambda each: heard.append(each.severity) if each.code == "U003" else None,
    )
    for step in range(180):
        with torch.no_grad():
            made = maker(torch.randn(16, 4))
        loss = functional.softplus(-critic(torch.randn(16, 4) + 3)).mean() + functional.softplus(critic(made)).mean()
        by_critic.zero_grad()
        loss.backward()
        by_critic.step()
        if game != "the maker waits" or step >= 150:
            made = maker(torch.randn(16, 4))
            loss = functional.softplus(-critic(made.detach() if game == "detached" else made)).mean()
            by_maker.zero_grad()
            loss.backward()
            by_maker.step()
    monitor.close()
    return heard


@pytest.mark.parametrize(
    ("game", "told", "found"),
    [
        ("sound", [], {8: [], 179: []}),
        ("detached", ["info", "warning"], {6: [], 7: ["info"], 126: ["info"], 127: ["warning"], 179: ["warning"]}),
        ("the maker waits", ["info"], {7: ["info"], 149: ["info"], 160: []}),
    ],
)
def test_of_two_networks_one_may_be_cut_off_from_its_loss(game, told, found, tmp_path):
    assert play(tmp_path / "run", game) == told
    run = auscult.load(tmp_path / "run")
    for step, severities in found.items():
        findings = [each for each in auscult.diagnose(run.until(step)) if each.code == "U003"]
        assert [each.severity for each in findings] == severities, step
        if game == "detached" and findings:
            assert (findings[0].path, findings[0].step) == ("maker", 0)
            assert findings[0].evidence[0].path == "maker.0.weight"


class TestParameterInNoOptimizer:
    def test_silent_on_healthy(self, training):
        assert not list(ParameterInNoOptimizer().check(training.digest()))

    def test_a_replaced_head(self, training):
        training.regroup(layers__3__weight=None, layers__3__bias=None)
        freeze(training, "layers.3.weight", "layers.3.bias")
        (finding,) = ParameterInNoOptimizer().check(training.digest())
        assert (finding.path, finding.severity, finding.step) == ("layers.3", "warning", 0)

    def test_a_forgotten_first_layer_is_a_warning_too(self, training):
        training.regroup(layers__0__weight=None, layers__0__bias=None)
        freeze(training, "layers.0.weight", "layers.0.bias")
        assert {each.severity for each in ParameterInNoOptimizer().check(training.digest())} == {"warning"}

    def test_an_optimizer_of_another_model_is_critical(self, training):
        training.parameters = tuple(replace(each, group=None) for each in training.parameters)
        freeze(training, *(each.path for each in training.parameters))
        (finding,) = ParameterInNoOptimizer().check(training.digest(8))
        assert (finding.path, finding.severity, finding.step) == ("layers", "critical", 0)

    def test_a_head_on_a_backbone_that_was_not_frozen_is_info(self, training):
        backbone = [each.path for each in training.parameters[:-2]]
        training.regroup(**{path.replace(".", "__"): None for path in backbone})
        freeze(training, *backbone)
        (finding,) = ParameterInNoOptimizer().check(training.digest())
        assert finding.severity == "info" and "6 of 8" in finding.summary

    def test_what_moves_is_held_by_another_optimizer(self, training):
        training.regroup(layers__3__weight=None)
        assert not list(ParameterInNoOptimizer().check(training.digest()))
