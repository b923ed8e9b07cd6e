"""Lightning's real Trainer: what is recorded against what its hooks see, the same bits, stopped and resumed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import auscult
from auscult.integrations.selection import Selection

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("default"),  # of Lightning's own
    pytest.mark.filterwarnings("error:auscult"),
]
lightning = pytest.importorskip("lightning.pytorch")
STEPS = 8


class Lit(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 3))
        self.train_losses: list[float] = []

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        loss = functional.cross_entropy(self.net(batch[0]), batch[1])
        self.train_losses.append(loss.item())
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class Truth(lightning.Callback):
    """Norms in float64 by Lightning's hook before clipping, and of what the last update used, before it is zeroed."""

    def __init__(self) -> None:
        self.before: list[float] = []
        self.after: list[float] = []
        self.single: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.before.append(norm(module.parameters()))
        self.single.append(norm([module.net[0].weight]))

    def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
        """Called inside of the next closure, when the gradients are what the last update used."""
        if trainer.global_step > len(self.after):
            self.after.append(norm(module.parameters()))

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.after.append(norm(module.parameters()))


def norm(parameters: Any) -> float:
    return sum(float(each.grad.double().square().sum()) for each in parameters if each.grad is not None) ** 0.5


def data() -> DataLoader:
    inputs = torch.randn(12 * STEPS * 2, 8, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(inputs, (inputs.sum(1) > 0).long()), batch_size=12)


def fit(path: Path, callbacks: list[Any], steps: int = STEPS, **more: Any) -> Lit:
    torch.manual_seed(0)
    module = Lit()
    ckpt = more.pop("ckpt_path", None)
    save = more.pop("save", None)
    settings = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
    settings.update(default_root_dir=path, max_steps=steps, callbacks=callbacks, enable_checkpointing=False, **more)
    trainer = lightning.Trainer(**settings)
    trainer.fit(module, data(), ckpt_path=ckpt)
    if save is not None:
        trainer.save_checkpoint(save)
    return module


CASES: dict[str, dict[str, Any]] = {
    "fp32": {},
    "clipped by norm": {"gradient_clip_val": 0.3},
    "clipped by value": {"gradient_clip_val": 0.02, "gradient_clip_algorithm": "value"},
    "bf16, clipped": {"precision": "bf16-mixed", "gradient_clip_val": 0.3},
    "accumulated over 2, clipped": {"accumulate_grad_batches": 2, "gradient_clip_val": 0.3},
}


@pytest.mark.parametrize("case", CASES)
def test_norms_are_those_before_and_after_clipping(case: str, tmp_path: Path) -> None:
    from auscult.integrations.lightning import AuscultCallback

    truth = Truth()
    fit(tmp_path, [AuscultCallback(tmp_path / "run", every=(1, 1)), truth], **CASES[case])
    run = auscult.load(tmp_path / "run")
    np.testing.assert_allclose(run.series("grad_norm"), truth.before, rtol=1e-6)
    np.testing.assert_allclose(run.series("grad_norm", "0.weight"), truth.single, rtol=1e-6)
    assert len(truth.before) == len(truth.after) == STEPS
    clipped = run.series("grad_norm_clipped")
    if "value" in case:
        assert len(clipped) == 0  # one factor cannot tell: not observed
    else:
        np.testing.assert_allclose(clipped, truth.after, rtol=1e-5)
    assert ("clipped" in case) == (max(truth.before) > 1.001 * max(truth.after))


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_same_to_the_bit(case: str, tmp_path: Path) -> None:
    from auscult.integrations.lightning import AuscultCallback

    bare = fit(tmp_path, [], **CASES[case])
    watched = fit(tmp_path, [AuscultCallback(tmp_path / "run", every=(1, 1))], **CASES[case])
    assert bare.train_losses == watched.train_losses
    assert all(a.equal(b) for a, b in zip(bare.state_dict().values(), watched.state_dict().values(), strict=True))


def test_stop_and_resume_with_the_trainers_checkpoint(tmp_path: Path) -> None:
    from auscult.integrations.lightning import AuscultCallback

    whole = AuscultCallback(tmp_path / "whole", every=(1, 1))
    fit(tmp_path, [whole])
    fit(tmp_path, [AuscultCallback(tmp_path / "run", every=(1, 1))], 5, save=tmp_path / "stopped.ckpt")
    resumed = AuscultCallback(tmp_path / "run", every=(1, 1))
    fit(tmp_path, [resumed], ckpt_path=tmp_path / "stopped.ckpt")
    run, straight = auscult.load(tmp_path / "run"), auscult.load(tmp_path / "whole")
    assert [each.step for each in run.segments] == [0, 5] and run.steps.tolist() == list(range(STEPS))
    np.testing.assert_array_equal(run.series("grad_norm", "4.weight").steps, np.arange(STEPS))
    np.testing.assert_array_equal(run.series("grad_norm")[:5], straight.series("grad_norm")[:5])
    assert len(list(tmp_path.glob("run*"))) == 1


def test_the_trainers_own_logger_gets_the_same_values_at_the_same_steps(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from auscult.integrations.lightning import AuscultCallback

    loggers = [TensorBoardLogger(tmp_path, name="tb"), CSVLogger(tmp_path, name="csv")]
    callback = AuscultCallback(tmp_path / "run", Selection(every=1, paths_every=1), every=(1, 1))
    val = data()
    torch.manual_seed(0)
    trainer = lightning.Trainer(
        max_steps=STEPS, log_every_n_steps=1, logger=loggers, callbacks=[callback], accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, val_check_interval=4,
    )  # fmt: skip
    module = Lit()
    trainer.fit(module, data(), val)
    run = auscult.load(tmp_path / "run")
    events = EventAccumulator(loggers[0].log_dir)
    events.Reload()
    for key, path in (("grad_norm", ""), ("grad_norm", "0.weight"), ("update_ratio", "4.bias"), ("loss", "")):
        told, series = events.Scalars(f"{key}/{path}" if path else key), run.series(key, path)
        assert [each.step for each in told] == series.steps.tolist() == list(range(STEPS))
        np.testing.assert_allclose([each.value for each in told], series, rtol=1e-6)
    np.testing.assert_allclose(run.series("loss"), module.train_losses, rtol=1e-12)
    assert run.series("val/loss").steps.tolist() == [3, 7]
    assert "grad_norm/0.weight" in (Path(loggers[1].log_dir) / "metrics.csv").read_text()
    assert "train_loss" in events.Tags()["scalars"]


def test_what_validation_logs_is_told_from_what_only_begins_alike(tmp_path: Path) -> None:
    from auscult.integrations.lightning import AuscultCallback

    class Named(Lit):
        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            self.log("value_loss", 0.5)
            self.log("validity", 0.25)
            return super().training_step(batch, index)

        def validation_step(self, batch: Any, index: int) -> None:
            self.log_dict({"val_loss": 1.0, "valid_acc": 2.0, "validation/f1": 3.0, "val/deep/name": 4.0})

    trainer = lightning.Trainer(
        max_steps=4, logger=False, callbacks=[AuscultCallback(tmp_path / "run")], accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, val_check_interval=2,
    )  # fmt: skip
    trainer.fit(module := Named(), data(), data())
    trainer.validate(module, data(), verbose=False)  # behind the training: no part of the run
    run = auscult.load(tmp_path / "run")
    evaluated = {channel.metric: run.series(*channel) for channel in run.source.channels("evaluation")}
    assert {name: float(series.values[0]) for name, series in evaluated.items()} == {
        "val/loss": 1.0, "val/acc": 2.0, "val/f1": 3.0, "val/deep/name": 4.0,
    }  # fmt: skip
    assert evaluated["val/loss"].steps.tolist() == [1, 3]


def test_an_exception_is_written_down(tmp_path: Path) -> None:
    from auscult.integrations.lightning import AuscultCallback

    class Fails(lightning.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
            if index == 3:
                raise KeyError("broken")

    with pytest.raises(KeyError):
        fit(tmp_path, [AuscultCallback(tmp_path / "run"), Fails()])
    assert "KeyError" in auscult.load(tmp_path / "run").events[-1]["reason"]
