"""Shards: which part of each parameter this rank holds, and gradients whose parts are still to be added up.

Knows the placements of DTensor (Shard, Replicate, Partial), nothing of steps. A plain tensor is held whole by every
rank.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

WRAPPED = "FullyShardedDataParallel"
"""Name of FSDP1's wrapper, whose parameters are views of a flat one."""

_NOWHERE: Any = object()

Sums = dict[tuple[int, ...], Callable[[Tensor], None]]
"""What adds a tensor up over some ranks, in place, by these ranks in order."""


class Layout(NamedTuple):
    """How the parameters of a model lie on the ranks, as this rank sees it.

    Attributes:
        signature: What must be the same on all ranks: kind and placements of every parameter. Plain text.
        kinds: For each parameter the kind of its sharding, an index into `coordinates`.
        coordinates: For each kind, which of the shards this rank holds; None where it holds none.
        lines: Ranks along every mesh dimension on which a parameter is replicated and its gradient may be Partial.
        parallel: Whether every rank is known to train on data of its own.
        reason: Why the parameters cannot be measured over all ranks; empty where they can.
    """

    signature: str
    kinds: tuple[int, ...]
    coordinates: tuple[tuple[int, ...] | None, ...]
    lines: tuple[tuple[int, ...], ...]
    parallel: bool
    reason: str


def is_dtensor(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, whose local data are a part of it."""
    return hasattr(tensor, "to_local") and hasattr(tensor, "placements")


def local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, detached; of a DTensor its local part, without any communication."""
    if not is_dtensor(tensor):
        return tensor.detach()
    with torch.no_grad():
        part: Any = tensor.detach().to_local()  # pyright: ignore[reportAttributeAccessIssue]
    return part.wait() if hasattr(part, "wait") else part


def layout_of(model: nn.Module, paths: Sequence[str], parameters: Sequence[Tensor], world: int) -> Layout:
    """How some parameters of a model lie on the ranks."""
    meshes: dict[Any, int] = {}
    known: dict[tuple[int, tuple[int, ...]], int] = {}
    kinds: list[int] = []
    signature: list[str] = []
    coordinates: list[tuple[int, ...] | None] = []
    lines: set[tuple[int, ...]] = set()
    for path, tensor in zip(paths, parameters, strict=True):
        placements: tuple[Any, ...] = getattr(tensor, "placements", ()) if is_dtensor(tensor) else ()
        mesh: Any = _mesh_of(tensor) if placements else _NOWHERE
        number = 0 if mesh is _NOWHERE else meshes.setdefault(mesh, len(meshes) + 1)
        split = tuple(at for at, each in enumerate(placements) if not each.is_replicate())
        key = (number if split else 0, split)
        if key not in known:
            known[key] = len(known)
            at = mesh.get_coordinate() if split else []
            coordinates.append(None if at is None else tuple(int(at[each]) for each in split))
        kinds.append(known[key])
        signature.append(f"{path} {tuple(tensor.shape)} {known[key]} {placements}")
        lines |= {_line(mesh, at) for at in range(len(placements)) if at not in split and mesh.size(at) > 1}
    parallel = _is_data_parallel(model, parameters, world)
    reason = _unsupported(model, parameters)
    lines = set() if parallel else lines
    return Layout("\n".join(signature), tuple(kinds), tuple(coordinates), tuple(sorted(lines)), parallel, reason)


def whole_gradients(gradients: Mapping[int, tuple[Tensor, Tensor]], sums: Sums) -> dict[int, Tensor]:
    """Of each gradient the part that belongs to this rank's part of its parameter, nothing left to be added up.

    Those that are Partial are added up here, all of one mesh in one collective, in float64 on the host. Every rank of
    the mesh has to call this at the same point of the same step.

    Args:
        gradients: Parameters and their gradients by any key.
        sums: What adds them up.

    Returns:
        The parts by key; left out is a Partial gradient that is no sum or mean or that nothing adds up, and one that
        is split otherwise than its parameter.
    """
    found: dict[int, Tensor] = {}
    partial: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for key, (parameter, gradient) in gradients.items():
        placements: Sequence[Any] = getattr(gradient, "placements", ()) if is_dtensor(gradient) else ()
        open_dims = [at for at, each in enumerate(placements) if each.is_partial()]
        if not open_dims:
            _put(found, key, parameter, gradient, local(gradient))
        elif all(placements[at].reduce_op in ("sum", "avg") for at in open_dims):
            mesh: Any = gradient.device_mesh  # pyright: ignore[reportAttributeAccessIssue]
            along = tuple(_line(mesh, at) for at in open_dims if mesh.size(at) > 1)
            if all(each in sums for each in along):
                partial.setdefault(along, []).append(key)
    for along, keys in partial.items():
        parts = [local(gradients[key][1]) for key in keys]
        flat = torch.cat([each.reshape(-1).to("cpu", torch.float64) for each in parts])
        for line in along:
            sums[line](flat)
        for key, part, values in zip(keys, parts, flat.split([each.numel() for each in parts]), strict=True):
            parameter, gradient = gradients[key]
            _put(found, key, parameter, gradient, values.view(part.shape) / _averaged(gradient))
    return found


def _put(found: dict[int, Tensor], key: int, parameter: Tensor, gradient: Any, part: Tensor) -> None:
    """Note this rank's part of a gradient, cut to its part of the parameter where the gradient is there as a whole."""
    lies, wanted = _placements(gradient), _placements(parameter)
    if lies == wanted:
        found[key] = part
    elif len(lies) == len(wanted) and all(
        own == other or (own.is_replicate() and other.is_shard()) for own, other in zip(lies, wanted, strict=True)
    ):
        from torch.distributed.tensor import DTensor  # not in every build of torch

        shape = {"shape": gradient.shape, "stride": gradient.stride()}
        with torch.no_grad():
            whole = DTensor.from_local(part, parameter.device_mesh, lies, run_check=False, **shape)  # pyright: ignore[reportAttributeAccessIssue]
            found[key] = local(whole.redistribute(parameter.device_mesh, wanted))  # pyright: ignore[reportAttributeAccessIssue]


def _placements(tensor: Any) -> tuple[Any, ...]:
    """How a tensor lies on its mesh; what is Partial counts as added up."""
    if not is_dtensor(tensor):
        return ()
    from torch.distributed.tensor import Replicate

    return tuple(Replicate() if each.is_partial() else each for each in tensor.placements)


def sum_of_bits(tensor: Tensor) -> "int | Tensor":
    """The bits of a tensor, summed up as whole numbers modulo 2**64: a change of any one element changes the sum.

    Returns:
        A number; of a tensor on an accelerator an int64 scalar there, for which nobody has waited.
    """
    if not tensor.numel() or tensor.is_meta or tensor.layout != torch.strided:
        return 0
    flat = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    bits = flat.contiguous().view(-1).view(torch.uint8)
    if not bits.is_cpu:
        whole = bits.numel() // 4 * 4
        return bits[:whole].view(torch.int32).sum(dtype=torch.int64) + bits[whole:].sum(dtype=torch.int64)
    array = bits.numpy()
    whole = array.size // 8 * 8
    return (int(np.add.reduce(array[:whole].view(np.uint64))) + int(array[whole:].sum(dtype=np.uint64))) % 2**64


def fingerprint(sums: Iterable["int | Tensor"]) -> int:
    """One number below 2**64 of the sums of the bits of some tensors, in order."""
    total = 0
    for each in sums:
        total = (total * 0x9E3779B97F4A7C15 + int(each)) % 2**64  # odd: no sum is lost
    return total


def _mesh_of(tensor: Tensor) -> Any:
    return getattr(tensor, "device_mesh", None)


def _line(mesh: Any, at: int) -> tuple[int, ...]:
    """The ranks that differ from this one in one coordinate of a mesh only."""
    return tuple(dist.get_process_group_ranks(mesh.get_group(at)))


def _averaged(gradient: Any) -> int:
    """By what the sum of a Partial gradient is to be divided."""
    mesh: Any = gradient.device_mesh
    factor = 1
    for at, each in enumerate(gradient.placements):
        if each.is_partial() and each.reduce_op == "avg":
            factor *= int(mesh.size(at))
    return factor


def _is_data_parallel(model: nn.Module, parameters: Sequence[Tensor], world: int) -> bool:
    """Whether the model is DDP, FSDP2 or HSDP over all ranks, and nothing else."""
    sharded: list[Any] = [each for each in parameters if is_dtensor(each)]
    if not sharded:
        return type(getattr(model, "_orig_mod", model)).__name__ == "DistributedDataParallel"
    if not any(type(each).__name__.startswith("FSDP") for each in model.modules()):
        return False
    first = sharded[0]
    alike = all(each.device_mesh == first.device_mesh and each.placements == first.placements for each in sharded)
    ends = [each.is_shard(0) for each in first.placements]
    return alike and len(sharded) == len(parameters) and first.device_mesh.size() == world and sum(ends) == 1


def _unsupported(model: nn.Module, parameters: Sequence[Tensor]) -> str:
    if any(type(each).__name__ == WRAPPED for each in model.modules()):
        return "FSDP1 keeps parameters as views of a flat one; FSDP2 (`fully_shard`) is measured"
    if any(each.is_partial() for tensor in parameters for each in getattr(tensor, "placements", ())):
        return "a parameter is itself Partial"
    return ""
