"""Gains: by how much each layer multiplies the scale of its input as it was initialised, as HTML."""

from collections.abc import Sequence
from html import escape

from auscult.core.detail import Detail
from auscult.core.run import Parameter
from auscult.pages.curve import evenly
from auscult.pages.tables import table
from auscult.pages.wording import counted, dimensions, figure, shown

MAX_ROWS = 400
NOTE = (
    "Gain = root-mean-square of the weight × sqrt(fan-in). A gain of 1 keeps the scale of the input through a linear "
    "layer; usual before tanh is 5/3 ≈ 1.667 (torch.nn.init.calculate_gain), before ReLU sqrt(2) ≈ 1.414 (He et al., "
    "2015). Healthy at the start: outputs of similar std in all layers, the last one small (Karpathy, 2022)."
)


def gain_table(detail: Detail, weights: Sequence[Parameter]) -> str:
    """Gain, fan-in and spread of the output of every layer.

    Args:
        detail: Everything about the first recorded step; its parameters stand right after that step's update.
        weights: The parameters in forward order.
    """
    gains = detail.gains
    stds = {each.path: each.std for each in detail.of("param")}
    outputs = {each.path: each.std for each in detail.of("activation")}
    seen = [each for each in weights if each.path in gains]
    if not seen:
        return '<p class="quiet">The fan-in of no layer is known.</p>'
    rows = [
        (
            shown(each.path),
            dimensions(each.shape),
            f"{detail.fan_ins[each.path]:,}",
            figure(stds[each.path]),
            figure(gains[each.path]),
            figure(outputs.get(each.path.rpartition(".")[0])),
        )
        for each in (seen[index] for index in evenly(len(seen), MAX_ROWS))
    ]
    note = NOTE
    if len(rows) < len(seen):
        note += f" Shown are {len(rows)} of {counted(len(seen), 'weight')}, evenly spread over depth."
    head = ("weight", "shape", "fan-in", "std of weight", "gain", "std of output")
    return f'<p class="note">{escape(note)}</p>{table(f"Gain and fan-in at step {detail.step:,}", head, rows)}'
