"""Feeds: which leaf module is called with the untouched output of which other one, told from one pass.

Outputs are known by weak references: none lives longer than it would, and the memory of one that is gone says nothing.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from weakref import ref

import torch
from torch import Tensor, nn

from auscult.core.anatomy import Feed
from auscult.metrics.norms import is_transformed, measurable

TOLERANCE = 1e-3
"""How far from 1 the sum of a row may be, where one unit in the last place is not more."""


class FirstPass(NamedTuple):
    """What the first armed pass showed of the leaf modules.

    Attributes:
        feeds: Which of them were called with the untouched output of which other one, in the order of the calls.
        sums_to_one: Those whose every output was a distribution.
        given_shares: Those whose every input was one.
    """

    feeds: tuple[Feed, ...] = ()
    sums_to_one: tuple[str, ...] = ()
    given_shares: tuple[str, ...] = ()


class _Output(NamedTuple):
    number: int
    tensor: ref[Tensor]
    version: int


class Feeds:
    """Sees the calls of one pass.

    Untouched is a tensor at the same place in memory, of as many elements, that nothing has written to: a view, of
    another shape or order, is the same output, a copy is another one.

    Args:
        paths: The leaf modules, by number.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._outputs: dict[int, list[_Output]] = {}  # by their place in memory
        self._links: dict[tuple[int, int], None] = {}
        self._sums: dict[int, list[Tensor | bool]] = {}
        self._given: dict[int, list[Tensor | bool]] = {}

    @property
    def seen(self) -> bool:
        """Whether there was any call."""
        return bool(self._sums)

    def add_call(self, number: int, module: nn.Module, inputs: object, output: Tensor) -> None:
        """Take one call, after it was made.

        Args:
            number: Place of the module in `paths`.
            module: The module; one that says so by `inplace` may itself have written to its input once.
            inputs: The positional arguments of the call.
            output: The first floating-point tensor that it returned.
        """
        for given in _floats(inputs):
            self._given.setdefault(number, []).append(_sums_to_one(given))
            writes = bool(getattr(module, "inplace", False)) and given.data_ptr() == output.data_ptr()
            for source in self._outputs.get(given.data_ptr(), ()):
                tensor, written = source.tensor(), given._version - source.version
                if tensor is not None and tensor.numel() == given.numel() and written in (0, int(writes)):
                    self._links[source.number, number] = None
        if not output.is_inference():
            known = self._outputs.setdefault(output.data_ptr(), [])
            known[:] = [each for each in known if each.tensor() is not None]
            known.append(_Output(number, ref(output), output._version))
        self._sums.setdefault(number, []).append(_sums_to_one(output))

    def end(self) -> None:
        """The pass is over."""
        self._outputs.clear()

    def links(self) -> tuple[Feed, ...]:
        """What was called with the output of what, in the order of the calls."""
        return tuple(Feed(self._paths[source], self._paths[target]) for source, target in self._links)

    def sums_to_one(self) -> tuple[str, ...]:
        """The modules whose every output was not negative and summed to 1 over the last dimension, of two or more."""
        return tuple(self._paths[number] for number in _kept(self._sums))

    def given_shares(self) -> tuple[str, ...]:
        """The modules whose every input was such."""
        return tuple(self._paths[number] for number in _kept(self._given))


def _kept(found: dict[int, list[Tensor | bool]]) -> list[int]:
    return [number for number, each in sorted(found.items()) if all(map(bool, each))]


def _floats(inputs: object) -> Iterator[Tensor]:
    """The floating-point tensors among the arguments of a call."""
    if isinstance(inputs, Tensor):
        dense = inputs.layout == torch.strided and inputs.is_floating_point() and not inputs.is_inference()
        if dense and inputs.numel() and measurable(inputs) and not is_transformed(inputs):
            yield inputs
    elif isinstance(inputs, (tuple, list)):
        for each in inputs:
            yield from _floats(each)


def _sums_to_one(output: Tensor) -> Tensor | bool:
    """Whether it is so of every row; still on the output's device."""
    if output.ndim < 2 or output.shape[-1] < 2:
        return False
    if output.is_cpu and not _are_shares(output[(0,) * (output.ndim - 1)]):
        return False  # one row tells nearly always
    return _are_shares(output)


def _are_shares(rows: Tensor) -> Tensor:
    sums = rows.sum(-1, dtype=torch.promote_types(rows.dtype, torch.float32))
    tolerance = max(TOLERANCE, torch.finfo(rows.dtype).eps)
    return (rows.amin() >= 0) & ((sums - 1).abs().amax() <= tolerance)
