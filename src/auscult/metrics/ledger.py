"""Ledger: gradient, parameter and update of every parameter around one optimizer step.

One snapshot of the parameters, copied right before the update, gives the update that was really applied.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auscult.core.detail import TensorKind
from auscult.core.sink import Values, empty_row, observed, to_float32, unobserved
from auscult.metrics.directions import (
    DECAY,
    DESCENT,
    TWINS,
    comparable,
    has_units,
    is_packable,
    packed_products,
    products,
    twin_fraction,
    write_cosines,
)
from auscult.metrics.examination import Examination
from auscult.metrics.moment import version
from auscult.metrics.norms import as_real, means_and_stds, measurable, norms
from auscult.metrics.pack import Pack, fits
from auscult.metrics.shards import Sums, local, sum_of_bits, whole_gradients
from auscult.metrics.transfer import Transfer

GRAD, PARAM, UPDATE = range(3)
PACKED_ELEMENTS = 2**20
"""Elements of all packed parameters: what the pack needs besides the one copy of the parameters, 4 MB of scratch."""

APART = 2
"""Observations after which the units of a parameter are known to differ, and are compared no more."""

HALF = (torch.float16, torch.bfloat16)
Taken = Tensor | NDArray[np.float64]
Intended = Callable[[int], Tensor | None]


class Ledger:
    """Measures the parameters it was given; column k of every result is parameter k.

    The caller says when: `gradients` before anything clips, `before` and `after` around the optimizer's update. Small
    tensors go through a `Pack`, large ones by themselves.

    Args:
        parameters: The parameters.
        snapshot: Whether a copy of the parameters may be kept; without it `after` has to be told the updates.

    Of a DTensor only the local part is measured.

    Attributes:
        examination: Is told everything about this step's tensors; None on most steps.
        sums: What adds up the parts of Partial gradients over ranks.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], snapshot: bool = True) -> None:
        self.examination: Examination | None = None
        self.sums: Sums = {}
        self._parameters = list(parameters)
        self._keeps = snapshot
        self._lone = [position for position, tensor in enumerate(self._parameters) if tensor.numel() < 2]  # have no std
        self._position = {id(tensor): position for position, tensor in enumerate(self._parameters)}
        parts = [local(each) for each in self._parameters]
        self.sizes = [each.numel() for each in parts]
        small = _smallest([position for position, tensor in enumerate(parts) if fits(tensor)], parts)
        self._place = {position: place for place, position in enumerate(small)}
        shapes = [parts[position].shape for position in small]
        self._snapshot, self._scratch = Pack(shapes if snapshot else []), Pack(shapes)
        self._snapshots: dict[int, Tensor] = {}
        self._held: set[int] = set()  # positions with a snapshot of this step
        self._intact: dict[int, Tensor] = {}  # snapshots of the last update that have outlived it
        self._spent: dict[int, Tensor] = {}  # those that have become the update
        self._versions: dict[int, int] = {}  # of the parameters, right after that update
        self._collected = False
        self._told: Values = empty_row("norms", 0)
        self._norms: list[tuple[int, list[int], Taken]] = []  # kind, positions, values
        self._moments: list[tuple[int, list[int], Taken]] = []
        self._directions: list[tuple[int, list[int], Taken]] = []
        self._apart = Counter[int]()  # how often the units of a parameter have been seen to differ
        self._transfer = Transfer()
        self._measured: set[int] = set()  # gradients already taken in this step

    def positions(self, tensors: Iterable[Tensor]) -> list[int]:
        """Positions of those tensors that the ledger holds."""
        found = (self._position.get(id(tensor)) for tensor in tensors)
        return [position for position in found if position is not None]

    def everything(self) -> list[int]:
        """All positions."""
        return list(range(len(self._parameters)))

    def cover(self, tensors: Iterable[Tensor]) -> bool:
        """Whether every gradient there is belongs to one of these parameters."""
        known = {id(tensor) for tensor in tensors}
        return all(each.grad is None or id(each) in known for each in self._parameters)

    def take_over(self, positions: Sequence[int], values: NDArray[np.float64], factor: Tensor | None) -> None:
        """Gradient norms that somebody else has just computed, `(len(positions),)`; see `gradients`."""
        fresh = [number for number, position in enumerate(positions) if position not in self._measured]
        self._norms.append((GRAD, [positions[number] for number in fresh], _divided(values[fresh], factor)))
        self._measured.update(positions)

    def gradients(self, positions: Sequence[int], moments: bool, factor: Tensor | None = None) -> None:
        """Take the gradients as they are now, once per step and parameter; those that are None are not observed.

        Args:
            positions: Whose gradients.
            moments: Whether means and stds are wanted as well.
            factor: What a loss scaler has multiplied them by, 0-d, > 0; None for 1.
        """
        norms_before, moments_before = len(self._norms), len(self._moments)
        fresh = [position for position in positions if position not in self._measured]
        found = ((position, self._parameters[position].grad) for position in fresh)
        present = {position: grad for position, grad in found if grad is not None}
        if not all(map(measurable, present.values())):
            pairs = {key: (self._parameters[key], grad) for key, grad in present.items()}
            present = {key: grad for key, grad in whole_gradients(pairs, self.sums).items() if not grad.is_meta}
        packed = [position for position, grad in present.items() if self._is_packed(position, grad)]
        if packed:
            places = [self._place[position] for position in packed]
            self._scratch.load(places, [present[position].detach() for position in packed])
            self._norms.append((GRAD, packed, self._scratch.norms(places)))
        self._measured.update(present)  # one that is None now may come yet
        loose = sorted(present.keys() - set(packed))
        self._take_norms(GRAD, loose, [present[position] for position in loose])
        if moments:
            self._take_moments(GRAD, list(present), list(present.values()))
        if factor is not None:
            for taken, begin in ((self._norms, norms_before), (self._moments, moments_before)):
                taken[begin:] = [(kind, where, _divided(values, factor)) for kind, where, values in taken[begin:]]
        if self.examination is not None and factor is not None:
            present = {position: grad / factor for position, grad in present.items()}
        self._examine("grad", present)

    def flawed_gradients(self) -> dict[int, float]:
        """Norms of this step's gradients that are not finite, by position, as far as the host knows them already."""
        flawed: dict[int, float] = {}
        for kind, positions, values in self._norms:
            if kind == GRAD and (isinstance(values, np.ndarray) or values.is_cpu):
                host = _to_host(values)
                if not math.isfinite(host.sum()):  # of finite numbers only where their sum overflows as well
                    flawed.update({positions[each]: float(host[each]) for each in np.flatnonzero(~np.isfinite(host))})
        return flawed

    def forget_gradients(self, positions: Iterable[int]) -> None:
        """These gradients were taken too early: a backward pass came before their update."""
        stale = self._measured & set(positions)
        if not stale:
            return
        self._measured -= stale
        if self.examination is not None:
            for position in stale:
                self.examination.forget("grad", position)
        self._norms = [_without(stale, each) if each[0] == GRAD else each for each in self._norms]
        self._moments = [_without(stale, each) if each[0] == GRAD else each for each in self._moments]

    def has_gradient(self, position: int) -> bool:
        """Whether a parameter has a gradient now."""
        return self._parameters[position].grad is not None

    def before(self, positions: Sequence[int]) -> None:
        """Copy the parameters, right before the update."""
        tensors = {
            position: local(self._parameters[position])
            for position in positions
            if self._parameters[position].requires_grad and not self._parameters[position].is_meta
        }
        if self._collected:
            self._collected = False
            for kept in (self._intact, self._spent, self._versions):
                kept.clear()
        self._held.update(tensors)
        if not self._keeps:
            return
        packed = [position for position, tensor in tensors.items() if self._is_packed(position, tensor)]
        if packed:
            self._snapshot.load([self._place[each] for each in packed], [tensors[each] for each in packed])
            self._intact.update({position: self._snapshot.places[self._place[position]] for position in packed})
        for position in tensors.keys() - set(packed):
            snapshot, tensor = self._snapshots.get(position), tensors[position]
            if snapshot is None or _kind(snapshot) != _kind(tensor):
                self._snapshots[position] = tensor.clone(memory_format=torch.preserve_format)
            else:
                snapshot.copy_(tensor)

    def after(self, positions: Sequence[int], moments: bool, intended: Intended = lambda position: None) -> None:
        """Take parameters and updates, right after the update.

        Args:
            positions: Whose.
            moments: Whether means and stds are wanted as well, and where the updates point beside the gradients as
                they were at the update (clipped by one factor, they point where they did before).
            intended: The update of a parameter as far as it is known, where no copy of the parameters was kept.
        """
        held = [position for position in positions if position in self._held]
        self._held.difference_update(held)
        tensors = {position: local(self._parameters[position]) for position in held}
        if not self._keeps:
            self._take_norms(PARAM, held, list(tensors.values()))
            for position in held:
                update = intended(position)
                if update is not None:
                    self._take_norms(UPDATE, [position], [update])
            if moments:
                self._take_moments(PARAM, held, list(tensors.values()))
                self._take_twins(tensors)
            self._examine("param", tensors)
            return
        self._versions.update({position: version(self._parameters[position]) for position in held})
        updates: dict[int, Tensor] = {}
        packed = [position for position, tensor in tensors.items() if self._is_packed(position, tensor)]
        if packed:
            places = [self._place[position] for position in packed]
            self._scratch.load(places, [tensors[position] for position in packed])
            self._norms.append((PARAM, packed, self._scratch.norms(places)))
            self._scratch.subtract(self._snapshot, places)
            sizes = self._scratch.norms(places)
            self._norms.append((UPDATE, packed, sizes))
            if moments:
                self._point_packed(packed, tensors, dict(zip(packed, sizes.tolist(), strict=True)))
            updates = {position: self._scratch.places[place] for position, place in zip(packed, places, strict=True)}
        loose = [
            position
            for position in held
            if position not in updates
            and position in self._snapshots
            and _kind(self._snapshots[position]) == _kind(tensors[position])
        ]
        updates.update({position: self._update(position, tensors[position]) for position in loose})
        self._take_norms(PARAM, loose, [tensors[position] for position in loose])
        self._take_norms(UPDATE, loose, [updates[position] for position in loose])
        if moments:
            self._take_moments(PARAM, held, list(tensors.values()))
            self._take_moments(UPDATE, list(updates), list(updates.values()))
            self._point_loose({position: updates[position] for position in loose}, tensors)
            self._take_twins(tensors)
        self._examine("param", tensors)
        self._examine("update", updates)

    def before_update(self) -> dict[int, Tensor]:
        """The parameters as they were before the last measured update, as far as kept; not to be written to."""
        return dict(sorted(self._intact.items()))

    def nearly_before_update(self) -> dict[int, Tensor]:
        """The others, told from their update to within its rounding, as far as they have not been written to since."""
        after = self.after_update()
        return {position: after[position] - each for position, each in self._spent.items() if position in after}

    def after_update(self) -> dict[int, Tensor]:
        """The parameters that have not been written to since their last measured update; not to be written to."""
        live = {position: self._parameters[position] for position in self._versions}
        return {position: local(each) for position, each in live.items() if version(each) == self._versions[position]}

    def last_update(self, position: int) -> Tensor | None:
        """The last measured update of one of `after_update`; not to be written to."""
        kept = self._intact.get(position)
        if kept is None:
            return self._spent.get(position)
        now = local(self._parameters[position])
        return now.float() - kept.float() if now.dtype in HALF else now - kept

    def last_gradient_norms(self) -> dict[int, float]:
        """The gradient norms that were last collected, by position, of the parameters that were updated by them."""
        seen = observed(self._told)
        return {position: float(self._told[position]) for position in self._versions if seen[position]}

    def sums_of_bits(self, position: int) -> int | Tensor:
        """The bits of what this rank holds of a parameter, summed up."""
        return sum_of_bits(local(self._parameters[position]))

    def send(self) -> None:
        """The step is over: what was taken of it sets out for the host."""
        for taken in (self._norms, self._moments, self._directions):
            there = [number for number, (_, _, values) in enumerate(taken) if isinstance(values, Tensor)]
            tensors = [values for _, _, values in taken if isinstance(values, Tensor)]
            for number, values in zip(there, self._transfer.send(tensors), strict=True):
                taken[number] = (*taken[number][:2], values)

    def collect(self, norm_row: Values, moment_row: Values | None, direction_row: Values | None = None) -> None:
        """Everything taken since the last call, on the host, in rows whose other entries are left alone.

        Rows of float64 take it as it is, others rounded.

        Args:
            norm_row: `(3, P)`, rows GRAD, PARAM, UPDATE.
            moment_row: `(3, 2, P)`, mean and std of the same; None where no moments were asked for.
            direction_row: `(3, P)`, rows as in `auscult.metrics.directions.METRICS`; None likewise.
        """
        self._transfer.wait()
        for kind, positions, values in self._norms:
            norm_row[kind, positions] = _rounded(_to_host(values), norm_row)
        self._told = norm_row[GRAD]
        if moment_row is not None:
            for kind, positions, values in self._moments:
                moment_row[kind][:, positions] = _rounded(_to_host(values), moment_row)
            moment_row[:, 1, self._lone] = unobserved(1) if moment_row.itemsize == 8 else empty_row("sampled", 1)
        if direction_row is not None:
            for kind, positions, found in self._directions:
                host = _to_host(found)
                if kind == TWINS:
                    direction_row[kind, positions] = host
                    self._apart.update(each for each, share in zip(positions, host.tolist(), strict=True) if share < 1)
                else:
                    write_cosines(direction_row[kind], positions, host)
        self.discard()

    def discard(self) -> None:
        """Forget what was taken since the last `collect`."""
        self._norms.clear()
        self._moments.clear()
        self._directions.clear()
        self._measured.clear()
        self._held.clear()
        self._collected = True

    def release(self) -> None:
        """Free the snapshots."""
        self._snapshots.clear()
        for kept in (self._intact, self._spent, self._versions):
            kept.clear()
        self._snapshot = self._scratch = Pack([])
        self._place.clear()

    def _examine(self, kind: TensorKind, tensors: Mapping[int, Tensor]) -> None:
        if self.examination is not None:
            for position, tensor in tensors.items():
                self.examination.add(kind, position, as_real(tensor))

    def _is_packed(self, position: int, tensor: Tensor) -> bool:
        """Whether a parameter, or its gradient, is still what it was when it got its place."""
        place = self._place.get(position)
        return place is not None and fits(tensor) and self._scratch.places[place].shape == tensor.shape

    def _update(self, position: int, tensor: Tensor) -> Tensor:
        """Parameter minus snapshot, in float32 for half precision; the snapshot is spent."""
        snapshot = self._snapshots[position]
        if tensor.dtype in HALF:
            self._intact[position] = snapshot
            return tensor.float() - snapshot.float()
        self._spent[position] = snapshot
        return torch.sub(tensor, snapshot, out=snapshot)

    def _point_packed(self, packed: list[int], tensors: Mapping[int, Tensor], sizes: Mapping[int, float]) -> None:
        """Where the updates in the scratch point, given their norms; the second pack lives for this call."""
        second = Pack([place.shape for place in self._scratch.places])
        found = {position: self._parameters[position].grad for position in packed}
        gradients = {key: None if grad is None or not measurable(grad) else grad for key, grad in found.items()}
        with_gradient = [each for each in packed if is_packable(gradients[each], second.places[self._place[each]])]
        for kind, positions, others in ((DECAY, packed, tensors), (DESCENT, with_gradient, gradients)):
            present = [tensor.detach() for each in positions if (tensor := others[each]) is not None]
            places = [self._place[each] for each in positions]
            if places:
                second.load(places, present)
                known = np.array([sizes[each] for each in positions])
                self._directions.append((kind, positions, packed_products(self._scratch, second, places, known)))

    def _point_loose(self, updates: Mapping[int, Tensor], tensors: Mapping[int, Tensor]) -> None:
        gradients = {position: self._parameters[position].grad for position in updates}
        for kind, others in ((DECAY, tensors), (DESCENT, gradients)):
            pairs = [(each, update, others[each]) for each, update in updates.items()]
            found = [
                (each, products(update, other))
                for each, update, other in pairs
                if other is not None and comparable(update, other)
            ]
            for where, some in _by_device([each for each, _ in found], [each for _, each in found]):
                self._directions.append((kind, where, torch.stack(some, 1)))

    def _take_twins(self, tensors: Mapping[int, Tensor]) -> None:
        """How many units are the same, as long as that may matter: training makes none equal again that differ."""
        fit = {
            position: twin_fraction(each)
            for position, each in tensors.items()
            if has_units(each.shape)
            and self._apart[position] < APART
            and each.layout == torch.strided
            and each.element_size() > 1
        }
        for where, some in _by_device(list(fit), list(fit.values())):
            self._directions.append((TWINS, where, torch.stack(some)))

    def _take_norms(self, kind: int, positions: list[int], tensors: list[Tensor]) -> None:
        for where, some in _by_device(positions, tensors):
            self._norms.append((kind, where, norms(some)))

    def _take_moments(self, kind: int, positions: list[int], tensors: list[Tensor]) -> None:
        for where, some in _by_device(positions, tensors):
            self._moments.append((kind, where, means_and_stds(some)))


def _smallest(positions: Sequence[int], parameters: Sequence[Tensor]) -> list[int]:
    """Those of the positions, the smallest first, that have room in a pack together; in order."""
    ordered = sorted(positions, key=lambda position: parameters[position].numel())
    sizes = accumulate(parameters[position].numel() for position in ordered)
    return sorted(position for position, size in zip(ordered, sizes, strict=True) if size <= PACKED_ELEMENTS)


def _by_device(positions: list[int], tensors: list[Tensor]) -> list[tuple[list[int], list[Tensor]]]:
    groups: dict[torch.device, tuple[list[int], list[Tensor]]] = {}
    for position, tensor in zip(positions, tensors, strict=True):
        where, some = groups.setdefault(tensor.device, ([], []))
        where.append(position)
        some.append(tensor)
    return list(groups.values())


def _without(stale: set[int], taken: tuple[int, list[int], Taken]) -> tuple[int, list[int], Taken]:
    kind, positions, values = taken
    kept = [number for number, position in enumerate(positions) if position not in stale]
    return kind, [positions[number] for number in kept], values[..., kept]


def _divided(values: Taken, factor: Tensor | None) -> Taken:
    if factor is None:
        return values
    return values / (factor.to(values.device) if isinstance(values, Tensor) else float(factor))


def _kind(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, tensor.device


def _rounded(values: NDArray[np.float64], row: Values) -> Values:
    return values if row.dtype == np.float64 else to_float32(values)


def _to_host(values: Taken) -> NDArray[np.float64]:
    return values.cpu().numpy() if isinstance(values, Tensor) else values
