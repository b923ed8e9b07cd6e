"""Mixed: gradients that lie on several meshes, or on a mesh and beside it, clipped by one norm; torch's own raises."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import utils

from auscult.metrics.shards import is_dtensor


def is_mixed(parameters: Iterable[nn.Parameter]) -> bool:
    """Whether the gradients lie on several meshes, or on a mesh and beside it."""
    return len(_by_mesh(parameters)) > 1


def clip_mixed(
    parameters: Iterable[nn.Parameter], max_norm: float, norm_type: float, error_if_nonfinite: bool
) -> Tensor:
    """Clip as `torch.nn.utils.clip_grad_norm_` would.

    Every rank has to call this. The norms of each mesh, and of what lies on none, are made by torch; their norm is the
    total, so what lies on no mesh has to be the same on all ranks.

    Returns:
        The total norm before clipping, a plain tensor.
    """
    groups = _by_mesh(parameters)
    norms: list[Tensor] = []
    for some in groups.values():
        norm: Any = utils.get_total_norm([each.grad for each in some if each.grad is not None], norm_type)
        norms.append(norm.full_tensor() if is_dtensor(norm) else norm)
    total = torch.linalg.vector_norm(torch.stack([each.to(norms[0].device) for each in norms]), norm_type)
    if error_if_nonfinite and not bool(torch.isfinite(total)):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be "
            "clipped. To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    with torch.no_grad():
        for some in groups.values():
            for each in some:
                part: Any = each.grad
                (part.to_local() if is_dtensor(part) else part).mul_(factor.to(part.device))
    return total


def _by_mesh(parameters: Iterable[nn.Parameter]) -> dict[Any, list[nn.Parameter]]:
    """Parameters with a gradient by its mesh; None for a plain tensor."""
    groups: dict[Any, list[nn.Parameter]] = {}
    for each in parameters:
        if each.grad is not None:
            groups.setdefault(getattr(each.grad, "device_mesh", None), []).append(each)
    return groups
