"""The Accelerate recipe with the real Accelerator: truth, the same bits, stopped and resumed, its own tracker."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import auscult
from auscult.integrations.logger import LoggerSink
from auscult.integrations.selection import Selection

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("default"),  # of Accelerate's own
    pytest.mark.filterwarnings("error:auscult"),
]
accelerate = pytest.importorskip("accelerate")
STEPS = 8
CASES: dict[str, dict[str, Any]] = {
    "fp32": {"mixed_precision": "no"},
    "bf16": {"mixed_precision": "bf16"},
    "accumulated over 2": {"gradient_accumulation_steps": 2},
}
ALL = Selection(every=1, paths_every=1)


class Loop:
    def __init__(self, path: Path, watched: bool, by_value: bool = False, resume: bool = False, **more: Any) -> None:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(True)
        torch.manual_seed(0)
        self.accelerator = accelerate.Accelerator(cpu=True, log_with="tensorboard", project_dir=path, **more)
        model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 3))
        inputs = torch.randn(12 * 2 * STEPS, 8, generator=torch.Generator().manual_seed(1))
        data = torch.utils.data.TensorDataset(inputs, (inputs.sum(1) > 0).long())
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        loader = torch.utils.data.DataLoader(data, batch_size=12)
        self.model, self.optimizer, self.loader = self.accelerator.prepare(model, optimizer, loader)
        self.by_value = by_value
        self.before: list[float] = []
        self.after: list[float] = []
        self.monitor: Any = None
        if watched:
            self.accelerator.init_trackers("tb")
            sinks = [LoggerSink(self.accelerator.log, ALL)]
            exists = "resume" if resume else "new"
            self.monitor = auscult.watch(
                self.model, self.optimizer, path / "run", every=(1, 1), sinks=sinks, if_exists=exists
            )
            self.accelerator.register_for_checkpointing(self.monitor)

    def run(self, start: int, stop: int) -> None:
        for index, (inputs, targets) in enumerate(self.loader):
            parts = self.accelerator.gradient_accumulation_steps
            if not start * parts <= index < stop * parts:
                continue
            with self.accelerator.accumulate(self.model):
                loss = functional.cross_entropy(self.model(inputs), targets)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.before.append(self.norm())
                    if self.by_value:
                        self.accelerator.clip_grad_value_(self.model.parameters(), 0.02)
                    else:
                        self.accelerator.clip_grad_norm_(self.model.parameters(), 0.3)
                    self.after.append(self.norm())
                self.optimizer.step()
                self.optimizer.zero_grad()
            if self.monitor is not None:
                self.monitor.log(loss=loss)

    def norm(self) -> float:
        return sum(float(each.grad.double().square().sum()) for each in self.model.parameters()) ** 0.5

    def bits(self) -> list[torch.Tensor]:
        return [*self.model.state_dict().values(), torch.get_rng_state()]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("by_value", [False, True], ids=["by norm", "by value"])
def test_norms_are_the_truth_and_training_the_same(case: str, by_value: bool, tmp_path: Path) -> None:
    bare = Loop(tmp_path, False, by_value, **CASES[case])
    bare.run(0, STEPS)
    bits = bare.bits()
    loop = Loop(tmp_path, True, by_value, **CASES[case])
    loop.run(0, STEPS)
    assert all(a.equal(b) for a, b in zip(bits, loop.bits(), strict=True))
    loop.monitor.close()
    run = auscult.load(tmp_path / "run")
    np.testing.assert_allclose(run.series("grad_norm"), loop.before, rtol=1e-6)
    if by_value:
        assert len(run.series("grad_norm_clipped")) == 0
    else:
        np.testing.assert_allclose(run.series("grad_norm_clipped"), loop.after, rtol=1e-5)
    assert len(loop.before) == STEPS and max(loop.before) > 1.001 * max(loop.after)


def test_stop_and_resume_with_its_checkpoint_and_its_own_tracker(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    first = Loop(tmp_path, True)
    first.run(0, 5)
    first.accelerator.save_state(str(tmp_path / "checkpoint"))
    first.monitor.close()
    first.accelerator.end_training()
    second = Loop(tmp_path, True, resume=True)
    second.accelerator.load_state(str(tmp_path / "checkpoint"))
    second.run(5, STEPS)
    second.monitor.close()
    second.accelerator.end_training()
    run = auscult.load(tmp_path / "run")
    assert [each.step for each in run.segments] == [0, 5] and run.steps.tolist() == list(range(STEPS))
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    for metric, path in (("loss", ""), ("grad_norm", ""), ("grad_norm", "3.bias")):
        told, series = events.Scalars(f"{metric}/{path}" if path else metric), run.series(metric, path)
        assert [each.step for each in told] == series.steps.tolist() == list(range(STEPS))
        np.testing.assert_allclose([each.value for each in told], series, rtol=1e-6)
