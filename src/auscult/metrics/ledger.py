"""Ledger: gradient, parameter and update of every parameter around one optimizer step.

One snapshot of the parameters, copied right before the update, gives the update that was really applied.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from auscult.core.sink import Values, to_float32
from auscult.metrics.norms import means_and_stds, measurable, norms

GRAD, PARAM, UPDATE = range(3)


class Ledger:
    """Measures the parameters it was given; row k of every result is parameter k.

    The caller says when: `gradients` before anything clips, `before` and `after` around the optimizer's update.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._position = {id(tensor): position for position, tensor in enumerate(self._parameters)}
        self._snapshots: dict[int, Tensor] = {}
        self._open: list[tuple[int, list[int], Tensor]] = []  # (kind, positions, norms) still on their device
        self._moments: list[tuple[int, list[int], Tensor]] = []
        self._measured: set[int] = set()  # gradients already taken in this step

    def positions(self, tensors: Iterable[Tensor]) -> list[int]:
        """Positions of those tensors that the ledger holds."""
        found = (self._position.get(id(tensor)) for tensor in tensors)
        return [position for position in found if position is not None]

    def everything(self) -> list[int]:
        """All positions."""
        return list(range(len(self._parameters)))

    def gradients(self, positions: Sequence[int], moments: bool) -> None:
        """Take the gradients as they are now, once per step and parameter; those that are None are not observed."""
        fresh = [position for position in positions if position not in self._measured]
        self._measured.update(fresh)
        pairs = [(position, self._parameters[position].grad) for position in fresh]
        present = [(position, grad) for position, grad in pairs if grad is not None and measurable(grad)]
        self._take(GRAD, [position for position, _ in present], [grad for _, grad in present], moments)

    def before(self, positions: Sequence[int]) -> None:
        """Copy the parameters, right before the update."""
        for position in positions:
            tensor = self._parameters[position].detach()
            if not measurable(tensor) or not self._parameters[position].requires_grad:
                continue
            snapshot = self._snapshots.get(position)
            if snapshot is None or snapshot.shape != tensor.shape or snapshot.device != tensor.device:
                self._snapshots[position] = tensor.clone(memory_format=torch.preserve_format)
            else:
                snapshot.copy_(tensor)

    def after(self, positions: Sequence[int], moments: bool) -> None:
        """Take parameters and updates, right after the update."""
        held = [position for position in positions if position in self._snapshots]
        tensors = [self._parameters[position].detach() for position in held]
        updates = [self._update(position, tensor) for position, tensor in zip(held, tensors)]
        self._take(PARAM, held, tensors, moments)
        self._take(UPDATE, held, updates, moments)

    def collect(self, norm_row: Values, moment_row: Values | None) -> None:
        """Bring everything taken since the last call to the host, into rows whose other entries are left alone.

        Args:
            norm_row: `(3, P)`, rows GRAD, PARAM, UPDATE.
            moment_row: `(3, 2, P)`, mean and std of the same; None where no moments were asked for.
        """
        for kind, positions, values in self._open:
            norm_row[kind, positions] = to_float32(values.cpu().numpy())
        if moment_row is not None:
            for kind, positions, values in self._moments:
                moment_row[kind][:, positions] = to_float32(values.cpu().numpy())
        self.discard()

    def discard(self) -> None:
        """Forget what was taken since the last `collect`."""
        self._open.clear()
        self._moments.clear()
        self._measured.clear()

    def release(self) -> None:
        """Free the snapshots."""
        self._snapshots.clear()

    def _update(self, position: int, tensor: Tensor) -> Tensor:
        """Parameter minus snapshot, in float32 for half precision; the snapshot is spent."""
        snapshot = self._snapshots[position]
        if tensor.dtype in (torch.float16, torch.bfloat16):
            return tensor.float() - snapshot.float()
        return torch.sub(tensor, snapshot, out=snapshot)

    def _take(self, kind: int, positions: list[int], tensors: list[Tensor], moments: bool) -> None:
        by_device: dict[torch.device, list[int]] = {}
        for number, tensor in enumerate(tensors):
            by_device.setdefault(tensor.device, []).append(number)
        for numbers in by_device.values():
            some = [tensors[number] for number in numbers]
            where = [positions[number] for number in numbers]
            self._open.append((kind, where, norms(some)))
            if moments:
                self._moments.append((kind, where, means_and_stds(some)))
