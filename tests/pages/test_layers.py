import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from auscult.core.detail import BatchStatistics, Detail, TensorDetail, UnitMap
from auscult.core.run import Module, Parameter, Run
from auscult.pages.layers import layers

Maker = Callable[..., TensorDetail]


def make_detail(
    tensor: Maker, step: int, count: int = 3, size: int = 300, names: tuple[str, ...] | None = None
) -> Detail:
    """Linear and Tanh in turn; Linear with weight and bias."""
    random = np.random.default_rng(step)
    names = names or tuple(f"layers.{number}" for number in range(2 * count))
    tensors: list[TensorDetail] = []
    for path in names:
        outputs = random.standard_normal(size)
        tensors += [tensor("activation", path, outputs), tensor("activation_grad", path, outputs * 1e-3)]
    for path in names[::2]:
        for kind, scale in (("param", 0.1), ("grad", 1e-3), ("update", 1e-4)):
            tensors += [
                tensor(kind, f"{path}.weight", random.standard_normal(size) * scale),
                tensor(kind, f"{path}.bias", random.standard_normal(10) * scale),
            ]
    share = np.zeros(4, np.float32)
    units = tuple(
        UnitMap("saturated", path, share, np.arange(4, dtype=np.int32), np.zeros((4, 8), np.float32))
        for path in names[1::2]
    )
    return Detail(step, tuple(tensors), units, fan_ins={f"{path}.weight": 30 for path in names[::2]})


def make_run(
    maker: Any, details: dict[int, Detail | None], count: int = 3, names: tuple[str, ...] | None = None
) -> Run:
    built = maker(steps=5)
    names = names or tuple(f"layers.{number}" for number in range(2 * count))
    built.modules = tuple(Module(path, "Tanh" if n % 2 else "Linear", True) for n, path in enumerate(names))
    built.parameters = tuple(
        Parameter(f"{path}.{name}", shape, "float32", True, "0")
        for path in names[::2]
        for name, shape in (("weight", (30, 10)), ("bias", (10,)))
    )
    built.add("user", "loss", "", np.ones(5), np.arange(5) * 1000)
    built.details = details
    return built.make()


def panels(html: str) -> list[tuple[int, bool]]:
    """Step of each panel, and whether it is there without a script."""
    return [(int(step), not hidden) for step, hidden in re.findall(r'"layers-at" data-step="(\d+)"( hidden)?', html)]


def options(html: str, name: str) -> list[tuple[str, str]]:
    select = re.search(rf'<select id="{name}">(.*?)</select>', html)
    assert select is not None
    return re.findall(r'<option value="(\d+)">([^<]+)</option>', select[1])


def test_without_details_it_is_said(healthy: Run) -> None:
    assert "Not observed" in layers(healthy) and "<select" not in layers(healthy)


def test_the_selectors_have_every_recorded_step_and_type(maker: Any, tensor: Maker) -> None:
    steps = (0, 64, 128, 4000)
    html = layers(make_run(maker, {step: make_detail(tensor, step) for step in steps}))
    assert options(html, "layers-step") == [("0", "0"), ("64", "64"), ("128", "128"), ("4000", "4,000")]
    assert options(html, "layers-type") == [("0", "Tanh (3)"), ("1", "Linear (3)")], "what saturates comes first"
    assert panels(html) == [(0, True), (64, False), (128, False), (4000, True)]
    assert re.search(r'id="layers-controls" hidden', html), "selectors are of no use without a script"


def test_of_many_steps_six_are_shown_with_the_first_and_the_last(maker: Any, tensor: Maker) -> None:
    steps = tuple(64 * number for number in range(20))
    html = layers(make_run(maker, {step: make_detail(tensor, step, size=20) for step in steps}))
    shown = [step for step, _ in panels(html)]
    assert len(shown) == 6 and shown[0] == 0 and shown[-1] == steps[-1] and set(shown) <= set(steps)
    assert "Recorded in full detail were 20 steps" in html


def test_a_step_that_was_made_again_is_marked_with_its_doubts(maker: Any, tensor: Maker) -> None:
    made = {step: make_detail(tensor, step) for step in (0, 1000, 2000)}
    details = {0: made[0], 1000: replace(made[1000], doubts=()), 2000: replace(made[2000], doubts=("<b> was lost",))}
    parts = layers(make_run(maker, details)).split("<h3>At step ")[1:]
    assert ["Looked back at" in each for each in parts] == [False, True, True]
    assert ["may differ" in each for each in parts] == [False, False, True]
    assert "&lt;b&gt; was lost" in parts[2] and "<b>" not in parts[2]


def test_a_panel_has_every_picture_and_table_of_the_notebook(maker: Any, tensor: Maker) -> None:
    html = layers(make_run(maker, {0: make_detail(tensor, 0)}))
    titles = re.findall(r"<h4>([^<]+)</h4>", html)
    assert titles == ["Activations", "Activation gradients"] * 2 + [
        "Weight gradients", "Weights", "Weight updates", "Saturated and dead units",
    ]  # fmt: skip
    assert "Gradient and update beside the weight" in html and "Gain and fan-in at step 0" in html
    grads = html.split("<h4>Weight gradients</h4>")[1].split("</table>")[0]
    assert "layers.0.weight" in grads and "bias" not in grads, "vectors are not pictured beside matrices"
    assert re.search(r'<div class="grid of-type" data-type="0">.*?layers\.1', html)
    assert re.search(r'<div class="grid of-type" data-type="1" hidden>.*?layers\.0', html)


def test_batch_statistics_have_a_table_where_there_are_any(maker: Any, tensor: Maker) -> None:
    plain = make_detail(tensor, 0)
    ones = np.ones(4, np.float32)
    normed = Detail(0, plain.tensors, plain.units, (BatchStatistics("norm", ones, ones, ones, ones),), plain.fan_ins)
    assert "BatchNorm: running against batch statistics" in layers(make_run(maker, {0: normed}))
    assert "BatchNorm" not in layers(make_run(maker, {0: plain}))


def test_a_model_of_vectors_alone_is_pictured_too(maker: Any, tensor: Maker) -> None:
    built = maker(steps=5)
    built.parameters = (Parameter("scale", (10,), "float32", True, "0"),)
    built.add("user", "loss", "", np.ones(5))
    built.details = {0: Detail(0, (tensor("param", "scale", np.arange(10)), tensor("grad", "scale", np.arange(10))))}
    html = layers(built.make())
    assert re.findall(r"<h4>([^<]+)</h4>", html) == ["Weight gradients", "Weights"]
    assert "layers-type" not in html


def test_damaged_details_are_said_and_the_others_shown(maker: Any, tensor: Maker) -> None:
    html = layers(make_run(maker, {0: make_detail(tensor, 0), 64: None}))
    assert panels(html) == [(0, True)] and "Expected &lt;whole&gt; details" in html
    assert "those of step 0 are damaged" in layers(make_run(maker, {0: None}))


def test_modules_that_the_run_does_not_know_are_shown(maker: Any, tensor: Maker) -> None:
    built = maker(steps=5)
    built.add("user", "loss", "", np.ones(5))
    built.details = {0: make_detail(tensor, 0)}
    html = layers(built.make())
    assert options(html, "layers-type") == [("0", "module (6)")]


def test_a_model_of_one_type_each_names_what_is_not_drawn(maker: Any, tensor: Maker) -> None:
    built = maker(steps=5)
    names = tuple(f"block.{number}" for number in range(10))
    built.modules = tuple(Module(path, f"Kind{number}", True) for number, path in enumerate(names))
    built.add("user", "loss", "", np.ones(5))
    built.details = {0: Detail(0, tuple(tensor("activation", path, np.arange(9)) for path in names))}
    html = layers(built.make())
    assert len(options(html, "layers-type")) == 6 and "Not drawn: Kind6, Kind7, Kind8 and Kind9" in html


def test_names_are_escaped(maker: Any, tensor: Maker, hostile_paths: tuple[str, ...]) -> None:
    run = make_run(maker, {0: make_detail(tensor, 0, names=hostile_paths)}, names=hostile_paths)
    html = layers(run)
    assert "<script" not in html and "<img src=x" not in html and "\u202e" not in html and "\x1b" not in html


@pytest.mark.parametrize("values", [np.nan, 0.0, 1.0, np.inf], ids=str)
def test_tensors_without_a_distribution(maker: Any, tensor: Maker, values: float) -> None:
    plain = make_detail(tensor, 0)
    odd = Detail(0, tuple(tensor(each.kind, each.path, np.full(50, values)) for each in plain.tensors),
                 plain.units, fan_ins=plain.fan_ins)  # fmt: skip
    html = layers(make_run(maker, {0: odd}))
    assert html.count("Nothing to draw") == 7 and '<svg class="densities"' not in html
    assert ("nothing finite" in html) == (not np.isfinite(values))


def test_two_hundred_layers_stay_small(maker: Any, tensor: Maker) -> None:
    steps = (0, 64, 128, 256, 512, 1024)
    details = {step: make_detail(tensor, step, count=100, size=60) for step in steps}
    html = layers(make_run(maker, details, count=100))
    assert html.count("<path") < 6 * (7 * 24 * 2 + 200) and len(html.encode()) < 3e6
