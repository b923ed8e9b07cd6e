"""One of two processes of a training by a real trainer over gloo: `python two.py TRAINER DIRECTORY`.

Every rank trains on its half of each batch; what all of them average is the gradient of the whole batch, which one
process with the batch as a whole (`WORLD_SIZE` of 1) tells in float64.
"""

import json
import os
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

STEPS, BATCH = 6, 8


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))


def data(world: int) -> DataLoader:
    """In the order in which a sampler that gives ranks every second sample makes the same batches of them."""
    inputs = torch.randn(STEPS * BATCH, 8, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(inputs, (inputs.sum(1) > 0).long()), batch_size=BATCH // world)


def norm(parameters: object) -> float:
    return sum(float(each.grad.double().square().sum()) for each in parameters) ** 0.5


def by_hand(out: Path) -> dict:
    """One process and no trainer: the norms before and after clipping."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, after = [], []
    for inputs, targets in data(1):
        functional.cross_entropy(model(inputs), targets).backward()
        before.append(norm(model.parameters()))
        nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        after.append(norm(model.parameters()))
        optimizer.step()
        optimizer.zero_grad()
    return {"before": before, "after": after, "sum": total(model)}


def by_lightning(out: Path) -> dict:
    import lightning.pytorch as lightning

    from auscult.integrations.lightning import AuscultCallback

    class Lit(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
            return functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback = AuscultCallback(out / "run", sinks=[tensorboard()], every=(1, 1))
    trainer = lightning.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, gradient_clip_val=0.3, callbacks=[callback],
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        default_root_dir=out,
    )  # fmt: skip
    sampler = torch.utils.data.DistributedSampler(data(2).dataset, 2, int(os.environ["RANK"]), shuffle=False)
    module = Lit()
    trainer.fit(module, DataLoader(data(2).dataset, batch_size=BATCH // 2, sampler=sampler))
    return {"failures": callback.monitor.failures, "sum": total(module)}


def by_accelerate(out: Path) -> dict:
    import accelerate

    import auscult

    accelerator = accelerate.Accelerator(cpu=True)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(data(2).dataset, batch_size=BATCH // 2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    monitor = auscult.watch(model, optimizer, out / "run", sinks=[tensorboard()], every=(1, 1))
    for inputs, targets in loader:
        accelerator.backward(functional.cross_entropy(model(inputs), targets))
        accelerator.clip_grad_norm_(model.parameters(), 0.3)
        optimizer.step()
        optimizer.zero_grad()
    monitor.close()
    return {"failures": monitor.failures, "sum": total(model)}


def by_transformers(out: Path) -> dict:
    import transformers

    from auscult.integrations.transformers import AuscultCallback

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": functional.cross_entropy(self.net(inputs), labels)}

    class Ordered(transformers.Trainer):
        def _get_train_sampler(self, *args: object) -> torch.utils.data.Sampler:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def create_optimizer(self, *args: object) -> torch.optim.Optimizer:
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
            return self.optimizer

    callback = AuscultCallback(out / "run", sinks=[tensorboard()], every=(1, 1))
    arguments = transformers.TrainingArguments(
        str(out / "out"), max_steps=STEPS, max_grad_norm=0.3, per_device_train_batch_size=BATCH // 2, use_cpu=True,
        report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=1, lr_scheduler_type="constant",
    )  # fmt: skip
    rows = [{"inputs": inputs, "labels": label} for inputs, label in data(2).dataset]
    trainer = Ordered(Net(), arguments, train_dataset=rows, callbacks=[callback])
    trainer.train()
    return {"failures": callback.monitor.failures, "sum": total(trainer.model)}


def tensorboard() -> object:
    from auscult.integrations.selection import Selection
    from auscult.integrations.tensorboard import TensorBoardSink

    return TensorBoardSink(selection=Selection(every=1, paths_every=1), files=False)


def total(model: nn.Module) -> float:
    return float(sum(each.detach().double().sum() for each in model.parameters()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    told = {"lightning": by_lightning, "accelerate": by_accelerate, "transformers": by_transformers, "hand": by_hand}[
        sys.argv[1]
    ](Path(sys.argv[2]))
    (Path(sys.argv[2]) / f"rank{os.environ.get('RANK', '0')}.json").write_text(json.dumps(told))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
