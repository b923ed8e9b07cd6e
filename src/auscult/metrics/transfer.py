"""Transfer: numbers on their way from a GPU to the host, for which nobody waits until they are read."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Transfer:
    """Copies small tensors into pinned memory behind the work that makes them; on a CPU there is nothing to copy."""

    def __init__(self) -> None:
        self._events: list[torch.cuda.Event] = []

    def send(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Let tensors set out, without waiting.

        Returns:
            What holds their numbers once `wait` has returned, in pinned memory; a tensor that is not on a GPU, itself.
        """
        sent = [each.to("cpu", non_blocking=True) if each.is_cuda else each for each in tensors]
        for device in {each.device for each in tensors if each.is_cuda}:
            event = torch.cuda.Event()
            event.record(torch.cuda.current_stream(device))
            self._events.append(event)
        return sent

    def wait(self) -> None:
        """Wait until everything that was sent is there, which is no wait for what was asked of the device later."""
        for event in self._events:
            event.synchronize()
        self._events.clear()
