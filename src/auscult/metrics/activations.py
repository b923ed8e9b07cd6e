"""Activations and their gradients: moments, saturation, dead units; measured by hooks that are off on most steps.

Knows nothing of steps or files. A forward hook plus a tensor hook on the output, never a module backward hook, because
those break in-place modules; every hook returns None, so that no output and no gradient is replaced.
"""

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import NamedTuple
from weakref import ref

import numpy as np
import torch
from torch import Tensor, nn

from auscult.core.anatomy import Feed
from auscult.core.sink import Channel, Values, empty_row, to_float32
from auscult.metrics import attention
from auscult.metrics.examination import Examination
from auscult.metrics.feeds import Feeds
from auscult.metrics.hooks import PausableHook
from auscult.metrics.marks import running_backward
from auscult.metrics.normalisation import METRICS as STATISTICS
from auscult.metrics.normalisation import statistics_apart
from auscult.metrics.norms import is_transformed, measurable
from auscult.metrics.parameters import clean_path, unwrap
from auscult.metrics.sample import sample
from auscult.metrics.transfer import Transfer
from auscult.metrics.units import SATURATED

METRICS = (
    "activation_mean",
    "activation_std",
    "activation_grad_mean",
    "activation_grad_std",
    "saturated_fraction",
    "dead_fraction",
)


_CHANNELS_SECOND = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.GroupNorm,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
)  # fmt: skip
_FEATURES_LAST = (nn.Linear, nn.Bilinear, nn.LayerNorm, nn.Embedding, nn.RNNBase, nn.Flatten)


class _Call(NamedTuple):
    """What one call of one module gave: tensors of float64, still on their device."""

    output: Tensor  # (5,): elements, mean, sum of squared deviations, saturated elements, elements outside [-1, 1]
    units: Tensor | None  # (3,): see `_units`; None for an output without units


class Activations:
    """Watches the leaf modules of a model; asleep until `armed`.

    Attributes:
        paths: The watched modules, in definition order.
        order: The modules seen so far in armed forward passes, in the order of their first calls.
        armed: Whether the next passes are measured; see `arm`.
        examination: Takes everything about the next passes, where they are armed; then moments are of all elements.
        touched: Whether a leaf module was called for training since the last `take`.
        spent: Seconds spent in the hooks since it was last set to 0.

    Args:
        model: The model.
        failed: Told of an exception inside a hook, which never reaches the user's training.
    """

    def __init__(self, model: nn.Module, failed: Callable[[str, Exception], None]) -> None:
        root = unwrap(model)
        leaves = [(clean_path(path), module) for path, module in root.named_modules() if path and _is_leaf(module)]
        self.paths = tuple(path for path, _ in leaves)
        self.order: list[str] = []
        self.armed = False
        self.examination: Examination | None = None
        self.touched = False
        self._root = ref(root)
        self._leaves = [ref(module) for _, module in leaves]
        self.spent = 0.0
        self._failed = failed
        self._called: set[int] = set()
        self._axes = [_unit_axis(module) for _, module in leaves]
        self._latest_axis: int | None = None
        self._outputs: dict[int, list[_Call]] = {}
        self._gradients: dict[int, list[_Call]] = {}
        self._statistics: dict[int, list[Tensor]] = {}
        self._feeds = Feeds(self.paths)
        self._first_pass_over = False
        self._attention: attention.AttentionTap | None = attention.AttentionTap(root, failed)
        self._output = PausableHook(root, self._on_output, always=True)
        self._output.pause()
        self._hooks = [
            PausableHook(module, partial(self._on_forward, number)) for number, (_, module) in enumerate(leaves)
        ]
        self._off: set[int] = set()
        self._left_alone = False

    def arm(self, armed: bool, examination: Examination | None, resting: bool) -> None:
        """Decide about the next passes.

        Args:
            armed: Whether they are measured.
            examination: Takes everything about them, where they are armed.
            resting: Whether hooks may be taken off until they are armed again. Only those that have been called are: a
                module that runs inside a compiled graph never calls its hook, and would be compiled anew.
        """
        self.armed, self.examination = armed, examination
        if armed or not resting:
            for number in self._off:
                self._hooks[number].resume()
            self._off.clear()
        elif len(self._off) < len(self._called):
            for number in self._called - self._off:
                self._hooks[number].pause()
            self._off |= self._called

    def begin_pass(self) -> None:
        """The model is about to be called for training."""
        if self.armed and self._attention is not None:
            self._output.resume()
            self._attention.begin()

    def leave_alone(self, wanted: bool) -> None:
        """Take every hook off while the model evaluates, where some layers are computed otherwise beside a hook."""
        if wanted == self._left_alone:
            return
        self._left_alone = wanted
        for number, hook in enumerate(self._hooks):
            if wanted:
                hook.pause()
            elif number not in self._off:
                hook.resume()

    def take(self) -> "Taken":
        """Hand over what was seen since the last call; the next forward pass begins a new step."""
        statistics = {self.paths[number]: torch.stack(each).mean(0) for number, each in self._statistics.items()}
        taken = Taken(self._outputs, self._gradients, statistics, self._take_attention())
        self._outputs, self._gradients, self._statistics = {}, {}, {}
        self.touched = False
        if self._feeds.seen:
            self._first_pass_over = True
            self._feeds.end()
        return taken

    def _take_attention(self) -> dict[str, Tensor]:
        """What was heard of attention; a model whose first passes had none is not listened to again."""
        tap = self._attention
        if tap is None:
            return {}
        tap.end()
        heard = tap.take()
        self.spent += tap.spent
        tap.spent = 0.0
        if not heard and self._feeds.seen and not self._first_pass_over:
            self._attention = None
        return heard

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """Which modules were called with the untouched output of which, in the passes of the first armed step."""
        return self._feeds.links()

    @property
    def sums_to_one(self) -> tuple[str, ...]:
        """The modules whose outputs summed to 1 in these passes; waits for the device."""
        return self._feeds.sums_to_one()

    @property
    def given_shares(self) -> tuple[str, ...]:
        """The modules whose inputs did; waits for the device."""
        return self._feeds.given_shares()

    def close(self) -> None:
        """Take the hooks off the model."""
        for hook in (*self._hooks, self._output):
            hook.close()
        self.take()

    def _on_output(self, inputs: object, output: object) -> None:
        """The model has returned, or raised."""
        try:
            self._output.pause()
            if self._attention is not None:
                self._attention.end()
        except Exception as error:
            self._failed("attention", error)

    def _on_forward(self, number: int, inputs: object, output: object) -> None:
        if self.touched and not self.armed:
            return
        begin = perf_counter()
        try:
            if self._training():
                self.touched = True
                if self.armed:
                    self._measure(number, inputs, output)
        except Exception as error:
            self.armed = False
            self._failed("activations", error)
        self.spent += perf_counter() - begin

    def _training(self) -> bool:
        """Whether this is a forward pass that trains, not an evaluation and not a recomputation."""
        root = self._root()
        return root is not None and root.training and torch.is_grad_enabled() and running_backward() == -1

    def _measure(self, number: int, inputs: object, output: object) -> None:
        tensor = _first_tensor(output)
        if tensor is None:
            return
        if number not in self._called:
            self._called.add(number)
            self.order.append(self.paths[number])
        if self._attention is not None:
            self._attention.latest = self.paths[number]
        examination = self.examination
        with torch.no_grad():
            values = tensor.detach()
            axis = self._axis(number, values)
            call = _Call(_moments(values, exact=examination is not None), _units(values, axis))
            self._outputs.setdefault(number, []).append(call)
            module = self._leaves[number]()
            if module is not None:
                self._measure_call(number, module, inputs, tensor)
                if examination is not None:
                    examination.add_call(number, module, inputs, values, axis)
        if tensor.requires_grad and not tensor.is_leaf:  # a leaf would keep its hook for ever
            tensor.register_hook(partial(self._on_gradient, number, axis, self._gradients, examination))

    def _measure_call(self, number: int, module: nn.Module, inputs: object, output: Tensor) -> None:
        """What is told by what a module was called with."""
        if not self._first_pass_over:
            self._feeds.add_call(number, module, inputs, output)
        apart = statistics_apart(module, inputs)
        if apart is not None:
            self._statistics.setdefault(number, []).append(apart)

    def _axis(self, number: int, output: Tensor) -> int:
        """The dimension that counts a module's units; an activation has those of the module called before it."""
        axis = self._axes[number] or self._latest_axis
        if axis is None:
            return 1 if output.ndim >= 4 else -1
        self._latest_axis = axis
        return axis

    def _on_gradient(
        self,
        number: int,
        axis: int,
        gradients: dict[int, list["_Call"]],
        examination: Examination | None,
        gradient: Tensor,
    ) -> None:
        begin = perf_counter()
        try:
            with torch.no_grad():
                call = _Call(_moments(gradient, exact=examination is not None), _units(gradient, axis))
                gradients.setdefault(number, []).append(call)
                if examination is not None:
                    examination.add("activation_grad", number, gradient)
        except Exception as error:
            self._failed("activations", error)
        self.spent += perf_counter() - begin


class Taken:
    """What the armed passes of one step gave, not yet brought to the host."""

    def __init__(
        self,
        outputs: dict[int, list[_Call]],
        gradients: dict[int, list[_Call]],
        statistics: dict[str, Tensor],
        attended: dict[str, Tensor],
    ) -> None:
        self._outputs = outputs
        self._gradients = gradients
        self._statistics = statistics
        self._attended = attended
        self._transfer = Transfer()

    def figures(self) -> dict[Channel, float]:
        """What only some modules have, on the host: the mean over their calls."""
        self._transfer.wait()
        found = attention.figures(self._attended)
        for path, apart in self._statistics.items():
            for metric, value in zip(STATISTICS, apart.tolist(), strict=True):
                found[Channel(metric, path)] = value
        return found

    def send(self) -> None:
        """The step is over: it sets out for the host."""
        calls = [call for seen in (self._outputs, self._gradients) for each in seen.values() for call in each]
        there = [tensor for call in calls for tensor in call if tensor is not None]
        host = dict(zip(map(id, there), self._transfer.send(there), strict=True))
        for seen in (self._outputs, self._gradients):
            for number, each in seen.items():
                seen[number] = [
                    _Call(host[id(call.output)], None if call.units is None else host[id(call.units)]) for call in each
                ]
        for some in (self._statistics, self._attended):
            some.update(zip(list(some), self._transfer.send(list(some.values())), strict=True))

    def write(self, row: Values) -> None:
        """It is on the host.

        Args:
            row: `(6, M)`, rows as in `METRICS`, columns as in `Activations.paths`; entries without an observation are
                left alone.
        """
        self._transfer.wait()
        for number, calls in self._outputs.items():
            count, mean, deviations, saturated, outside = _pool([call.output for call in calls])
            row[:2, number] = _mean_and_std(count, mean, deviations)
            if outside == 0:
                row[4, number] = saturated / count
            row[5, number] = _dead_fraction(calls, self._gradients.get(number, []), row[5, number])
        for number, calls in self._gradients.items():
            count, mean, deviations, _, _ = _pool([call.output for call in calls])
            row[2:4, number] = _mean_and_std(count, mean, deviations)


def _unit_axis(module: nn.Module) -> int | None:
    """The dimension of a module's output that counts its units; None where only the module before it knows."""
    if isinstance(module, _CHANNELS_SECOND):
        return 1
    return -1 if isinstance(module, _FEATURES_LAST) else None


def _is_leaf(module: nn.Module) -> bool:
    """Whether it has no modules in it, and takes hooks: a scripted one refuses them."""
    return next(module.children(), None) is None and not isinstance(module, torch.jit.ScriptModule)


def _first_tensor(output: object) -> Tensor | None:
    """The first floating-point tensor of a module's output."""
    if isinstance(output, Tensor):
        strided = output.is_floating_point() and output.layout == torch.strided and output.numel() > 0
        return output if strided and measurable(output) and not is_transformed(output) else None
    if isinstance(output, (tuple, list)):
        return next((found for each in output if (found := _first_tensor(each)) is not None), None)
    return None


def _moments(tensor: Tensor, exact: bool) -> Tensor:
    """float64 `(5,)`: elements sampled, mean, sum of squared deviations, saturated, outside of [-1, 1]."""
    values = sample(tensor, exact)
    mean = values.mean()
    size = values.abs()
    return torch.stack(
        [
            torch.full_like(mean, values.numel()),
            mean,
            (values - mean).square().sum(),
            (size > SATURATED).sum().to(mean.dtype),
            (~(size <= 1)).sum().to(mean.dtype),
        ]
    ).double()


def _units(values: Tensor, axis: int) -> Tensor | None:
    """float64 `(3,)`: units that are zero everywhere, units, units that are negative somewhere.

    By extremes, which cost one read each and no copy.
    """
    if values.ndim < 2:
        return None
    unit = axis % values.ndim
    others = [each for each in range(values.ndim) if each != unit]
    low, high = values.amin(dim=others), values.amax(dim=others)
    counts = [((low == 0) & (high == 0)).sum(), torch.full_like(low[0], low.numel()), (low < 0).sum()]
    return torch.stack([each.double() for each in counts])


def _pool(parts: list[Tensor]) -> tuple[float, float, float, float, float]:
    """One sample out of several: counts add up, moments combine exactly (Chan et al., 1979)."""
    count = mean = deviations = saturated = outside = 0.0
    for part in parts:
        n, m, d, s, o = part.tolist()
        total = count + n
        deviations += d + (m - mean) ** 2 * count * n / total
        mean += (m - mean) * n / total
        count, saturated, outside = total, saturated + s, outside + o
    return count, mean, deviations, saturated, outside


def _mean_and_std(count: float, mean: float, deviations: float) -> Values:
    """Both as they are stored; the std of a single element is not observed."""
    row = empty_row("sampled", 2)
    told = [mean] if count < 2 else [mean, (deviations / (count - 1)) ** 0.5]
    row[: len(told)] = to_float32(np.array(told))
    return row


def _dead_fraction(outputs: list[_Call], gradients: list[_Call], unknown: float) -> float:
    """Share of dead units: by the outputs where these are never negative, else by their gradients."""
    by_output = [call.units.tolist() for call in outputs if call.units is not None]
    if by_output and all(negative == 0 for _, _, negative in by_output):
        return sum(dead for dead, _, _ in by_output) / sum(units for _, units, _ in by_output)
    by_gradient = [call.units.tolist() for call in gradients if call.units is not None]
    if by_gradient:
        return sum(dead for dead, _, _ in by_gradient) / sum(units for _, units, _ in by_gradient)
    return unknown
