"""Numbers from a GPU: nobody waits where they are made, and they are right where they are read."""

import numpy as np
import pytest
import torch
from torch import nn

from auscult.core.sink import empty_row
from auscult.metrics.ledger import GRAD, UPDATE, Ledger
from auscult.metrics.transfer import Transfer

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="not run: needs a CUDA device, and there is none")


def test_on_a_cpu_nothing_is_copied() -> None:
    transfer, tensors = Transfer(), [torch.ones(3), torch.zeros(())]
    assert all(sent is each for sent, each in zip(transfer.send(tensors), tensors, strict=True))
    transfer.wait()


@on_gpu
def test_sent_without_waiting_and_there_after_it() -> None:
    transfer, source = Transfer(), torch.arange(1e6, dtype=torch.float64, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        (sent,) = transfer.send([(source + 1).sum()[None]])
        assert sent.is_pinned()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    transfer.wait()
    assert sent.item() == 1e6 * (1e6 + 1) / 2


@on_gpu
def test_a_step_of_the_ledger_waits_for_nothing() -> None:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, device="cuda")) for shape in ((300, 400), (7,), (1,))]
    for each in parameters:
        each.grad = torch.randn_like(each)
    exact = [each.grad.cpu().double().norm().item() for each in parameters]
    before = [each.detach().cpu().double() for each in parameters]
    optimizer, ledger = torch.optim.AdamW(parameters, lr=0.01), Ledger(parameters)
    torch.cuda.set_sync_debug_mode("error")
    try:
        ledger.gradients([0, 1, 2], moments=True)
        ledger.before([0, 1, 2])
        optimizer.step()
        ledger.after([0, 1, 2], moments=True)
        ledger.send()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    taken, moments = empty_row("norms", 9).reshape(3, 3), empty_row("sampled", 18).reshape(3, 2, 3)
    ledger.collect(taken, moments)
    assert taken[GRAD] == pytest.approx(exact, rel=1e-6)
    after = [each.detach().cpu().double() for each in parameters]
    updates = [(new - old) for new, old in zip(after, before, strict=True)]
    assert taken[UPDATE] == pytest.approx([each.norm().item() for each in updates], rel=1e-5)
    assert moments[UPDATE, 0] == pytest.approx(np.array([each.mean().item() for each in updates]), rel=1e-4, abs=1e-8)
