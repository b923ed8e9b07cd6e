"""What is seen of batch, loss call and mode in whole trainings: against what the scripts themselves know."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import auscult
from auscult.core.anatomy import Anatomy
from auscult.core.run import Run
from auscult.monitor.witness import METRICS

STEPS = 6


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))


def values(run: Run, metric: str) -> dict[int, float]:
    series = run.series(metric)
    return dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))


class Script:
    """A training that can be changed in one place."""

    def __init__(self, model: nn.Module | None = None) -> None:
        self.model = network() if model is None else model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.losses: list[float] = []

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        return torch.randn(10, 6), torch.randint(3, (10,))

    def loss(self, step: int) -> Tensor:
        inputs, targets = self.batch(step)
        return functional.cross_entropy(self.model(inputs), targets)

    def before(self, step: int) -> None:
        """Before the forward pass."""

    def backward(self, step: int) -> None:
        self.optimizer.zero_grad()
        loss = self.loss(step)
        loss.backward()
        self.losses.append(float(loss.detach().mean()))

    def update(self, step: int) -> None:
        self.optimizer.step()

    def run(self, path: Path | None, **options: object) -> list[Tensor]:
        """All bits of it: parameters, gradients, random states."""
        torch.manual_seed(1)
        chosen = {"every": (1, 1), **options}
        monitor = None if path is None else auscult.watch(self.model, self.optimizer, path, **chosen)
        for step in range(STEPS):
            self.before(step)
            self.backward(step)
            self.update(step)
        if monitor is not None:
            monitor.close()
            assert monitor.failures == []
        assert torch.overrides._get_current_function_mode_stack() == []
        found = [*self.model.state_dict().values(), *(each.grad for each in self.model.parameters())]
        return [*(each.clone() for each in found), torch.get_rng_state(), torch.tensor(self.losses)]


def seen(script: Callable[[], Script], tmp_path: Path, **options: object) -> tuple[Run, Script]:
    """The run of a script, which is the same to the bit without the monitor."""
    bare, watched = script(), script()
    pairs = zip(bare.run(None), watched.run(tmp_path / "run", **options), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    return auscult.load(tmp_path / "run"), watched


def test_an_ordinary_training(tmp_path) -> None:
    run, script = seen(Script, tmp_path)
    assert list(values(run, "observed_loss").values()) == pytest.approx(script.losses)
    assert set(values(run, "loss_gradient").values()) == {1.0}
    for metric in ("evaluation_mode", "training_evaluations", "repeated_batch"):
        assert list(values(run, metric).values()) == [0.0] * STEPS
    assert values(run, "carried_gradient") == dict.fromkeys(range(1, STEPS), 0.0)
    assert not run.series("batch_r2").observed and not run.series("target_mean").observed
    assert run.audit is not None and run.audit.value == pytest.approx(script.losses[0])
    assert run.audit.prediction is not None and run.audit.whole_targets is True


def test_the_next_token_of_a_source_and_a_target_is_not_told(tmp_path) -> None:
    """A denoising autoencoder reads all of what its decoder has yet to say; two inputs hold the next tokens."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 6), nn.Linear(6, 9)

        def forward(self, source: Tensor, target: Tensor) -> Tensor:
            return self.head(self.embed(target) + self.embed(source).mean(1, keepdim=True))

    class Denoising(Script):
        def loss(self, step: int) -> Tensor:
            tokens = torch.randint(1, 9, (4, 12))
            other = tokens[:, :-1] if self.same else torch.ones(4, 11, dtype=torch.long)
            return functional.cross_entropy(self.model(tokens[:, :-1], other).mT, tokens[:, 1:])

    for same, told in ((True, None), (False, 1.0)):
        script = Denoising(Reader())
        script.same = same
        script.run(tmp_path / str(same))
        anatomy = auscult.load(tmp_path / str(same)).anatomy
        assert anatomy is not None and anatomy.next_token == told


PAD, HIDDEN = 0, 1
TEXT = torch.randint(2, 30, (8, 41), generator=torch.Generator().manual_seed(0))
DRAWN = torch.rand(8, 41, generator=torch.Generator().manual_seed(1)) < 0.3
SOME = torch.where(DRAWN, TEXT, -100)  # what a masked language model is asked for
MASKED = torch.where(DRAWN, HIDDEN, TEXT)
PADDED = torch.where(torch.arange(41) < 30, TEXT, PAD)


class Reader(nn.Module):
    """Scores of 30 tokens at every position; with labels, also the loss, with and without a shift of its own."""

    def __init__(self, shift: bool = False, ignored: int = -100) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(30, 6), nn.Linear(6, 30)
        self.shift, self.ignored = shift, ignored

    def forward(
        self, labels: Tensor | None = None, ids: Tensor | None = None, source: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        assert ids is not None
        scores = self.head(self.embed(ids.long()) + (0 if source is None else self.embed(source).mean(1, keepdim=True)))
        if labels is None:
            return scores
        if self.shift:
            labels = functional.pad(labels, (0, 1), value=self.ignored)[:, 1:]
        loss = functional.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=self.ignored)
        return {"loss": loss, "logits": scores}


SAME_TOKEN = {
    "not shifted": (Reader(), {"ids": TEXT}, TEXT, True),
    "not shifted, padded": (Reader(), {"ids": PADDED}, torch.where(PADDED == PAD, -100, PADDED), True),
    "not shifted, of a decoder": (Reader(), {"source": TEXT.roll(5, 0), "ids": TEXT}, TEXT, True),
    "not shifted, inside": (Reader(), {"ids": TEXT, "labels": TEXT}, None, True),
    "not shifted, inside, labels first": (Reader(), {"labels": TEXT.clone(), "ids": TEXT}, None, True),
    "not shifted, of 16 bits": (Reader(), {"ids": TEXT.to(torch.uint16)}, TEXT, True),
    "not shifted, of 8 bits": (Reader(), {"ids": TEXT.to(torch.uint8)}, TEXT, True),
    "a mask of yes and no": (Reader(), {"ids": TEXT > 15}, (TEXT > 15).long(), False),
    "shifted": (Reader(), {"ids": TEXT[:, :-1]}, TEXT[:, 1:], False),
    "shifted after": (Reader(), {"ids": TEXT}, functional.pad(TEXT[:, 1:], (0, 1), value=-100), False),
    "shifted inside": (Reader(shift=True), {"ids": TEXT, "labels": TEXT}, None, False),
    "shifted inside, padded": (
        Reader(shift=True, ignored=PAD), {"ids": PADDED, "labels": PADDED}, None, False
    ),
    "masked": (Reader(), {"ids": MASKED}, SOME, False),
    "masked, inside": (Reader(), {"ids": MASKED, "labels": SOME}, None, False),
    "masked, inside, labels first": (Reader(), {"labels": SOME, "ids": MASKED}, None, False),
    "masked, inside, padding ignored": (
        Reader(ignored=PAD), {"labels": torch.where(DRAWN, TEXT, PAD), "ids": MASKED}, None, False
    ),
    "hidden here and there, all asked for": (Reader(), {"ids": MASKED}, TEXT, False),
    "a decoder that is taught": (Reader(), {"source": TEXT, "ids": TEXT.roll(1, 1)}, TEXT, False),
    "always the same": (Reader(), {"ids": torch.full((8, 41), 3)}, torch.full((8, 41), 3), False),
    "very few": (Reader(), {"ids": TEXT[:1, :13]}, TEXT[:1, :13], False),
    "one category and a class of each row": (Reader(), {"ids": TEXT.reshape(-1, 1)}, TEXT.reshape(-1, 1), False),
    "categories and a class of each row": (Reader(), {"ids": TEXT}, TEXT[:, 0], False),
}  # fmt: skip
"""What is called with what, the targets where the loss is outside of it, and whether they are the input."""


@pytest.mark.parametrize("case", SAME_TOKEN)
def test_targets_that_are_the_input(case: str, tmp_path) -> None:
    model, given, targets, told = SAME_TOKEN[case]

    class Reading(Script):
        def loss(self, step: int) -> Tensor:
            output = self.model(**given)
            if targets is None:
                return output["loss"]
            return functional.cross_entropy(output.mT if targets.ndim == 2 else output[:, 0], targets)

    run, _ = seen(lambda: Reading(deepcopy(model)), tmp_path)
    assert run.anatomy is not None
    assert (run.anatomy.same_token == 1) is told
    assert [(each.code, each.step) for each in auscult.diagnose(run) if each.code == "H007"] == [("H007", 0)] * told


@pytest.mark.parametrize("classes", [None, 8], ids=["numbers", "pixels"])
def test_an_autoencoder_may_have_its_input_as_target(classes: int | None, tmp_path) -> None:
    pixels = torch.randint(0, 8, (16, 20), generator=torch.Generator().manual_seed(0))

    class Autoencoder(Script):
        def __init__(self) -> None:
            torch.manual_seed(0)
            super().__init__(nn.Linear(20, 20 * (classes or 1)))

        def loss(self, step: int) -> Tensor:
            output = self.model(pixels.float())
            if classes is None:
                return functional.mse_loss(output, pixels.float())
            return functional.cross_entropy(output.unflatten(1, (classes, 20)), pixels)

    run, _ = seen(Autoencoder, tmp_path)
    assert run.anatomy is not None and run.anatomy.same_token is None
    assert not any(each.code == "H007" for each in auscult.diagnose(run))


def test_the_figures_are_those_of_the_batch(tmp_path) -> None:
    class Regression(Script):
        def loss(self, step: int) -> Tensor:
            inputs, targets = torch.randn(10, 6) * 2 + step, torch.randn(10, 3) + 30
            output = self.model(inputs)
            truth["input_mean"].append(inputs.double().mean())
            truth["input_std"].append(inputs.double().std())
            truth["input_largest"].append(inputs.abs().max())
            truth["output_spread"].append(output.detach().double().var(0).mean().sqrt())
            truth["target_mean"].append(targets.double().mean())
            truth["uninformed_loss"].append(targets.double().var(correction=0))
            return functional.mse_loss(output, targets)

    truth: dict[str, list[Tensor]] = {
        name: []
        for name in ("input_mean", "input_std", "input_largest", "output_spread", "target_mean", "uninformed_loss")
    }
    run, _ = seen(Regression, tmp_path)
    for metric, expected in truth.items():
        found = values(run, metric)
        assert [found[step] for step in range(STEPS)] == pytest.approx([float(each) for each in expected[STEPS:]], 1e-5)


def test_only_sampled_steps_are_looked_at(tmp_path, monkeypatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr(
        "auscult.metrics.losses.LossTap.__enter__",
        lambda self, whole=torch.overrides.TorchFunctionMode.__enter__: (begun.append(1), whole(self))[1],
    )
    run, _ = seen(Script, tmp_path, every=(1, 4))
    assert [list(values(run, metric)) for metric in METRICS if run.series(metric).observed] == [
        [4] if metric == "carried_gradient" else [0, 4] for metric in METRICS if run.series(metric).observed
    ]
    assert len(begun) == 2


def test_the_anatomy_comes_back_from_the_file(tmp_path) -> None:
    class Softmax(Script):
        def __init__(self) -> None:
            super().__init__(nn.Sequential(network(), nn.Softmax(0)))

        def batch(self, step: int) -> tuple[Tensor, Tensor]:
            inputs = torch.zeros(10, 6)
            inputs[:, 0], inputs[:, 1] = torch.linspace(-1, 1, 10), torch.linspace(900, 1100, 10)
            return inputs, torch.arange(10) % 3

    run, _ = seen(Softmax, tmp_path)
    anatomy = run.anatomy
    assert isinstance(anatomy, Anatomy)
    assert (anatomy.step, anatomy.input_shape, anatomy.input_dtype) == (0, (10, 6), "float32")
    assert anatomy.input is not None and (anatomy.input.minimum, anatomy.input.maximum) == (-1.0, 1100.0)
    deviation = float(torch.linspace(900, 1100, 10).double().std(correction=0))
    assert anatomy.feature_scale == pytest.approx(100) and anatomy.feature_offset == pytest.approx(1000 / deviation)
    assert (anatomy.output_shape, anatomy.output_rows_sum_to_one) == ((10, 3), 0.0)
    assert anatomy.output_columns_sum_to_one == 1.0 and anatomy.output is not None and anatomy.output.minimum >= 0
    assert anatomy.output_spread == pytest.approx(values(run, "output_spread")[0])
    assert len([event for event in run.events if event["kind"] == "anatomy"]) == 1
    assert run.audit is not None and run.audit.columns_sum_to_one == 1.0


def test_gradients_that_nobody_zeroes(tmp_path) -> None:
    class Forgotten(Script):
        def backward(self, step: int) -> None:
            self.loss(step).backward()

    run, _ = seen(Forgotten, tmp_path)
    assert values(run, "carried_gradient") == dict.fromkeys(range(1, STEPS), 1.0)


@pytest.mark.parametrize("scaled", [False, True])
def test_accumulation(scaled: bool, tmp_path) -> None:
    class Accumulated(Script):
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)

        def backward(self, step: int) -> None:
            for _ in range(4):
                loss = self.loss(step) / 4
                self.scaler.scale(loss).backward()

        def update(self, step: int) -> None:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=False)

    run, _ = seen(Accumulated, tmp_path)
    assert set(values(run, "loss_gradient").values()) == {0.25}
    assert values(run, "carried_gradient") == dict.fromkeys(range(1, STEPS), 0.0)


def test_a_loss_that_is_climbed_and_one_that_is_not_reduced(tmp_path) -> None:
    class Climbing(Script):
        def loss(self, step: int) -> Tensor:
            inputs, targets = self.batch(step)
            return -functional.cross_entropy(self.model(inputs), targets, reduction="none").mean()

    run, _ = seen(Climbing, tmp_path)
    assert list(values(run, "loss_gradient").values()) == pytest.approx([-1.0] * STEPS)


def test_a_loss_inside_of_the_model(tmp_path) -> None:
    class Whole(nn.Module):
        """As models of transformers are: the loss is part of the output, and the inputs come by name."""

        def __init__(self) -> None:
            super().__init__()
            self.body = network()

        def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.body(inputs)
            return {"loss": functional.cross_entropy(logits, labels), "logits": logits}

    class Inside(Script):
        def __init__(self) -> None:
            super().__init__(Whole())

        def loss(self, step: int) -> Tensor:
            inputs, targets = self.batch(step)
            return self.model(inputs=inputs, labels=targets)["loss"]

    run, script = seen(Inside, tmp_path)
    assert list(values(run, "observed_loss").values()) == pytest.approx(script.losses)
    assert run.anatomy is not None and run.anatomy.output_shape == (10, 3) and run.anatomy.input_shape == (10, 6)


def test_a_loss_of_the_users_own(tmp_path) -> None:
    class Own(Script):
        def loss(self, step: int) -> Tensor:
            inputs, targets = self.batch(step)
            return (self.model(inputs).sum(1) - targets).abs().pow(1.5).mean()

    run, _ = seen(Own, tmp_path)
    assert not run.series("observed_loss").observed and run.audit is None
    assert len(values(run, "output_spread")) == STEPS and run.anatomy is not None


def test_probabilities(tmp_path) -> None:
    class Binary(Script):
        def __init__(self) -> None:
            super().__init__(nn.Sequential(network(), nn.Linear(3, 1), nn.Sigmoid()))

        def loss(self, step: int) -> Tensor:
            inputs, targets = self.batch(step)
            return functional.binary_cross_entropy(self.model(inputs)[:, 0], (targets > 0).float())

    run, _ = seen(Binary, tmp_path)
    assert len(values(run, "batch_accuracy")) == len(values(run, "largest_class")) == STEPS


def evaluation(model: nn.Module, *, without_gradient: bool, mode: bool) -> None:
    model.train(mode)
    with torch.set_grad_enabled(not without_gradient):
        functional.cross_entropy(model(torch.randn(4, 6)), torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("without_gradient", [True, False])
def test_evaluations_between_steps_are_none_of_it(without_gradient: bool, tmp_path) -> None:
    class Evaluated(Script):
        def before(self, step: int) -> None:
            evaluation(self.model, without_gradient=without_gradient, mode=False)
            self.model.train()

    run, script = seen(Evaluated, tmp_path)
    assert list(values(run, "observed_loss").values()) == pytest.approx(script.losses)
    assert list(values(run, "evaluation_mode").values()) == [0.0] * STEPS
    assert list(values(run, "training_evaluations").values()) == [0.0] * STEPS
    assert run.anatomy is not None and run.anatomy.input_shape == (10, 6)


@pytest.mark.parametrize("without_gradient", [True, False])
def test_training_goes_on_in_evaluation_mode(without_gradient: bool, tmp_path) -> None:
    class Switched(Script):
        def before(self, step: int) -> None:
            if step == 2:
                evaluation(self.model, without_gradient=without_gradient, mode=False)

    run, script = seen(Switched, tmp_path)
    assert list(values(run, "evaluation_mode").values()) == [0.0, 0.0] + [1.0] * (STEPS - 2)
    assert list(values(run, "observed_loss").values()) == pytest.approx(script.losses)


def test_frozen_statistics_are_a_share(tmp_path) -> None:
    class Frozen(Script):
        def before(self, step: int) -> None:
            self.model[1].eval()

    run, _ = seen(Frozen, tmp_path)
    assert list(values(run, "evaluation_mode").values()) == [0.5] * STEPS


def test_a_backward_pass_in_evaluation_mode_that_no_update_follows(tmp_path) -> None:
    class Adversarial(Script):
        def before(self, step: int) -> None:
            self.model.eval()
            functional.cross_entropy(self.model(torch.randn(4, 6)), torch.zeros(4, dtype=torch.long)).backward()
            self.model.train()

    run, script = seen(Adversarial, tmp_path)
    assert list(values(run, "evaluation_mode").values()) == [0.0] * STEPS
    assert list(values(run, "observed_loss").values()) == pytest.approx(script.losses)


def test_parts_called_one_by_one_beside_an_evaluation_of_the_whole(tmp_path) -> None:
    class Parts(Script):
        def before(self, step: int) -> None:
            evaluation(self.model, without_gradient=False, mode=False)
            self.model.train()

        def loss(self, step: int) -> Tensor:
            inputs, targets = self.batch(step)
            return functional.cross_entropy(self.model[2:](self.model[1](self.model[0](inputs))), targets)

    run, _ = seen(Parts, tmp_path)
    assert not run.series("evaluation_mode").observed and not run.series("observed_loss").observed


def test_evaluations_in_training_mode_are_counted(tmp_path) -> None:
    class Forgotten(Script):
        def before(self, step: int) -> None:
            if step in (2, 3):
                for _ in range(step):
                    evaluation(self.model, without_gradient=True, mode=True)

    run, _ = seen(Forgotten, tmp_path, every=(1, 2))
    assert values(run, "training_evaluations") == {0: 0.0, 2: 2.0, 4: 3.0}


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_model_does_not_evaluate(reentrant: bool, tmp_path) -> None:
    class Checkpointed(Script):
        def loss(self, step: int) -> Tensor:
            inputs, targets = self.batch(step)
            output = checkpoint(self.model, inputs.requires_grad_(), use_reentrant=reentrant)
            return functional.cross_entropy(output, targets)

    run, _ = seen(Checkpointed, tmp_path)
    assert list(values(run, "training_evaluations").values()) == [0.0] * STEPS


def test_batches_that_come_again(tmp_path) -> None:
    class Repeated(Script):
        def batch(self, step: int) -> tuple[Tensor, Tensor]:
            return torch.randn(10, 6, generator=torch.Generator().manual_seed(step % 4)), torch.randint(3, (10,))

    run, _ = seen(Repeated, tmp_path)
    assert list(values(run, "repeated_batch").values()) == [0.0] * 4 + [1.0] * (STEPS - 4)


def test_optimizers_that_call_back_and_inside_the_backward_pass(tmp_path) -> None:
    class Closure(Script):
        def __init__(self) -> None:
            super().__init__()
            self.optimizer = torch.optim.LBFGS(self.model.parameters(), lr=0.1, max_iter=3)

        def backward(self, step: int) -> None:
            """The optimizer asks for it."""

        def update(self, step: int) -> None:
            def closure() -> float:
                self.optimizer.zero_grad()
                loss = functional.cross_entropy(self.model(inputs), targets)
                loss.backward()
                return float(loss.detach())

            inputs, targets = self.batch(step)
            self.optimizer.step(closure)

    run, _ = seen(Closure, tmp_path)
    assert set(values(run, "carried_gradient").values()) == {0.0} and set(values(run, "loss_gradient").values()) == {1}

    class Within(Script):
        def __init__(self) -> None:
            torch.manual_seed(0)
            super().__init__(nn.Linear(6, 3))
            self.optimizer = torch.optim.SGD([self.model.weight, self.model.bias], lr=0.1)
            self.left = 2
            for each in self.model.parameters():
                each.register_post_accumulate_grad_hook(self.arrived)

        def arrived(self, parameter: Tensor) -> None:
            self.left -= 1
            if not self.left:
                self.left = 2
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=False)

        def backward(self, step: int) -> None:
            self.loss(step).backward()

        def update(self, step: int) -> None:
            """It has been made."""

    run, _ = seen(Within, tmp_path / "within")
    assert set(values(run, "carried_gradient").values()) <= {0.0} and len(values(run, "observed_loss")) == STEPS


@pytest.mark.provokes_failure
@pytest.mark.filterwarnings("ignore:auscult could not go on")
@pytest.mark.parametrize(
    "target",
    [
        "auscult.metrics.batch.fingerprint",
        "auscult.metrics.losscall.LossCall.figures",
        "auscult.metrics.sighting.Sighting.see_output",
        "auscult.metrics.sighting.Sighting.see_loss_gradient",
        "auscult.metrics.carried._Mark.before_adding",
        "auscult.metrics.carried._Mark.after_adding",
        "auscult.monitor.witness.on_host",
    ],
)
def test_what_fails_is_told_once_and_everything_else_goes_on(target: str, tmp_path, monkeypatch, recwarn) -> None:
    def broken(*_args: object, **_named: object) -> None:
        raise RuntimeError("ours")

    bare = Script().run(None)
    monkeypatch.setattr(target, broken)
    script = Script()
    with pytest.raises(AssertionError, match="loss and batch"):  # that nothing has failed
        script.run(tmp_path / "run")
    found = [*script.model.state_dict().values(), *(each.grad for each in script.model.parameters())]
    assert all(torch.equal(one, other) for one, other in zip(bare, found, strict=False))
    assert len([each for each in recwarn.list if "could not go on" in str(each.message)]) == 1
    run = auscult.load(tmp_path / "run")
    assert len(run.series("grad_norm", "0.weight")) == STEPS and len(run.steps) == STEPS


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, lambda: nn.CrossEntropyLoss(reduction="sum")])
def test_a_loss_that_is_named(loss: Callable[[], nn.Module], tmp_path) -> None:
    named = loss()

    class Named(Script):
        def before(self, step: int) -> None:
            with torch.no_grad():
                named(torch.randn(2, 3), torch.tensor([0, 1]))

        def loss(self, step: int) -> Tensor:
            functional.mse_loss(self.model[0].weight, torch.zeros(8, 6))  # another loss comes first
            inputs, targets = self.batch(step)
            return named(self.model(inputs), targets)

    run, script = seen(Named, tmp_path, loss_fn=named)
    assert list(values(run, "observed_loss").values()) == pytest.approx(script.losses)
    assert run.audit is not None and run.audit.loss == "cross_entropy"


def test_a_loss_by_hand_that_compares_all_with_all(tmp_path) -> None:
    """And a softmax between two layers that is no module."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 1)

        def forward(self, inputs: Tensor) -> Tensor:
            return self.last(self.first(inputs).softmax(-1))

    class Broadcast(Script):
        def __init__(self) -> None:
            super().__init__(Net())

        def loss(self, step: int) -> Tensor:
            inputs, targets = self.batch(step)
            return (self.model(inputs) - targets.float()).square().mean()

    run, _ = seen(Broadcast, tmp_path)
    assert run.audit is not None and run.anatomy is not None
    assert (run.audit.loss, run.audit.input_shape, run.audit.target_shape) == ("difference", (10, 1), (10,))
    assert run.anatomy.given_shares == ("last",) and run.anatomy.sums_to_one == ()
    codes = {each.code: each.severity for each in auscult.diagnose(run)}
    assert codes.get("H005") == "warning"
