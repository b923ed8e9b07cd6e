"""One rank of a distributed training in which something happens: `python incidents.py RANK WORLD DIRECTORY NAME...`."""

import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import worker
from torch import nn

import auscult
from auscult.core.errors import SetupError, StopTraining


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 1))


def wrapped(model: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


def loop(model, monitor, optimizer, rank, steps, same_data=False, before_log=None):
    generator = torch.Generator().manual_seed(0 if same_data else rank)
    for step in range(steps):
        loss = (model(torch.randn(5, 6, generator=generator)) - 1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if before_log is not None:
            before_log(step)
        monitor.log(loss=loss)
        yield step, loss


def told(monitor) -> dict:
    monitor.close()
    findings = [(each.code, each.step, each.summary) for each in monitor.findings]
    return {"findings": findings, "failures": monitor.failures, "lost": monitor._ranks.lost, "path": str(monitor.path)}


def one_ulp(rank: int, world: int, directory: Path) -> dict:
    """One element on the last rank moves by one unit in the last place, at step 70."""
    model = wrapped(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    seen = {}

    def nudge(step: int) -> None:
        if step == 70 and rank == world - 1:
            weight = model.module[0].weight.detach().view(-1)
            weight[3] = float(np.nextafter(np.float32(weight[3]), np.float32(9)))

    for step, _ in loop(model, monitor, optimizer, rank, 75, before_log=nudge):
        if rank == 0 and any(each.code == "R001" for each in monitor.findings):
            seen.setdefault("at", step)
    return {**told(monitor), **seen}


def healthy(rank: int, world: int, directory: Path) -> dict:
    """Nothing happens for long, whatever the parallelism."""
    result = {}
    for kind in ("ddp", "fsdp2", "tp", "tp_sp") if world == 2 else ("hsdp", "fsdp2_tp", "fsdp2_tp_sp"):
        bare = worker.network(torch.float32)
        model, share, _ = worker.parallel(kind, bare, rank, world)
        optimizer = torch.optim.SGD(bare.parameters(), lr=0.01)
        monitor = auscult.watch(model, optimizer, directory / kind, every=1)
        generator = torch.Generator().manual_seed(share)
        for _ in range(1000):
            loss = (model(torch.randn(4, 4, 5, generator=generator)) - 1).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
        result[kind] = told(monitor)
    return result


def same_data(rank: int, world: int, directory: Path) -> dict:
    """No sampler: every rank reads the same batches."""
    model = wrapped(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / "run", every=(1, 4))
    for _ in loop(model, monitor, optimizer, rank, 130, same_data=True):
        pass
    return told(monitor)


def killed(rank: int, world: int, directory: Path) -> dict:
    """The last rank is killed at step 20; the others see torch's own failure."""
    model = wrapped(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    truth, begin = [], time.monotonic()
    try:
        for step, loss in loop(model, monitor, optimizer, rank, 1000):
            mean = loss.detach().clone()
            if step < 20:
                dist.all_reduce(mean)
                truth.append(float(mean) / world)
            if rank == world - 1 and step == 20:
                os.kill(os.getpid(), signal.SIGKILL)
            begin, saved = time.monotonic(), monitor.saved_step
    except Exception as error:
        failed = time.monotonic() - begin
        monitor.close("a rank died")
        closed = time.monotonic() - begin - failed
        return {
            "error": f"{type(error).__module__}.{type(error).__name__}: {error}"[:200],
            "failed": failed, "closed": closed, "saved": saved, "truth": truth,
            "failures": monitor.failures, "lost": monitor._ranks.lost,
        }  # fmt: skip
    return {"error": ""}


def first_killed(rank: int, world: int, directory: Path, death: int = 40) -> dict:
    """Rank 0, which writes, is killed in the middle of the run, and the others are not asked for anything."""
    model = wrapped(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    keep, added = monitor._exchange._reserve.keep, []

    def seen(some, kept) -> None:
        added.extend(each.step for each in some.drafts)
        keep(some, kept)

    monitor._exchange._reserve.keep = seen
    try:
        for step, _ in loop(model, monitor, optimizer, rank, 45):
            if rank == 0 and step == death:
                os.kill(os.getpid(), signal.SIGKILL)
            monitor.log(own=float(step) + rank / 7)
    except RuntimeError:
        monitor.close("a rank died")
    return {**told(monitor), "added": added}


def unharmed(rank: int, world: int, directory: Path) -> dict:
    """The same, but nobody is killed."""
    return first_killed(rank, world, directory, death=-1)


def resumed_first(rank: int, world: int, directory: Path) -> dict:
    """What was begun there goes on with another number of ranks."""
    return resumed(rank, world, directory, "first_killed")


def resumed(rank: int, world: int, directory: Path, begun: str = "killed") -> dict:
    """What two ranks began goes on with another number of them."""
    model = wrapped(network()) if world > 1 else network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory.with_name(begun) / "run", every=1, if_exists="resume")
    first = monitor.step
    for _ in loop(model, monitor, optimizer, rank, 5):
        pass
    monitor.close()
    return {"first": first, "path": str(monitor.path), "failures": monitor.failures}


def unequal(rank: int, world: int, directory: Path) -> dict:
    """The last rank runs out of batches at step 10 and closes; the others go on, without gradients in common."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    for _ in loop(model, monitor, optimizer, rank, 10 if rank == world - 1 else 80):
        pass
    return told(monitor)


def nan_on_one(rank: int, world: int, directory: Path) -> dict:
    """The last rank has a NaN in its batch of step 12."""
    model = wrapped(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1, stop_on="critical")
    generator, stopped = torch.Generator().manual_seed(rank), None
    for step in range(40):
        inputs = torch.randn(5, 6, generator=generator)
        if step == 12 and rank == world - 1:
            inputs[0, 0] = torch.nan
        try:
            loss = model(inputs).square().mean()
        except StopTraining:
            stopped = step
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        monitor.log(loss=loss)
    return {**told(monitor), "stopped": stopped}


def apart(rank: int, world: int, directory: Path) -> dict:
    """Every rank trains by itself, into a directory of its own."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / f"run{rank}", every=1)
    for _ in loop(model, monitor, optimizer, rank, 3 + rank):
        pass
    monitor.close()
    return {"alone": monitor._ranks is None, "saved": monitor.saved_step, "failures": monitor.failures}


def only_first(rank: int, world: int, directory: Path) -> dict:
    """`watch` is called on rank 0 only."""
    from datetime import timedelta

    from auscult.monitor import ranks

    ranks.ASSEMBLY = timedelta(seconds=2)
    error = ""
    if rank == 0:
        model = network()
        try:
            auscult.watch(model, torch.optim.SGD(model.parameters(), lr=0.01), directory / "run")
        except SetupError as refused:
            error = str(refused)
    dist.barrier()
    return {"error": error}


def fsdp1(rank: int, world: int, directory: Path) -> dict:
    """FSDP1 is not observed, and says so."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(
        network(), device_mesh=init_device_mesh("cpu", (world,)), device_id=torch.device("cpu"), use_orig_params=True
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    for _ in loop(model, monitor, optimizer, rank, 5):
        pass
    return told(monitor)


def stages(rank: int, world: int, directory: Path) -> dict:
    """Pipeline stages: every rank holds other parameters."""
    stage = nn.Sequential(*[nn.Linear(6, 6) for _ in range(rank + 1)], nn.Linear(6, 1))
    optimizer = torch.optim.SGD(stage.parameters(), lr=0.01)
    monitor = auscult.watch(stage, optimizer, directory / "run", every=1)
    for _ in loop(stage, monitor, optimizer, rank, 5):
        pass
    return told(monitor)


def closed_on_one(rank: int, world: int, directory: Path) -> dict:
    """Rank 0 closes its run, and meets the others before they close theirs."""
    model = wrapped(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    for _ in loop(model, monitor, optimizer, rank, 5):
        pass
    if rank == 0:
        monitor.close()
    dist.barrier()
    return told(monitor)


def raised_on_one(rank: int, world: int, directory: Path) -> dict:
    """An exception ends the run of the last rank; nobody comes to meet it."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    begin = 0.0
    try:
        with auscult.watch(model, optimizer, directory / "run", every=1) as monitor:
            for step, _ in loop(model, monitor, optimizer, rank, 5):
                if rank == world - 1 and step == 3:
                    begin = time.monotonic()
                    raise ArithmeticError("of the user's")
    except ArithmeticError:
        begin = time.monotonic() - begin
    dist.barrier()
    return {"left_after": begin, "failures": monitor.failures}


def joined(rank: int, world: int, directory: Path) -> dict:
    """Inside of Join the last rank makes fewer updates."""
    from torch.distributed.algorithms.join import Join

    model = wrapped(network())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    with Join([model]):
        for _ in loop(model, monitor, optimizer, rank, 5 if rank == world - 1 else 12):
            pass
    return told(monitor)


def late_name(rank: int, world: int, directory: Path) -> dict:
    """Rank 0 logs a new name in its last but one step, when no other rank comes to agree on it."""
    from datetime import timedelta

    from auscult.monitor import exchange, ranks

    ranks.PATIENCE = exchange.PATIENCE = timedelta(seconds=2)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    for step, _ in loop(model, monitor, optimizer, rank, 7 if rank == 0 else 6):
        if rank == 0 and step == 4:
            monitor.log(late=1.0)
    if rank == 0:
        monitor.close()
    dist.barrier()
    return told(monitor)


def missed_turn(rank: int, world: int, directory: Path) -> dict:
    """Measuring fails on the last rank of SequenceParallel, so that Partial gradients are not added up there."""
    bare = worker.network(torch.float32)
    model, _, _ = worker.parallel("tp_sp", bare, rank, world)
    optimizer = torch.optim.SGD(bare.parameters(), lr=0.01)
    from datetime import timedelta

    from auscult.monitor import ranks

    ranks.PARTIAL_PATIENCE = timedelta(seconds=2)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    before, calls = monitor._gauges.ledger.before, []

    def fails_once(positions) -> None:
        calls.append(positions)
        if rank == world - 1 and len(calls) == 3:
            raise ArithmeticError("of ours")
        before(positions)

    monitor._gauges.ledger.before = fails_once
    for step in range(8):
        inputs = torch.randn(4, 4, 5, generator=torch.Generator().manual_seed(step))
        loss = (model(inputs) - 1).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        monitor.log(loss=loss)
    return told(monitor)


def partitioned(rank: int, world: int, directory: Path) -> dict:
    """Every rank updates a part of the parameters and gives it to the others, as partitioned optimizers do."""
    model = network()
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters[rank::world], lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    for _ in loop(model, monitor, optimizer, rank, 5):
        for number, each in enumerate(parameters):
            dist.broadcast(each.data, number % world)
    return told(monitor)


def experts(rank: int, world: int, directory: Path) -> dict:
    """Stages or experts under the same names: every rank holds other values."""
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    for _ in loop(model, monitor, optimizer, rank, 5):
        pass
    return told(monitor)


def split_embedding(rank: int, world: int, directory: Path) -> dict:
    """The gradient of a row-wise embedding is there as a whole on every rank, although its parameter is split."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import RowwiseParallel, parallelize_module

    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 1)).double()
    parallelize_module(model, init_device_mesh("cpu", (world,)), {"0": RowwiseParallel(input_layouts=Replicate())})
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    truth, generator = [], torch.Generator().manual_seed(0)
    for _ in range(4):
        (model(torch.randint(0, 11, (5, 3), generator=generator)) - 1).square().mean().backward()
        truth.append(float(model[0].weight.grad.full_tensor().norm()))
        optimizer.step()
        optimizer.zero_grad()
    return {**told(monitor), "truth": truth}


def compiled(rank: int, world: int, directory: Path) -> dict:
    """DistributedDataParallel inside of torch.compile."""
    model = torch.compile(wrapped(network()), backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = auscult.watch(model, optimizer, directory / "run", every=1)
    for _ in loop(model, monitor, optimizer, rank, 3):
        pass
    return {**told(monitor), "parallel": monitor._ranks.layout.parallel}


if __name__ == "__main__":
    number, count, place = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if count > 1:
        store = f"file://{place}/store-{'-'.join(sys.argv[4:])}"
        dist.init_process_group("gloo", init_method=store, rank=number, world_size=count)
    found = {name: globals()[name](number, count, place / name) for name in sys.argv[4:]}
    (place / f"rank{number}.json").write_text(json.dumps(found))
    if not {"killed", "first_killed"} & set(sys.argv[4:]) and count > 1:
        dist.destroy_process_group()
