"""Twins: a training script run without and with the monitor; what the first saw is what the second must have recorded.

The truth is taken by the script itself, in float64, from tensors that no monitor has been near.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import auscult
from auscult.core.errors import UnknownName

Key = tuple[str, str, int]  # metric, path, step


def norm(*tensors: Tensor) -> float:
    """L2 norm of all elements together, in float64."""
    return sum(float((each.detach().to_dense().abs().double() ** 2).sum()) for each in tensors) ** 0.5


class Twin:
    """What a script is given, in place of auscult.

    Attributes:
        step: Updates made so far.
        watched: Whether this is the run with the monitor.
    """

    def __init__(self, path: Path | None) -> None:
        self.step = 0
        self.watched = path is not None
        self.bits: list[Tensor] = []
        self.truth: dict[Key, tuple[float, float]] = {}  # value and relative tolerance
        self.unknown: set[Key] = set()
        self.monitors: list[auscult.Monitor] = []
        self._path = path
        self._before: dict[str, Tensor] = {}

    @contextmanager
    def watch(self, model: nn.Module, optimizer: object, **options: object) -> Iterator["auscult.Monitor | None"]:
        """`auscult.watch` that measures everything at every step, or nothing at all; the end state is compared."""
        try:
            if self._path is None:
                yield None
            else:
                with auscult.watch(model, optimizer, self._path, **{"every": (1, 1), **options}) as monitor:
                    self.monitors.append(monitor)
                    yield monitor
        finally:
            self.keep(*model.state_dict().values(), *(each.grad for each in model.parameters()), torch.get_rng_state())

    def log(self, **values: float | Tensor) -> None:
        """Log numbers that belong to the step made last."""
        for name, value in values.items():
            self.expect(name, "", float(torch.as_tensor(value).detach()), step=self.step - 1)
        for monitor in self.monitors:
            monitor.log(**values)

    @staticmethod
    def norm(*tensors: Tensor) -> float:
        """L2 norm of all elements together, in float64."""
        return norm(*tensors)

    def keep(self, *tensors: Tensor | None) -> None:
        """Compare tensors between the twins, bit by bit, as they are now."""
        self.bits += [torch.empty(0) if each is None else each.detach().clone() for each in tensors]

    def expect(self, metric: str, path: str, value: float, rel: float = 1e-6, step: int | None = None) -> None:
        """What must have been recorded of a step, the one in progress unless told otherwise."""
        self.truth[metric, path, self.step if step is None else step] = (float(value), rel)

    def unobserved(self, metric: str, path: str, step: int | None = None) -> None:
        """What cannot be known of a step."""
        self.unknown.add((metric, path, self.step if step is None else step))

    def gradients(self, model: nn.Module, scale: float = 1.0, rel: float = 1e-6) -> None:
        """The gradients are what the update is made of, but for a factor and for clipping."""
        found: dict[str, Tensor] = {}
        for path, each in model.named_parameters():
            if each.grad is None:
                self.unobserved("grad_norm", path)
            else:
                found[path] = each.grad
                self.expect("grad_norm", path, norm(each.grad) / scale, rel)
        self.expect("grad_norm", "", norm(*found.values()) / scale, rel)
        self.keep(*found.values())

    def before(self, model: nn.Module) -> None:
        """The parameters are what the next update changes."""
        self._before = {path: each.detach().clone() for path, each in model.named_parameters()}

    def after(self, model: nn.Module, rel: float = 1e-6) -> None:
        """An update was made of every parameter that requires a gradient, and the step is over."""
        for path, each in model.named_parameters():
            if each.requires_grad:
                self.expect("param_norm", path, norm(each), rel)
                wide = torch.complex128 if each.is_complex() else torch.float64
                self.expect("update_norm", path, norm(each.detach().to(wide) - self._before[path].to(wide)), rel)
        self.step += 1


Script = Callable[[Twin], None]


@pytest.fixture
def train(tmp_path: Path) -> Callable[[Script], None]:
    """Run a script twice and compare."""

    def run(script: Script, watched: bool) -> Twin:
        torch._dynamo.reset()
        torch.manual_seed(0)
        twin = Twin(tmp_path / "run" if watched else None)
        script(twin)
        return twin

    def compare(script: Script) -> None:
        always = torch.is_warn_always_enabled()
        torch.set_warn_always(True)  # otherwise torch gives some warnings once only, and to whoever comes first
        try:
            bare, watched = run(script, False), run(script, True)
        finally:
            torch.set_warn_always(always)
        same = [_same(a, b) for a, b in zip(bare.bits, watched.bits, strict=True)]
        assert len(same) > 0 and all(same), f"{same.count(False)} of {len(same)} tensors differ"
        assert [monitor.failures for monitor in watched.monitors] == [[]] * len(watched.monitors)
        check(auscult.load(tmp_path / "run"), bare.truth, bare.unknown)

    return compare


def check(run: auscult.Run, truth: Mapping[Key, tuple[float, float]], unknown: set[Key]) -> None:
    """Everything that can be known was recorded as it was, and nothing that cannot."""
    assert truth or unknown
    made_up = {key: found for key in sorted(unknown) if (found := _recorded(run, key)) is not None}
    wrong = {
        key: (found, value)
        for key, (value, rel) in truth.items()
        if (found := _recorded(run, key)) is None or found != pytest.approx(value, rel=rel, abs=0.0, nan_ok=True)
    }
    assert (wrong, made_up) == ({}, {})
    steps = {step for _, _, step in truth}
    assert set(run.steps.tolist()) >= steps and len(run.steps) == run.last_step + 1 == max(steps, default=-1) + 1


def _recorded(run: auscult.Run, key: Key) -> float | None:
    metric, path, step = key
    try:
        series = run.series(metric, path)
    except UnknownName:
        return None
    return series.at(step) if step in series.steps else None


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same bits, NaN included."""
    if one.is_sparse:
        one, other = one.to_dense(), other.to_dense()
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    if one.device.type == "meta":
        return True
    return bool(torch.equal(*(each.contiguous().reshape(-1).view(torch.uint8) for each in (one, other))))
