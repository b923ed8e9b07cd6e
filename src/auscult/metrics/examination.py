"""Examination: collects everything about every tensor of one step, and becomes its Detail.

Told by those who see the tensors anyway, the hooks of the activations and the ledger of the parameters. Measures all
elements, which takes many times as long as a sample does; so it happens at few steps.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]  (all BatchNorms, and no other)
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]  (all Dropouts, and no other)

from auscult.core.detail import BatchStatistics, Detail, TensorKind
from auscult.core.run import Parameter
from auscult.metrics.elements import Elements, count_elements
from auscult.metrics.parameters import clean_path, unwrap
from auscult.metrics.units import Units, map_units

# Their zeros are those of the module before, or on purpose.
_PASSING = (nn.Flatten, nn.Unflatten, nn.Identity, _DropoutNd)


class Examination:
    """One step in full detail.

    Args:
        step: The step.
        parameters: The parameters that the ledger measures, in its order.
        modules: Paths of the modules whose outputs are seen.
        fan_ins: What is known of them before any pass; see `fan_ins_of`.
    """

    def __init__(
        self, step: int, parameters: Sequence[Parameter], modules: Sequence[str], fan_ins: Mapping[str, int]
    ) -> None:
        self.step = step
        self._parameters = [each.path for each in parameters]
        self._modules = list(modules)
        self._elements: dict[tuple[TensorKind, int], list[Elements]] = {}
        self._units: dict[int, Units] = {}
        self._statistics: dict[int, Tensor] = {}
        self._fan_ins = dict(fan_ins)
        self._known = set(self._parameters)

    def add(self, kind: TensorKind, number: int, tensor: Tensor) -> None:
        """Take a tensor of a parameter or module; those of several calls within the step are one set of elements."""
        found = count_elements(tensor)
        if found is not None:
            self._elements.setdefault((kind, number), []).append(found)

    def forget(self, kind: TensorKind, number: int) -> None:
        """What was taken came too early."""
        self._elements.pop((kind, number), None)

    def add_call(self, number: int, module: nn.Module, inputs: object, output: Tensor, axis: int) -> None:
        """Take the call of a module: its output, what it normalises by, and, of one without parameters, its units.

        Args:
            number: Place of the module among those that are seen.
            module: The module.
            inputs: The positional arguments of the call.
            output: What it returned.
            axis: The dimension of the output that counts units.
        """
        self.add("activation", number, output)
        if number not in self._units and not isinstance(module, _PASSING) and next(module.parameters(), None) is None:
            units = map_units(output, axis)
            if units is not None:
                self._units[number] = units
        first = inputs[0] if isinstance(inputs, tuple) and inputs else None
        if not isinstance(first, Tensor) or not first.is_floating_point():
            return
        if isinstance(module, _NormBase) and module.running_mean is not None and module.running_var is not None:
            self._statistics[number] = _batch_statistics(first.detach(), module.running_mean, module.running_var)
        for name, weight in module.named_parameters(recurse=False):
            path = f"{self._modules[number]}.{name}"
            fits = weight.ndim == 2 and first.ndim > 0 and first.shape[-1] in weight.shape
            if fits and path in self._known:
                self._fan_ins.setdefault(path, first.shape[-1])

    def put_running(self, number: int, running_mean: Tensor, running_var: Tensor) -> None:
        """The running estimates of a module after the pass, where those it had in the pass were only copies."""
        stacked = self._statistics.get(number)
        if stacked is not None:
            self._statistics[number] = torch.stack(
                [*stacked[:2], *(e.to(stacked) for e in (running_mean, running_var))]
            )

    def detail(self) -> Detail:
        """Bring everything to the host."""
        owners = {"activation": self._modules, "activation_grad": self._modules}
        kinds: tuple[TensorKind, ...] = ("activation", "activation_grad", "param", "grad", "update")
        tensors = tuple(
            reduce(add, [each.describe(kind, paths[number]) for each in self._elements[kind, number]])
            for kind in kinds
            for paths in (owners.get(kind, self._parameters),)
            for number in range(len(paths))
            if (kind, number) in self._elements
        )
        maps = (units.describe(self._modules[number]) for number, units in sorted(self._units.items()))
        statistics = tuple(
            BatchStatistics(self._modules[number], *stacked.float().cpu().numpy())
            for number, stacked in sorted(self._statistics.items())
        )
        return Detail(self.step, tensors, tuple(each for each in maps if each is not None), statistics, self._fan_ins)


def fan_ins_of(model: nn.Module) -> dict[str, int]:
    """Number of inputs that each output sums over, by path of the weight, for the layers that torch brings.

    For a convolution that is channels per group * kernel size, as in `torch.nn.init`.
    """
    found: dict[str, int] = {}
    for path, module in unwrap(model).named_modules():
        names: tuple[str, ...] = ()
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            names = ("weight",)
        elif isinstance(module, (nn.RNNBase, nn.RNNCellBase)):
            names = tuple(name for name, _ in module.named_parameters(recurse=False) if name.startswith("weight"))
        elif isinstance(module, nn.MultiheadAttention):
            names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        for name in names:
            weight = getattr(module, name, None)
            if isinstance(weight, nn.Parameter) and weight.ndim >= 2:
                found[clean_path(f"{path}.{name}" if path else name)] = weight.shape[1:].numel()
    return found


def _batch_statistics(inputs: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
    """`(4, C)`: mean and variance of the batch, running mean and variance."""
    others = [axis for axis in range(inputs.ndim) if axis != 1]
    wide = inputs if inputs.device.type == "mps" else inputs.double()
    mean, var = wide.mean(others), wide.var(others, correction=0)
    return torch.stack([mean, var, running_mean.detach().to(mean.dtype), running_var.detach().to(mean.dtype)])
