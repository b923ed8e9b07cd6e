"""Training with and without the monitor, compared bit by bit."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import auscult

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


def train(make_model, make_optimizer, path, clip: bool, batches) -> list[torch.Tensor]:
    torch.manual_seed(3)
    model = make_model()
    optimizer = make_optimizer(model.parameters())
    monitor = auscult.watch(model, optimizer, path, every=(1, 1)) if path else None
    seen: list[torch.Tensor] = []
    for inputs, targets in batches(50):
        loss = functional.cross_entropy(model(inputs), targets)
        loss.backward()
        if clip and monitor is not None:
            seen.append(monitor.clip_grad_norm_(0.5))
        elif clip:
            seen.append(nn.utils.clip_grad_norm_(model.parameters(), 0.5))
        seen += [parameter.grad.clone() for parameter in model.parameters()]
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.detach())
        if monitor is not None:
            monitor.log(loss=loss)
            monitor.log_categories(torch.ones(3), ["a", "b", "a"])
    seen += [*model.state_dict().values(), torch.get_rng_state()]
    if monitor is not None:
        monitor.close()
        assert monitor.failures == []
    return seen


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_parameters_gradients_losses_and_rng_are_bit_identical(optimizer, clip, tmp_path, batches, small) -> None:
    bare = train(type(small), OPTIMIZERS[optimizer], None, clip, batches)
    watched = train(type(small), OPTIMIZERS[optimizer], tmp_path / "run", clip, batches)
    assert len(bare) == len(watched) > 50
    assert all(torch.equal(a, b) for a, b in zip(bare, watched))
