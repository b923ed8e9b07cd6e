"""Memory: one copy of the parameters while a run is watched, and none of it after `close`."""

import gc
import warnings

import pytest
import torch
from torch import Tensor, nn

import auscult

MEGABYTE = 2**20


def bytes_of_others(known: list[Tensor]) -> int:
    """Bytes of all tensors in this process that are on their own storage, beside the known ones."""
    seen = {each.untyped_storage().data_ptr() for each in known}
    total = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for each in gc.get_objects():
            if isinstance(each, Tensor) and each.layout == torch.strided and each.device.type == "cpu":
                storage = each.untyped_storage()
                if storage.data_ptr() not in seen:
                    seen.add(storage.data_ptr())
                    total += storage.nbytes()
    return total


@pytest.mark.parametrize(("width", "layers", "snapshot"), [(1024, 4, True), (200, 100, True), (1024, 4, False)])
def test_one_copy_of_the_parameters_and_none_after_close(tmp_path, width, layers, snapshot) -> None:
    """Large matrices, then many small ones, which go through the pack; then without a copy."""
    gc.collect()
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs = torch.randn(2, width)

    def step() -> None:
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    parameters = [*model.parameters()]
    size = sum(each.numel() * each.element_size() for each in parameters)
    before = bytes_of_others(parameters)
    monitor = auscult.watch(model, optimizer, tmp_path / "run", every=(1, 1024), activations=False, snapshot=snapshot)
    step()  # the first is examined in full detail
    held: list[int] = []
    for _ in range(3):
        step()
        held.append(bytes_of_others(parameters) - before)
    monitor.close()
    after = bytes_of_others(parameters) - before
    copies = float(snapshot)
    assert 0.9 * copies * size <= max(held) <= 1.05 * copies * size + 6 * MEGABYTE, (size, held)
    assert after < MEGABYTE, after
