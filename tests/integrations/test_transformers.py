"""Transformers' real Trainer on a small GPT-2 of random weights: truth, the same bits, stopped and resumed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import auscult
from auscult.integrations.selection import Selection

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("default"),  # of Transformers' own
    pytest.mark.filterwarnings("error:auscult"),
]
transformers = pytest.importorskip("transformers")
STEPS = 6


class Tokens(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(0, 50, (12,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": ids, "labels": ids}


class Truth(transformers.Trainer):
    """Norms in float64 behind every backward pass, which comes before clipping, and at the hook behind it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.last = 0.0
        self.before: list[float] = []
        self.after: list[float] = []
        truth = self

        class Behind(transformers.TrainerCallback):
            def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: nn.Module, **more: Any) -> None:
                truth.before.append(truth.last)
                truth.after.append(norm(model))

        self.add_callback(Behind())

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(model, *args, **kwargs)
        self.last = norm(model)
        return loss


def norm(model: nn.Module) -> float:
    return sum(float(each.grad.double().square().sum()) for each in model.parameters() if each.grad is not None) ** 0.5


def trainer_of(path: Path, callbacks: list[Any], steps: int = STEPS, **more: Any) -> Truth:
    transformers.set_seed(0)
    config = transformers.GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2)
    settings = {"report_to": "none", "save_strategy": "no", "use_cpu": True, "disable_tqdm": True, "logging_steps": 1}
    settings.update(output_dir=str(path / "out"), max_steps=steps, per_device_train_batch_size=4, **more)
    model = transformers.GPT2LMHeadModel(config)
    return Truth(model, transformers.TrainingArguments(**settings), train_dataset=Tokens(), eval_dataset=Tokens(),
                 callbacks=callbacks)  # fmt: skip


CASES: dict[str, dict[str, Any]] = {
    "fp32, clipped": {"max_grad_norm": 0.5},
    "fp32, not clipped": {"max_grad_norm": 0.0},
    "bf16, clipped": {"bf16": True, "max_grad_norm": 0.5},
    "accumulated over 2, clipped": {"gradient_accumulation_steps": 2, "max_grad_norm": 0.5},
}


@pytest.mark.parametrize("case", CASES)
def test_norms_are_those_before_and_after_clipping(case: str, tmp_path: Path) -> None:
    from auscult.integrations.transformers import AuscultCallback

    trainer = trainer_of(tmp_path, [AuscultCallback(tmp_path / "run", every=(1, 1))], **CASES[case])
    trainer.train()
    run = auscult.load(tmp_path / "run")
    np.testing.assert_allclose(run.series("grad_norm"), trainer.before, rtol=1e-6)
    np.testing.assert_allclose(run.series("grad_norm_clipped"), trainer.after, rtol=1e-5)
    assert len(trainer.before) == STEPS and ("not" in case) == (trainer.before == trainer.after)
    reported = [each["grad_norm"] for each in trainer.state.log_history if "grad_norm" in each]
    np.testing.assert_allclose(reported, run.series("grad_norm"), rtol=1e-3)  # the Trainer's own is pre-clip as well


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_same_to_the_bit(case: str, tmp_path: Path) -> None:
    from auscult.integrations.transformers import AuscultCallback

    bare = trainer_of(tmp_path, [], **CASES[case])
    bare.train()
    watched = trainer_of(tmp_path, [AuscultCallback(tmp_path / "run", every=(1, 1))], **CASES[case])
    watched.train()
    pairs = zip(bare.model.state_dict().values(), watched.model.state_dict().values(), strict=True)
    assert all(a.equal(b) for a, b in pairs)
    losses = [[each["loss"] for each in one.state.log_history if "loss" in each] for one in (bare, watched)]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS


def test_stop_and_resume_with_the_trainers_checkpoint(tmp_path: Path) -> None:
    from auscult.integrations.transformers import AuscultCallback

    steady = {"lr_scheduler_type": "constant"}
    trainer_of(tmp_path / "whole", [AuscultCallback(tmp_path / "straight", every=(1, 1))], **steady).train()
    saving = {"save_strategy": "steps", "save_steps": 4, **steady}
    trainer_of(tmp_path, [AuscultCallback(tmp_path / "run", every=(1, 1))], 5, **saving).train()
    again = trainer_of(tmp_path, [AuscultCallback(tmp_path / "run", every=(1, 1))], **saving)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-4"))
    run, straight = auscult.load(tmp_path / "run"), auscult.load(tmp_path / "straight")
    assert [each.step for each in run.segments] == [0, 4] and run.steps.tolist() == list(range(STEPS))
    np.testing.assert_array_equal(run.series("grad_norm").steps, np.arange(STEPS))
    np.testing.assert_allclose(run.series("grad_norm"), straight.series("grad_norm"), rtol=1e-12)
    assert len(list(tmp_path.glob("run*"))) == 1


def test_the_trainers_own_trackers_get_the_same_values_at_the_same_steps(tmp_path: Path, monkeypatch: Any) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from auscult.integrations.transformers import AuscultCallback

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tb"))
    callback = AuscultCallback(tmp_path / "run", Selection(every=1, paths_every=1), every=(1, 1))
    trainer = trainer_of(tmp_path, [callback], report_to="tensorboard", eval_strategy="steps", eval_steps=3)
    callback.log_through(trainer)
    trainer.train()
    run = auscult.load(tmp_path / "run")
    events = EventAccumulator(str(next((tmp_path / "tb").rglob("events.*")).parent))
    events.Reload()
    for metric, path in (("update_ratio", ""), ("grad_norm", "transformer.wte.weight"), ("update_norm", "")):
        told = events.Scalars(f"train/{metric}/{path}" if path else f"train/{metric}")
        series = run.series(metric, path)
        assert [each.step - 1 for each in told] == series.steps.tolist() == list(range(STEPS))
        np.testing.assert_allclose([each.value for each in told], series, rtol=1e-6)
    assert run.series("eval/loss").steps.tolist() == [2, 5]
    losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    np.testing.assert_array_equal(run.series("loss"), losses)
    assert json.loads(json.dumps(callback.state()))["attributes"]["_saved"]["step"] == STEPS
