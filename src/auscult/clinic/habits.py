"""Habits: healthy trainings whose loop is not the usual one, and two in which networks play against or for a reward."""

import copy
from collections.abc import Callable
from os import PathLike
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from auscult.clinic.networks import build_network
from auscult.clinic.objectives import score
from auscult.clinic.session import Outcome, Watching, hold
from auscult.clinic.tables import Table, load_table, scale_inputs

BATCH = 32
ACTIONS, STATES = 4, 6
Path = str | PathLike[str]


def resumed(path: Path, seed: int) -> Outcome:
    """A run that is resumed twice from a checkpoint, each time with half the learning rate."""
    train, held = _digits(seed)
    generator = Generator().manual_seed(seed)
    saved: dict[str, Any] | None = None
    outcome = Outcome(0.0, False, 0)
    for part, lr in enumerate((4e-3, 2e-3, 1e-3)):
        torch.manual_seed(seed)
        model = build_network(64, 10, (64,))
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        if saved is not None:
            model.load_state_dict(copy.deepcopy(saved["model"]))
            optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))
            optimizer.param_groups[0]["lr"] = lr

        def loop(monitor: Watching, model: nn.Module = model, optimizer: torch.optim.Optimizer = optimizer) -> None:
            model.train()
            for batch in _epochs(train, 3, generator):
                _step(monitor, model, optimizer, batch)

        option = {"if_exists": "resume"} if part else {}
        outcome = hold(model, optimizer, path, loop, _accuracy(model, held), **option)
        saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    return outcome


def evaluated_often(path: Path, seed: int) -> Outcome:
    """An evaluation every ten steps, on the very model that trains, with dropout and BatchNorm in it."""
    train, held = _digits(seed)
    torch.manual_seed(seed)
    model = build_network(64, 10, (64, 64), batch_norm=True, dropout=0.2)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def loop(monitor: Watching) -> None:
        for number, batch in enumerate(_epochs(train, 8, Generator().manual_seed(seed))):
            model.train()
            _step(monitor, model, optimizer, batch)
            if number % 10 == 0:
                model.eval()
                with torch.no_grad():
                    output = model(held.inputs)
                monitor.log_evaluation("val", accuracy=score(output, held, 0.0))

    return hold(model, optimizer, path, loop, _accuracy(model, held))


def several_evaluations_a_step(path: Path, seed: int) -> Outcome:
    """L-BFGS, whose step calls the loss several times."""
    train, held = scale_inputs(*load_table("iris", seed), "std")
    torch.manual_seed(seed)
    model = build_network(4, 3, (6,), activation="tanh")
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(train.inputs), train.targets)
        loss = loss + 1e-3 * sum(each.square().sum() for each in model.parameters())
        loss.backward()
        return loss

    def loop(monitor: Watching) -> None:
        for _ in range(30):
            monitor.log(loss=optimizer.step(closure))

    return hold(model, optimizer, path, loop, _accuracy(model, held))


def one_bad_batch(path: Path, seed: int) -> Outcome:
    """One batch in the middle with some wrong labels, from which the loss recovers at once."""
    train, held = _digits(seed)
    torch.manual_seed(seed)
    model = build_network(64, 10, (64,))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def loop(monitor: Watching) -> None:
        for number, batch in enumerate(_epochs(train, 8, Generator().manual_seed(seed))):
            if number == 170:
                wrong = torch.arange(len(batch)) % 8 == 0
                batch = Table(batch.inputs, torch.where(wrong, (batch.targets + 1) % 10, batch.targets), 10)
            _step(monitor, model, optimizer, batch)

    return hold(model, optimizer, path, loop, _accuracy(model, held))


def against_each_other(path: Path, seed: int) -> Outcome:
    """A generator of points and a critic of them, with an optimizer each."""
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    maker, critic = build_network(4, 2, (32,)), build_network(2, 1, (32, 32))
    model = nn.ModuleDict({"maker": maker, "critic": critic})
    optimizers = {
        "maker": torch.optim.Adam(maker.parameters(), lr=1e-3, betas=(0.5, 0.999)),
        "critic": torch.optim.Adam(critic.parameters(), lr=5e-3, betas=(0.5, 0.999)),
    }
    centre = torch.tensor([1.0, -0.5])

    def made(count: int) -> Tensor:
        return maker(torch.randn(count, 4, generator=generator))

    def judged(points: Tensor, real: float) -> Tensor:
        output = critic(points)
        return functional.binary_cross_entropy_with_logits(output, torch.full_like(output, real))

    def loop(monitor: Watching) -> None:
        for _ in range(500):
            real = centre + 0.5 * torch.randn(64, 2, generator=generator)
            loss = judged(real, 1.0) + judged(made(64).detach(), 0.0)
            optimizers["critic"].zero_grad()
            loss.backward()
            optimizers["critic"].step()
            deceiving = judged(made(64), 1.0)
            optimizers["maker"].zero_grad()
            deceiving.backward()
            optimizers["maker"].step()
            monitor.log(critic_loss=loss, maker_loss=deceiving)

    def likeness() -> float:
        points = made(1000)
        return 1.0 - float((points.mean(0) - centre).abs().mean()) - float((points.std(0) - 0.5).abs().mean())

    return hold(model, optimizers, path, loop, likeness)


def for_a_reward(path: Path, seed: int) -> Outcome:
    """A policy and a value learnt from rewards, by the clipped ratio of proximal policy optimisation."""
    torch.manual_seed(seed)
    generator = Generator().manual_seed(seed)
    best = torch.randn(STATES, ACTIONS, generator=generator)
    model = build_network(STATES, ACTIONS + 1, (32,), activation="tanh")
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

    def loop(monitor: Watching) -> None:
        for _ in range(100):
            states = torch.randn(128, STATES, generator=generator)
            with torch.no_grad():
                output = model(states)
                before = torch.log_softmax(output[:, :ACTIONS], 1)
                chosen = torch.multinomial(before.exp(), 1, generator=generator)
                reward = (chosen[:, 0] == (states @ best).argmax(1)).float()
                advantage = reward - output[:, ACTIONS]
            for _ in range(4):
                output = model(states)
                after = torch.log_softmax(output[:, :ACTIONS], 1)
                ratio = (after - before).gather(1, chosen)[:, 0].exp()
                gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
                entropy = -(after.exp() * after).sum(1).mean()
                loss = functional.mse_loss(output[:, ACTIONS], reward) / 2 - gain - 0.01 * entropy
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                monitor.log(loss=loss, reward=reward.mean())

    def rightly() -> float:
        states = torch.randn(1000, STATES, generator=generator)
        return float((model(states)[:, :ACTIONS].argmax(1) == (states @ best).argmax(1)).float().mean())

    return hold(model, optimizer, path, loop, rightly)


def _digits(seed: int) -> tuple[Table, Table]:
    return scale_inputs(*load_table("digits", seed), "unit")


def _epochs(table: Table, count: int, generator: Generator) -> list[Table]:
    """The batches of some epochs."""
    orders = (torch.randperm(len(table), generator=generator) for _ in range(count))
    return [table.rows(chosen) for order in orders for chosen in order.split(BATCH)]


def _step(monitor: Watching, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Table) -> None:
    loss = functional.cross_entropy(model(batch.inputs), batch.targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    monitor.log(loss=loss)


def _accuracy(model: nn.Module, held: Table) -> Callable[[], float]:
    return lambda: score(model(held.inputs), held, 0.0)
