"""Memory: one copy of the parameters while a run is watched, and none of it after `close`."""

import gc
import json
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

import auscult

MEGABYTE = 2**20


def bytes_of_others(known: list[Tensor]) -> int:
    """Bytes of all tensors in this process that are on their own storage, beside the known ones."""
    seen = {each.untyped_storage().data_ptr() for each in known}
    total = 0
    for each in gc.get_objects():
        if isinstance(each, Tensor) and each.layout == torch.strided:
            storage = each.untyped_storage()
            if storage.data_ptr() not in seen:
                seen.add(storage.data_ptr())
                total += storage.nbytes()
    return total


def measure(path: str, width: int, layers: int, snapshot: bool) -> tuple[int, int, int]:
    """Bytes of the parameters, the most that is held beside them while they are watched, and what remains of it."""
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    inputs = torch.randn(2, width)

    def step() -> None:
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    parameters = [*model.parameters()]
    before = bytes_of_others(parameters)
    monitor = auscult.watch(model, optimizer, path, every=(1, 1024), activations=False, snapshot=snapshot)
    step()  # the first is examined in full detail
    held: list[int] = []
    for _ in range(3):
        step()
        held.append(bytes_of_others(parameters) - before)
    monitor.close()
    size = sum(each.numel() * each.element_size() for each in parameters)
    return size, max(held), bytes_of_others(parameters) - before


@pytest.mark.parametrize(("width", "layers", "snapshot"), [(1024, 4, True), (200, 100, True), (1024, 4, False)])
def test_one_copy_of_the_parameters_and_none_after_close(tmp_path, width, layers, snapshot) -> None:
    """Large matrices, then many small ones, which go through the pack; then without a copy. In a process of its own."""
    given = json.dumps([str(tmp_path / "run"), width, layers, snapshot])
    told = subprocess.run([sys.executable, __file__, given], capture_output=True, text=True, check=True).stdout
    size, held, after = json.loads(told)
    copies = float(snapshot)
    assert 0.9 * copies * size <= held <= 1.05 * copies * size + 6 * MEGABYTE, (size, held)
    assert after < MEGABYTE, after


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(*json.loads(sys.argv[1]))))
