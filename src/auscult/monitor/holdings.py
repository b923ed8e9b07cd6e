"""Holdings: which parameters each optimizer holds, and at which learning rates and weight decays."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any
from weakref import ref

from torch import Tensor, nn
from torch.optim import Optimizer

from auscult.core.sink import Channel
from auscult.metrics.hooks import inner_optimizer
from auscult.metrics.intention import intended_update
from auscult.metrics.ledger import Ledger
from auscult.metrics.parameters import Places, group_path
from auscult.metrics.scaling import ScaleTap


class Holdings:
    """Looks anew whenever it is asked, because groups come and parameters are replaced while training goes on.

    Args:
        optimizers: The optimizers by name.
        ledger: What knows the positions of parameters.
        model: The model.
        tensors: The ledger's parameters, in its order.
    """

    def __init__(
        self,
        optimizers: Mapping[str, Optimizer],
        ledger: Ledger,
        model: nn.Module,
        tensors: Sequence[nn.Parameter],
    ) -> None:
        self._optimizers = dict(optimizers)
        self._ledger = ledger
        self._model = ref(model)
        self._places = Places(model, tensors)
        self._rates = {name: Rates(name) for name in optimizers}

    def held(self, name: str) -> list[int]:
        """Positions of the parameters that an optimizer holds."""
        groups = self._optimizers[name].param_groups
        return self._ledger.positions(tensor for group in groups for tensor in group["params"])

    def still_in_model(self, name: str) -> list[int]:
        """The same, without those that the model has no more."""
        return self._places.still_there(self.held(name))

    def by_factor(
        self, positions: Sequence[int], names: Iterable[str], scales: ScaleTap
    ) -> list[tuple[list[int], Tensor | None]]:
        """Positions apart by the factor that their gradients were multiplied by; None for 1.

        Args:
            positions: Of parameters.
            names: Of the optimizers whose factors count.
            scales: Knows the factors.
        """
        factors: dict[int, Tensor] = {}
        for name in names:
            factor = scales.factor(self._optimizers[name])
            if factor is not None:
                factors.update(dict.fromkeys(self.held(name), factor))
        groups: dict[int, list[int]] = {}
        for position in positions:
            groups.setdefault(id(factors.get(position)), []).append(position)
        return [(some, factors.get(some[0])) for some in groups.values()]

    def intention(self, name: str) -> Callable[[int], Tensor | None]:
        """What an optimizer that has just made its update meant to add to the parameter at a position."""
        optimizer = inner_optimizer(self._optimizers[name])

        @cache
        def groups() -> dict[int, tuple[dict[str, Any], Tensor]]:
            held = ((group, each) for group in optimizer.param_groups for each in group["params"])
            return {position: found for found in held for position in self._ledger.positions([found[1]])}

        return lambda position: intended_update(optimizer, *groups()[position])

    def shared(self) -> set[int]:
        """Positions of the parameters that several optimizers hold."""
        if len(self._optimizers) < 2:
            return set()
        held = Counter(position for name in self._optimizers for position in set(self.held(name)))
        return {position for position, count in held.items() if count > 1}

    def waiting_beside(self, name: str, updated: set[str], shared: set[int]) -> set[int]:
        """Positions of the shared parameters that another optimizer will update, which has not done so yet."""
        waiting = self._optimizers.keys() - updated - {name} if shared else set[str]()
        return shared.intersection(position for each in waiting for position in self.held(each))

    def orphans(self) -> list[int]:
        """Positions of the parameters of the model that have a gradient and that no optimizer holds."""
        held = {position for name in self._optimizers for position in self.held(name)}
        free = [position for position in self._ledger.everything() if position not in held]
        model = self._model() if free else None
        present = set(self._ledger.positions(model.parameters())) if model is not None else set[int]()
        return [each for each in free if each in present and self._ledger.has_gradient(each)]

    def rates(self, name: str) -> Mapping[Channel, float]:
        """The learning rate of each group of an optimizer, and its weight decay where it has one."""
        return self._rates[name].of(self._optimizers[name].param_groups)


class Rates:
    """The settings of the groups of one optimizer, read anew only where a setting is another object than before.

    Args:
        name: Of the optimizer.
    """

    __slots__ = ("_channels", "_name", "_settings", "_told")

    def __init__(self, name: str) -> None:
        self._name = name
        self._channels: list[tuple[Channel, Channel]] = []
        self._settings: list[object] = []  # learning rate and weight decay of each group
        self._told: dict[Channel, float] = {}

    def of(self, groups: Sequence[Mapping[str, Any]]) -> Mapping[Channel, float]:
        """Learning rates, and weight decays where they are not 0."""
        settings: list[object] = [group.get(setting) for group in groups for setting in ("lr", "weight_decay")]
        if len(settings) != len(self._settings) or not all(map(_is_same, settings, self._settings)):
            self._settings, self._told = settings, self._read(settings)
        return self._told

    def _read(self, settings: Sequence[object]) -> dict[Channel, float]:
        numbers = list(map(_number, settings))
        for number in range(len(self._channels), len(numbers) // 2):
            path = group_path(self._name, number)
            self._channels.append((Channel("lr", path), Channel("weight_decay", path)))
        told: dict[Channel, float] = {}
        for (of_rate, of_decay), rate, decay in zip(self._channels, numbers[::2], numbers[1::2]):
            if rate is not None:
                told[of_rate] = rate
            if decay:
                told[of_decay] = decay
        return told


def _is_same(setting: object, before: object) -> bool:
    """Whether a setting is what it was; a tensor may have been changed in place."""
    return setting is before and not isinstance(setting, Tensor)


def _number(setting: object) -> float | None:
    """A setting of a parameter group, if it is a number; it may be learned itself."""
    if isinstance(setting, Tensor):
        return float(setting.detach())
    return float(setting) if isinstance(setting, (int, float)) else None


def held_by(optimizers: Mapping[str, Optimizer], tensors: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """Those of the parameters that some optimizer holds, in order."""
    held = {
        id(each) for optimizer in optimizers.values() for group in optimizer.param_groups for each in group["params"]
    }
    return [each for each in tensors if id(each) in held]


def ends(tensors: Sequence[nn.Parameter], optimizers: Mapping[str, Optimizer]) -> list[nn.Parameter]:
    """The first and the last trainable parameter of each optimizer: nearly every backward pass reaches one of them."""
    known = {id(tensor) for tensor in tensors if tensor.requires_grad}
    found: dict[int, nn.Parameter] = {}
    for optimizer in optimizers.values():
        held = [each for group in optimizer.param_groups for each in group["params"] if id(each) in known]
        found.update({id(each): each for each in (*held[:1], *held[-1:])})
    return list(found.values())
