"""Depth: which layer of the forward pass a module or parameter belongs to, and how near two places are."""

from collections.abc import Mapping, Sequence

from auscult.core.run import Run


def depths_of(run: Run) -> dict[str, int]:
    """The number of the layer of every module that has parameters of its own and of every leaf module.

    Layers are counted in the order of the forward pass. One is a module with parameters and the leaf modules without
    any that follow it: a linear map and its activation. `""` is the model itself, where it has parameters of its own.
    """
    owners = dict.fromkeys(each.path.rpartition(".")[0] for each in run.parameters)
    found = {owner: number for number, owner in enumerate(owners)}
    number = 0
    for leaf in (each.path for each in run.modules if each.leaf):
        number = found.setdefault(leaf, number)
    return found


def near(place: str, layers: Sequence[str], depths: Mapping[str, int]) -> float:
    """How near a place is to the layers that a fault sits in: 1 in one of them, .5 in a neighbour of one, otherwise 0.

    Args:
        place: Path of a module or parameter; `""` points nowhere.
        layers: Paths of modules; `""` is the model's own parameters.
        depths: As `depths_of` gives them.
    """
    found = _within(place, depths) if place else set[int]()
    wanted = {depth for layer in layers for depth in _within(layer, depths)}
    if not found or not wanted:
        return 0.0
    if found <= wanted:
        return 1.0
    return 0.5 if min(abs(one - other) for one in found for other in wanted) <= 1 else 0.0


def _within(path: str, depths: Mapping[str, int]) -> set[int]:
    """The layers of a module and of all within; of a parameter, that of the module that has it."""
    inside = {depth for name, depth in depths.items() if name == path or (path and name.startswith(f"{path}."))}
    holder = path
    while holder and not inside:
        holder = holder.rpartition(".")[0]
        inside = {depths[holder]} if holder in depths else set[int]()
    return inside
