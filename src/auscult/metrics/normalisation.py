"""Normalisation: how far the statistics of a batch are from those that the module will use in evaluation."""

import math

import torch
from torch import Tensor, nn

from auscult.metrics.norms import is_transformed, measurable

METRICS = ("statistics_shift", "statistics_scale")
SEEN = 2**18
"""Elements of an input that are looked at, of every sample as long as there are no more samples than that."""

_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # not SyncBatchNorm, whose batch is on other ranks as well


def statistics_apart(module: nn.Module, inputs: object) -> Tensor | None:
    """Compare the batch with the running statistics as they were before it, after a call that has updated them.

    Args:
        module: The module that was called.
        inputs: The positional arguments of the call.

    Returns:
        float64 `(2,)`, as `METRICS`: medians over channels of |running mean - batch mean| / sqrt(running variance +
        eps), and of (batch variance + eps) / (running variance + eps); variances are Bessel-corrected, as running ones
        are. None for another module, in evaluation mode, or where the old statistics are lost (`momentum=1`).
    """
    if not isinstance(module, _TYPES) or not module.training or not module.track_running_stats:
        return None
    batch = inputs[0] if isinstance(inputs, tuple) and inputs else None
    if module.running_mean is None or module.running_var is None or module.momentum == 1 or batch is None:
        return None
    if not measurable(batch) or is_transformed(batch) or not batch.numel():
        return None
    wide = torch.float32 if batch.device.type == "mps" else torch.float64
    some = _thinned(batch.detach())
    others = [axis for axis in range(some.ndim) if axis != 1]
    if some.numel() < 2 * some.shape[1]:
        return None
    variance, mean = torch.var_mean(some.to(wide), others)
    share = _share_of_the_batch(module, wide)
    old_mean = _before(module.running_mean.detach().to(wide), mean, share)
    old_variance = _before(module.running_var.detach().to(wide), variance, share).clamp(min=0) + module.eps
    shift = (old_mean - mean).abs() / old_variance.sqrt()
    return torch.stack([shift.quantile(0.5), ((variance + module.eps) / old_variance).quantile(0.5)])


def _share_of_the_batch(module: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d, wide: torch.dtype) -> float | Tensor:
    """What part of the running statistics this batch has become; 1 / batches where they are plain averages."""
    if module.momentum is not None:
        return module.momentum
    batches = module.num_batches_tracked
    return 0.0 if batches is None else 1 / batches.to(wide).clamp(min=1)


def _before(now: Tensor, batch: Tensor, share: float | Tensor) -> Tensor:
    """What `now = (1 - share) * before + share * batch` was before; of the first of an average, `now`."""
    if isinstance(share, Tensor):
        return torch.where(share < 1, (now - share * batch) / (1 - share), now)
    return (now - share * batch) / (1 - share)


def _thinned(batch: Tensor) -> Tensor:
    """Some elements of a batch `(N, C, ...)`: positions from a grid, then, where these do not suffice, some samples."""
    excess = batch.numel() / SEEN
    places = batch.ndim - 2
    if excess > 1 and places:
        step = math.ceil(excess ** (1 / places))
        grid = [slice(min(step, size) // 2, None, step) for size in batch.shape[2:]]
        batch = batch[(slice(None), slice(None), *grid)]
    return batch[:: max(1, math.ceil(batch.numel() / SEEN))]
