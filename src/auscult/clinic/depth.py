"""Depth: which layer of the forward pass a module or parameter belongs to, and how near two places are."""

from collections.abc import Mapping, Sequence

from auscult.core.run import Run


def depths_of(run: Run) -> dict[str, int]:
    """The number of the layer of every leaf module and bare parameter, in the order of the forward pass.

    A layer is a leaf module with parameters and those without any that follow it: a linear map and its activation. A
    parameter outside of leaf modules is a layer of its own; `""` is the first one of the model itself.
    """
    leaves = [each.path for each in run.modules if each.leaf]
    owners = dict.fromkeys(_owner(each.path, frozenset(leaves)) for each in run.parameters)
    found = {owner: number for number, owner in enumerate(owners)}
    own = [number for owner, number in found.items() if owner not in leaves and "." not in owner]
    number = 0
    for leaf in leaves:
        number = found.setdefault(leaf, number)
    return {**found, "": min(own)} if own else found


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
    """The layer of a leaf module or of one of its parameters; all layers within a container."""
    if not path:
        return {depths[""]} if "" in depths else set()
    holder = path
    while holder:
        if holder in depths:
            return {depths[holder]}
        holder = holder.rpartition(".")[0]
    return {depth for name, depth in depths.items() if name.startswith(f"{path}.")}


def _owner(path: str, leaves: frozenset[str]) -> str:
    """The leaf module that holds a parameter; the parameter itself where none does."""
    holder = path.rpartition(".")[0]
    while holder and holder not in leaves:
        holder = holder.rpartition(".")[0]
    return holder or path
