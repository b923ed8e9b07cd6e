"""Layers: everything about every tensor at some steps, layer beside layer, as HTML.

One panel per recorded step; the script shows one of them, without it the first and the last are there.
"""

from collections.abc import Mapping, Sequence, Set
from html import escape

from auscult.core.detail import Detail, TensorDetail, TensorKind
from auscult.core.errors import StoreError
from auscult.core.run import Parameter, Run
from auscult.pages.curve import evenly
from auscult.pages.distributions import Picture, distribution
from auscult.pages.gains import gain_table
from auscult.pages.normalisation import normalisation_table
from auscult.pages.ratios import ratio_table
from auscult.pages.unitmap import unit_maps
from auscult.pages.wording import listed, shown, shown_lines

MAX_STEPS = 6
MAX_TYPES = 6

ACTIVATIONS = Picture(
    "Activations",
    "Outputs of the modules. Healthy at the start: the lines lie on each other, neither narrowing towards 0 nor piling "
    "up at the ends with depth (Karpathy, 2022).",
    "module",
)
ACTIVATION_GRADIENTS = Picture(
    "Activation gradients",
    "Gradients at the outputs of the modules. Healthy at the start: as wide in early layers as in late ones (Glorot "
    "and Bengio, 2010).",
    "module",
)
GRADIENTS = Picture(
    "Weight gradients",
    "Healthy: of similar width in all layers; a much wider one learns at a pace of its own under plain SGD (Karpathy, "
    "2022).",
    "weight",
)
WEIGHTS = Picture(
    "Weights",
    "Right after the update. Healthy at the start: around 0, as wide as gain / sqrt(fan-in) (He et al., 2015); later "
    "they widen slowly.",
    "weight",
)
UPDATES = Picture(
    "Weight updates",
    "What the optimizer really added. Healthy: about a thousandth as wide as the weights (Karpathy, 2022).",
    "weight",
)
OF_WEIGHTS: Mapping[TensorKind, Picture] = {"grad": GRADIENTS, "param": WEIGHTS, "update": UPDATES}
OF_MODULES: Mapping[TensorKind, Picture] = {"activation": ACTIVATIONS, "activation_grad": ACTIVATION_GRADIENTS}


def layers(run: Run) -> str:
    """The content of the section: a selector, a panel per step, and the gains at the first of them."""
    steps = run.details
    if not steps:
        return '<p class="quiet">Not observed: no step was recorded in full detail.</p>'
    details, damaged = _read(run, [steps[index] for index in evenly(len(steps), MAX_STEPS)])
    notices = "".join(f"<p>{escape(shown_lines(each))}</p>" for each in damaged)
    if not details:
        return notices
    weights = _weights(run.parameters)
    types = _types(run, details)
    ends = {details[0].step, details[-1].step}
    panels = "".join(
        f'<div class="layers-at" data-step="{each.step}"{"" if each.step in ends else " hidden"}>'
        f"<h3>At step {each.step:,}</h3>{_made_again(each)}{_panel(run, each, weights, types)}</div>"
        for each in details
    )
    left_out = f" Recorded in full detail were {len(steps):,} steps." if len(steps) > MAX_STEPS else ""
    return (
        f'{notices}<p class="quiet">All elements of every layer at the step chosen, early layers darkest.{left_out}</p>'
        f"{_controls(details, types)}{panels}<h3>Gain and fan-in</h3>{gain_table(details[0], run.parameters)}"
    )


def _made_again(detail: Detail) -> str:
    """What is to be known of a step that was examined when it was over."""
    if detail.doubts is None:
        return ""
    but = f" It may differ from the one in the run: {listed(detail.doubts)}." if detail.doubts else ""
    told = "Looked back at after a finding: its last training pass was made again on copies when the step was over."
    return f'<p class="quiet">{told}{escape(but)}</p>'


def _read(run: Run, steps: Sequence[int]) -> tuple[list[Detail], list[str]]:
    """The details of these steps, and what is wrong with the others."""
    details: list[Detail] = []
    damaged: list[str] = []
    for step in steps:
        try:
            details.append(run.detail(step))
        except StoreError as error:
            damaged.append(str(error))
    return details, damaged


def _weights(parameters: Sequence[Parameter]) -> list[Parameter]:
    """The parameters of at least two dimensions; all of them where there is none."""
    return [each for each in parameters if len(each.shape) > 1] or list(parameters)


def _types(run: Run, details: Sequence[Detail]) -> dict[str, list[str]]:
    """Paths of the modules whose outputs were seen, in forward order, by type; what saturates or dies first."""
    seen = {each.path for detail in details for kind in OF_MODULES for each in detail.of(kind)}
    units = {each.path for detail in details for each in detail.units}
    types: dict[str, list[str]] = {}
    for path, name in _known(run, seen).items():
        types.setdefault(name, []).append(path)

    def place(name: str) -> tuple[int, int]:
        return -len(units.intersection(types[name])), -len(types[name])

    return {name: types[name] for name in sorted(types, key=place)}


def _known(run: Run, seen: Set[str]) -> dict[str, str]:
    """These paths in forward order, with the type of the module; those that the run does not know come last."""
    known = {each.path: each.type for each in run.modules if each.path in seen}
    return known | dict.fromkeys(sorted(seen - set(known)), "module")


def _controls(details: Sequence[Detail], types: Mapping[str, Sequence[str]]) -> str:
    """Which step and which modules are in view; of use with a script only, which shows it."""
    steps = "".join(f'<option value="{each.step}">{each.step:,}</option>' for each in details)
    names = list(types)[:MAX_TYPES]
    kinds = "".join(
        f'<option value="{number}">{escape(shown(name))} ({len(types[name]):,})</option>'
        for number, name in enumerate(names)
    )
    chosen = f'<label>Modules <select id="layers-type">{kinds}</select></label>' if kinds else ""
    others = f'<span class="quiet">Not drawn: {escape(listed(list(types)[MAX_TYPES:]))}</span>'
    return (
        f'<div class="controls" id="layers-controls" hidden><label>Step <select id="layers-step">{steps}</select>'
        f"</label>{chosen}{others if len(types) > MAX_TYPES else ''}</div>"
    )


def _panel(run: Run, detail: Detail, weights: Sequence[Parameter], types: Mapping[str, Sequence[str]]) -> str:
    """Everything about one step."""
    maps = {each.path: each for each in detail.units}
    saturated = {
        each.path: float(each.fractions.mean(dtype="float64")) for each in detail.units if each.kind == "saturated"
    }
    of_modules = "".join(
        f'<div class="grid of-type" data-type="{number}"{" hidden" if number else ""}>{pictures}</div>'
        for number, paths in enumerate(list(types.values())[:MAX_TYPES])
        if (pictures := _pictures(detail, OF_MODULES, paths, saturated))
    )
    of_weights = _pictures(detail, OF_WEIGHTS, [each.path for each in weights], {})
    ordered = [maps[path] for path in _known(run, set(maps))]
    return (
        of_modules
        + (f'<div class="grid">{of_weights}</div>' if of_weights else "")
        + (unit_maps(ordered) if ordered else "")
        + ratio_table(detail, weights)
        + (normalisation_table(detail.batch_statistics) if detail.batch_statistics else "")
    )


def _pictures(
    detail: Detail, pictures: Mapping[TensorKind, Picture], paths: Sequence[str], saturated: Mapping[str, float]
) -> str:
    html = ""
    for kind, picture in pictures.items():
        found: dict[str, TensorDetail] = {each.path: each for each in detail.of(kind)}
        tensors = [found[path] for path in paths if path in found]
        if tensors:
            html += distribution(picture, tensors, saturated if kind == "activation" else {})
    return html
