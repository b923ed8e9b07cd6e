"""The model's parameters and modules, as a table: each tensor once, however many names it has."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from weakref import ref

from torch import nn
from torch.optim import Optimizer

from auscult.core.errors import SetupError
from auscult.core.run import Module, ModuleKind, Parameter

# Prefixes that torch's wrappers put into qualified names: compile, DDP (`module.` at the root), FSDP1, checkpointing.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_KINDS: dict[ModuleKind, tuple[type[nn.Module], ...]] = {
    "dropout": _DROPOUTS,
    "affine": (
        nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d,
        nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    ),
    "normalisation": (
        nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm,
        nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.LocalResponseNorm,
    ),
    "embedding": (nn.Embedding, nn.EmbeddingBag),
    "recurrent": (nn.RNNBase, nn.RNNCellBase),
    "attention": (nn.MultiheadAttention,),
    "shape": (
        nn.Identity, nn.Flatten, nn.Unflatten, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
        nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    ),
    "activation": (
        nn.CELU, nn.ELU, nn.GELU, nn.GLU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU,
        nn.LogSigmoid, nn.LogSoftmax, nn.Mish, nn.PReLU, nn.RReLU, nn.ReLU, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softmax,
        nn.Softmax2d, nn.Softmin, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold,
    ),
}  # fmt: skip


def clean_path(path: str) -> str:
    """A qualified name without the prefixes of torch's wrappers."""
    parts = [part for part in path.split(".") if part not in _WRAPPERS]
    return ".".join(parts)


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module inside DistributedDataParallel and DataParallel, also where these were compiled."""
    inner: nn.Module = getattr(model, "_orig_mod", model)
    while type(inner).__name__ in ("DistributedDataParallel", "DataParallel") and isinstance(inner.module, nn.Module):
        model = inner = inner.module
    return model


def parameter_table(
    model: nn.Module,
    optimizers: Mapping[str, Optimizer],
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
) -> tuple[list[nn.Parameter], tuple[Parameter, ...]]:
    """Every parameter of the model once, in definition order, with its description.

    Args:
        model: The model.
        optimizers: Optimizers by name; `""` names the only one.
        include: Patterns (`encoder.*`) of paths to keep; None keeps all.
        exclude: Patterns of paths to leave out.

    Raises:
        SetupError: if nothing trainable is left.
    """
    groups = _groups(optimizers)
    names: dict[int, list[str]] = {}
    tensors: dict[int, nn.Parameter] = {}
    for path, tensor in unwrap(model).named_parameters(remove_duplicate=False):
        names.setdefault(id(tensor), []).append(clean_path(path))
        tensors[id(tensor)] = tensor
    wanted = [key for key, paths in names.items() if _selected(paths, include, exclude)]
    if not any(tensors[key].requires_grad for key in wanted):
        raise SetupError(
            f"Expected `model` to have at least one parameter that requires grad, but got 0 of {len(names)}"
            f"{' after include/exclude' if len(wanted) < len(names) else ''}. "
            "Was it frozen? Call `watch` after unfreezing: model.requires_grad_(True)."
        )
    table = tuple(
        Parameter(
            path=names[key][0],
            shape=tuple(tensors[key].shape),
            dtype=str(tensors[key].dtype).removeprefix("torch."),
            trainable=tensors[key].requires_grad,
            group=groups.get(key),
            aliases=tuple(names[key][1:]),
        )
        for key in wanted
    )
    return [tensors[key] for key in wanted], table


class Places:
    """Where each parameter hangs in its model, so that it is noticed at little cost when another one has come there.

    Args:
        model: The model.
        parameters: The parameters; position k is parameter k.
    """

    def __init__(self, model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        root = unwrap(model)
        self._model = ref(root)
        self._parameters = list(parameters)
        found = {
            id(tensor): (ref(module), name)
            for module in root.modules()
            for name, tensor in module.named_parameters(recurse=False, remove_duplicate=False)
        }
        self._places = [found[id(tensor)] for tensor in self._parameters]

    def still_there(self, positions: Sequence[int]) -> list[int]:
        """Those of the positions whose parameters the model still has; all of them if the model is gone."""
        moved = {position for position in positions if not self._is_in_place(position)}
        model = self._model()
        if not moved or model is None:
            return list(positions)
        present = {id(tensor) for tensor in model.parameters()}
        gone = {position for position in moved if id(self._parameters[position]) not in present}
        return [position for position in positions if position not in gone]

    def _is_in_place(self, position: int) -> bool:
        module, name = self._places[position]
        owner = module()
        return owner is not None and owner.__dict__["_parameters"].get(name) is self._parameters[position]


def module_table(model: nn.Module) -> tuple[Module, ...]:
    """Every module of the model in definition order, the root (`""`) included."""
    return tuple(
        Module(
            clean_path(path),
            type(module).__name__,
            next(module.children(), None) is None,
            kind_of(module),
            float(module.p) if isinstance(module, _DROPOUTS) else None,
        )
        for path, module in unwrap(model).named_modules()
    )


def kind_of(module: nn.Module) -> ModuleKind:
    """What a module does to numbers."""
    for kind, types in _KINDS.items():
        if isinstance(module, types):
            return kind
    return "other"


def group_path(optimizer: str, group: int) -> str:
    """Path of an optimizer's parameter group, under which `lr` is recorded: `0`, or `generator.0` for a named one."""
    return f"{optimizer}.{group}" if optimizer else str(group)


def _groups(optimizers: Mapping[str, Optimizer]) -> dict[int, str]:
    return {
        id(tensor): group_path(name, number)
        for name, optimizer in optimizers.items()
        for number, group in enumerate(optimizer.param_groups)
        for tensor in group["params"]
    }


def _selected(paths: Sequence[str], include: Sequence[str] | None, exclude: Sequence[str] | None) -> bool:
    def matches(patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(path, pattern) for path in paths for pattern in patterns)

    return (include is None or matches(include)) and not (exclude is not None and matches(exclude))
