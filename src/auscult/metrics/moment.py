"""Moment: what a training forward pass began with, so that it can be made again."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from auscult.metrics.calls import replace_tensors, tensors

BATCH_NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
    nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip
"""Modules that write their buffers while training, and read them only while evaluating."""

Written = tuple[Tensor, int]
"""A tensor, and how often it had been written to in place."""
Setting = tuple[dict[str, Any], str, Any]
"""The attributes of a module, the name of one of them and its value."""


class Moment(NamedTuple):
    """What a training forward pass began with: references, with a count of writes that tells whether they still hold.

    Attributes:
        args: Its positional arguments, detached.
        kwargs: Its keyword arguments, detached.
        written: The tensors among them.
        rng: State of the CPU's generator.
        device_rng: State of the accelerator's generator; None where there is none, or it cannot be read.
        autocast: The dtype of autocast by device type; None where it was not enabled.
        buffers: The buffers as they were, by path; those of batch norm in training are not read and so not kept.
        settings: Numbers, strings and flags that the user's modules keep in plain attributes: where, name and value.
        calls: How many training forward passes the step has had, this one included.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    written: tuple[Written, ...]
    rng: Tensor
    device_rng: Tensor | None
    autocast: Mapping[str, torch.dtype | None]
    buffers: Mapping[str, Written]
    settings: tuple[Setting, ...]
    calls: int

    def overwritten(self) -> bool:
        """Whether an argument has been written to since, or is another tensor."""
        now = list(tensors((self.args, self.kwargs)))
        return len(now) != len(self.written) or any(
            each is not tensor or version(tensor) != count
            for each, (tensor, count) in zip(now, self.written, strict=True)
        )

    def copied(self) -> "Moment":
        """The same with copies of the arguments, for writes that nothing counts: into an array that shares memory."""
        args, kwargs = replace_tensors((self.args, self.kwargs), _copy)
        return self._replace(
            args=args, kwargs=kwargs, written=tuple([(each, version(each)) for each in tensors((args, kwargs))])
        )


def take_moment(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    device: torch.device,
    buffers: Mapping[str, Written],
    settings: tuple[Setting, ...],
    calls: int,
) -> Moment:
    """The moment that is now; waits for no accelerator.

    Args:
        args: The positional arguments of the forward pass.
        kwargs: Its keyword arguments.
        device: Where the model is.
        buffers: The model's buffers as they are now, and their counts of writes.
        settings: The plain attributes of the user's modules as they are now.
        calls: How many training forward passes the step has had, this one included.
    """
    given = args if not kwargs and all(map(_is_tensor, args)) else tuple(tensors((args, kwargs)))
    if given is not args or any(each.requires_grad for each in given):
        args, kwargs = replace_tensors((args, kwargs), detached)  # in containers of our own, which nobody fills anew
        given = tuple(tensors((args, kwargs)))
    written = tuple([(each, version(each)) for each in given])
    kind = device.type
    autocast = {each: _autocast(each) for each in (("cpu",) if kind == "cpu" else ("cpu", kind))}
    device_rng = _device_rng(device) if kind == "cuda" else None
    return Moment(args, kwargs, written, torch.get_rng_state(), device_rng, autocast, buffers, settings, calls)


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def version(tensor: Tensor) -> int:
    """How often a tensor has been written to in place; inference tensors do not count it."""
    return 0 if tensor.is_inference() else tensor._version


def detached(tensor: Tensor) -> Tensor:
    """The tensor without its history, asking for a gradient where it did."""
    return tensor.detach().requires_grad_() if tensor.requires_grad else tensor


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _autocast(kind: str) -> torch.dtype | None:
    known = kind in ("cpu", "cuda") or torch.amp.is_autocast_available(kind)
    return torch.get_autocast_dtype(kind) if known and torch.is_autocast_enabled(kind) else None


def _device_rng(device: torch.device) -> Tensor | None:
    """The generator's seed and offset are kept on the host, so that reading them does not wait for the device."""
    return None if torch.cuda.is_current_stream_capturing() else torch.cuda.get_rng_state(device)
