"""L2 norms and moments of many tensors at once, true to float64.

Knows nothing of parameters or steps: tensors in, float64 tensors out, no host transfer on an accelerator.

PyTorch's own float32 norms accumulate naively on CPU: 1e-5 off at 1e6 elements, 1e-3 at 2e7, and squares leave the
float32 range for elements below 1e-19 or above 1e19. Here the CPU sums rows of 512 elements in float32 and combines
them in float64 (at most 6e-7 off, for a constant tensor); what leaves the safe range is measured again in float64.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ROW = 512
# Outside of these bounds float32 squares may have under- or overflowed, so that the norm is taken again in float64.
SAFE_LOW, SAFE_HIGH = 1e-13, 1e17
_IS_WRAPPED = getattr(getattr(getattr(torch, "_C", None), "_functorch", None), "is_functorch_wrapped_tensor", None)


def measurable(tensor: Tensor) -> bool:
    """Whether the local data of a tensor are the whole tensor and have values (no meta tensors, no shards)."""
    return not tensor.is_meta and not hasattr(tensor, "to_local")


def is_transformed(tensor: Tensor) -> bool:
    """Whether a tensor stands for many, inside torch.func.vmap or grad, and has no values of its own."""
    return _IS_WRAPPED is not None and bool(_IS_WRAPPED(tensor))


def norms(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of each tensor.

    Args:
        tensors: N tensors on one device, of any dtype and layout, each `measurable`.

    Returns:
        float64 `(N,)` on that device (float32 where it has no float64). NaN where a tensor holds one; inf where it
        holds an infinity and no NaN.
    """
    if not tensors:
        return torch.empty(0, dtype=torch.float64)
    dense = [as_real(each) for each in tensors]
    if not dense[0].is_cpu:
        wide = torch.float32 if dense[0].device.type == "mps" else torch.float64
        return torch.stack([torch.linalg.vector_norm(each, dtype=wide) for each in dense])
    result = _float32_norms(dense)
    for position in np.flatnonzero(is_unsafe(result.numpy())).tolist():
        result[position] = exact_norm(dense[position])
    return result


def is_unsafe(found: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which float32 norms `(N,)` may have suffered from squares outside of the float32 range; NaN is none of them."""
    return (found <= SAFE_LOW) | (found >= SAFE_HIGH)


def exact_norm(tensor: Tensor) -> Tensor:
    """The norm of one tensor in float64, scalar; dear, for norms that are unsafe in float32."""
    if not bool(tensor.any()):
        return torch.zeros((), dtype=torch.float64)
    return torch.linalg.vector_norm(tensor, dtype=torch.float64)


def means_and_stds(tensors: Sequence[Tensor]) -> Tensor:
    """Mean and Bessel-corrected standard deviation of each tensor.

    Two passes, so that a mean far from 0 costs no digits.

    Args:
        tensors: N tensors on one device, each `measurable`.

    Returns:
        float64 `(2, N)`; the std of a tensor with fewer than two elements is NaN, as in torch.
    """
    if not tensors:
        return torch.empty(2, 0, dtype=torch.float64)
    dense = [as_real(each) for each in tensors]
    if dense[0].device.type == "mps":
        wide = [each.float() for each in dense]
        return torch.stack([torch.stack([each.mean() for each in wide]), torch.stack([each.std() for each in wide])])
    counts = [max(each.numel(), whole.numel()) for each, whole in zip(dense, tensors)]  # sparse ones store fewer
    means = torch.stack([each.sum(dtype=torch.float64) / max(count, 1) for each, count in zip(dense, counts)])
    stored = norms([each.double() - mean if each.numel() <= ROW else each - mean for each, mean in zip(dense, means)])
    absent = torch.tensor([count - each.numel() for each, count in zip(dense, counts)])
    absent = absent.to(means.device, non_blocking=True)
    squares = stored.square() + absent.clamp(min=0) * means.square()
    degrees = torch.tensor([float(count - 1) for count in counts], dtype=torch.float64)
    degrees = degrees.to(means.device, non_blocking=True)
    stds = torch.where(degrees > 0, (squares / degrees.clamp(min=1)).sqrt(), torch.nan)
    return torch.stack([torch.where(degrees >= 0, means, torch.nan), stds])


def as_real(tensor: Tensor) -> Tensor:
    """The elements as a real, strided, detached tensor; shares memory wherever it can."""
    tensor = tensor.detach()
    if tensor.layout != torch.strided:
        tensor = tensor.coalesce().values() if tensor.layout == torch.sparse_coo else tensor.values()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())  # autograd conjugates lazily
    if not tensor.is_floating_point() or tensor.element_size() == 1:  # integers, float8
        tensor = tensor.float()
    return tensor


def _float32_norms(tensors: Sequence[Tensor]) -> Tensor:
    """Norms `(N,)` on CPU: one fused call for the small tensors, rows of 512 for the large ones."""
    result = torch.empty(len(tensors), dtype=torch.float64)
    small = [position for position, each in enumerate(tensors) if each.numel() <= ROW]
    if small:
        wide = [tensors[position].float() if _is_half(tensors[position]) else tensors[position] for position in small]
        result[small] = torch.stack([each.double() for each in _each_norm(wide)])
    for position, each in enumerate(tensors):
        if each.numel() > ROW:
            result[position] = _norm_by_rows(each)
    return result


def _each_norm(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """One norm per tensor, in one call where this torch has it (its public twin gives the total only)."""
    fused = getattr(torch, "_foreach_norm", None)
    return [torch.linalg.vector_norm(each) for each in tensors] if fused is None else fused(tensors, 2.0)


def _norm_by_rows(tensor: Tensor) -> Tensor:
    flat = tensor.view(-1) if tensor.is_contiguous() else tensor.contiguous().view(-1)
    whole = flat.numel() // ROW * ROW
    kind = torch.float32 if _is_half(flat) else None
    rows = torch.linalg.vector_norm(flat[:whole].view(-1, ROW), dim=1, dtype=kind).double()
    squares = torch.dot(rows, rows)
    if whole < flat.numel():
        squares = squares + torch.linalg.vector_norm(flat[whole:], dtype=kind).double().square()
    return squares.sqrt()


def _is_half(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.float16, torch.bfloat16)
