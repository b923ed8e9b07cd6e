"""Batch: what a model was called with and what it returned, in a few numbers that stay on their device.

Nothing here waits for an accelerator; every number is a float64 tensor (float32 where the device has no float64).
"""

from collections import deque
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from auscult.metrics.sample import sample, table, wide

LIMIT = 2**14  # elements of a tensor that are looked at on a sampled step
WHOLE = 2**20  # and once, at the first step
REMEMBERED = 4096
TOLD_APART = 16  # neighbours that differ; by chance as many agree in less than one of a million


def moments(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, standard deviation and largest |x| of at most 8,192 elements.

    Args:
        tensor: A tensor of real numbers, with elements.

    Returns:
        Scalars; the standard deviation, Bessel-corrected, of a single element is NaN.
    """
    values = sample(tensor.detach())
    std, mean = _std_and_mean(values)
    return mean, std, values.abs().amax()


def spread(tensor: Tensor) -> Tensor:
    """Minimum and maximum of all elements, mean and standard deviation of at most 8,192 of them.

    Args:
        tensor: A tensor of real numbers, with elements.

    Returns:
        `(4,)`; the standard deviation, Bessel-corrected, of a single element is NaN.
    """
    whole = tensor.detach()
    if whole.dtype == torch.bool or whole.element_size() == 1:
        whole = whole.float()
    std, mean = _std_and_mean(sample(whole))
    return torch.stack([wide(whole.amin()), wide(whole.amax()), mean, std])


def features(tensor: Tensor) -> Tensor:
    """How unlike each other and how far from 0 the features of an input are.

    Args:
        tensor: `(N, F)`, or `(N, C, ...)` with channels for features, floating point.

    Returns:
        `(2,)`: largest / smallest standard deviation over the features that vary, and largest |mean| / standard
        deviation over them; NaN where fewer than two vary, for the second fewer than one.
    """
    rows = table(tensor, 1, WHOLE)
    means, stds = rows.mean(0), (rows - rows.mean(0)).square().mean(0).sqrt()
    varies = rows.amin(0) != rows.amax(0)
    count = varies.sum()
    largest = torch.where(varies, stds, 0.0).amax()
    smallest = torch.where(varies, stds, torch.inf).amin()
    offset = torch.where(varies, means.abs() / stds, 0.0).amax()
    return torch.stack([_where(count >= 2, largest / smallest), _where(count >= 1, offset)])


def spread_over_batch(tensor: Tensor) -> Tensor | None:
    """Root mean square over the columns of an output of their standard deviation over the batch.

    Args:
        tensor: `(N, ...)`, floating point; of N > 4,096 some are looked at.

    Returns:
        Scalar; None for N < 2.
    """
    if tensor.ndim == 0 or tensor.shape[0] < 2:
        return None
    columns = table(tensor[:: -(-tensor.shape[0] // REMEMBERED)], 0, LIMIT)
    return columns.var(dim=1).mean().sqrt()


def sums_to_one(tensor: Tensor, axis: int, logarithms: bool = False) -> Tensor | None:
    """Share of the rows along a dimension that are distributions: not negative, with a sum of 1.

    Args:
        tensor: Floating point; of many rows some are looked at.
        axis: The dimension that they run along.
        logarithms: Whether the rows hold logarithms.

    Returns:
        Scalar; None where there are no rows of two or more.
    """
    if tensor.ndim < 2 or tensor.shape[axis] < 2:
        return None
    rows = table(tensor, axis, WHOLE)
    rows = rows.exp() if logarithms else rows
    rounding = 1e-2 if tensor.element_size() < 4 else 1e-4  # float16 and bfloat16 keep 11 and 8 bits
    return wide((rows >= 0).all(1) & ((rows.sum(1) - 1).abs() <= rounding)).mean()


def fingerprint(tensor: Tensor) -> Tensor:
    """Weighted sums of at most 8,192 elements, by which two batches of one shape are told apart.

    Args:
        tensor: A tensor of real numbers, with elements.

    Returns:
        `(3,)`.
    """
    values = sample(tensor.detach())
    return _weights(values.numel(), values.device, values.dtype) @ values


class Fingerprints:
    """The batches seen lately, 4,096 at most."""

    def __init__(self) -> None:
        self._known: set[tuple[object, ...]] = set()
        self._order: deque[tuple[object, ...]] = deque()

    def is_repeated(self, shape: Sequence[int], values: Sequence[float]) -> bool:
        """Whether a batch of this shape and fingerprint has been here before; from now on it has."""
        key = (tuple(shape), *values)
        if key in self._known:
            return True
        if len(self._order) == REMEMBERED:
            self._known.discard(self._order.popleft())
        self._known.add(key)
        self._order.append(key)
        return False


def _std_and_mean(values: Tensor) -> tuple[Tensor, Tensor]:
    if values.numel() > 1:
        return torch.std_mean(values)
    mean = values.mean()
    return torch.full_like(mean, torch.nan), mean


def _where(condition: Tensor, value: Tensor) -> Tensor:
    return torch.where(condition, value, torch.nan)


@lru_cache(maxsize=8)
def _weights(count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Fixed weights `(3, count)` in (0, 1), without order and drawn by nobody: multiples of square roots, modulo 1."""
    positions = torch.arange(1, count + 1, device=device, dtype=dtype)
    roots = torch.tensor([2.0, 3.0, 5.0], device=device, dtype=dtype).sqrt()
    return torch.outer(roots, positions).frac()


def same_share(tokens: Tensor, target: Tensor, ignored: int) -> Tensor | None:
    """Share of targets that are the token at their own position: 1 where the shift by one was forgotten.

    Args:
        tokens: Whole numbers `(N, T)` that the model was called with.
        target: Class indices, `(N, T)` or any shape of as many elements in this order.
        ignored: The class index that does not count.

    Returns:
        A scalar: 0 where tokens are negative, as padded labels are and ids are not; NaN where fewer than 16 neighbours
        among the targets differ, because they might agree by chance. None where the two cannot be compared.
    """
    if tokens.ndim != 2 or tokens.shape[1] < 2 or target.is_floating_point() or tokens.device != target.device:
        return None
    if target.numel() != tokens.numel():
        return None
    said = target.reshape(tokens.shape)
    counts = said != ignored
    share = wide(((said == tokens) & counts).sum()) / counts.sum()
    differ = (said[:, 1:] != said[:, :-1]) & counts[:, 1:] & counts[:, :-1]
    return _where(differ.sum() >= TOLD_APART, torch.where((tokens < 0).any(), 0.0, share))


def next_share(tokens: Tensor, target: Tensor) -> Tensor | None:
    """Share of targets that are the token one position later: near 1 where a model predicts what comes next.

    Args:
        tokens: Whole numbers `(N, T)` that the model was called with.
        target: Class indices, `(N, T)` or `(N, T - 1)` in any shape of as many elements; those below 0 do not count.

    Returns:
        A scalar, NaN where none counts; None where the two cannot be compared.
    """
    if tokens.ndim != 2 or tokens.shape[1] < 2 or target.is_floating_point() or tokens.device != target.device:
        return None
    rows, length = tokens.shape
    if target.numel() not in (rows * length, rows * (length - 1)):
        return None
    said = target.reshape(rows, -1)[:, : length - 1]
    counts = said >= 0
    return wide(((said == tokens[:, 1:]) & counts).sum()) / counts.sum()
