"""Failures of our own, put into every function that a training step runs: training must not notice.

Which functions these are is not listed but found, by watching a training that uses everything.
"""

import errno
import gc
import importlib
import inspect
import pkgutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import auscult

pytestmark = [
    pytest.mark.provokes_failure,
    pytest.mark.filterwarnings("ignore:auscult could not go on"),
]

# What users, torch and Python call directly; a failure at their very first line is not one that anybody could have
# caught. None of them does more there than look at a flag, or hand on to something in the list of what is injected.
ENTRANCES = {
    "Monitor.log",
    "Monitor.log_categories",
    "Monitor.log_evaluation",
    "Monitor.examine",
    "Monitor.clip_grad_norm_",
    "Monitor.close",
    "Monitor.__del__",
    "Monitor.findings",
    "Monitor._on_forward",
    "Monitor._on_backward",
    "Monitor._on_backward_end",
    "Monitor._before_clip",
    "Monitor._after_clip",
    "Monitor._on_scaler_step",
    "Monitor._before_update",
    "Monitor._after_update",
    "Activations._on_forward",
    "Activations._on_gradient",
    "Activations._on_output",
    "ModuleHook.__call__",
    "BackwardHook._on_gradient",
    "OptimizerHooks._on_pre",
    "OptimizerHooks._on_post",
    "ScaleTap._on_step",
    "ScaleTap.used",
    "ScaleTap.step",
    "FunctionTap.__torch_function__",
    "CarriedGradients._before_adding",
    "CarriedGradients._after_adding",
    "Witness._on_output",
    "Witness._on_loss_gradient",
}
# The net itself, and the few lines that are run outside of it.
NET = {
    "Guard.__call__",
    "GuardedBlock.__init__",
    "GuardedBlock.__enter__",
    "GuardedBlock.__exit__",
    "Monitor._finish_step",
    "Monitor._write_backlog",
    "Journal.findings",
    "is_in_graph",
    "_caller",
    "_listening",
    "_around",
    "_last_sum",
    "_copy",
    "ClipTap.concerned",
    "ScaleTap._stage",
    "_Attempt.__init__",
}


STEPS = 5


def train(path: Path | None, during: Callable[[int, "auscult.Monitor | None"], object] = lambda step, monitor: None):
    """Everything a monitor can meet in one training; returns all bits of it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
    optimizers = {
        "first": torch.optim.SGD(model[:4].parameters(), lr=0.05),
        "last": torch.optim.AdamW(model[2:].parameters(), lr=0.01, fused=True),
    }
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    bits: list[Tensor] = []
    monitor = auscult.watch(model, optimizers, path, every=(1, 1), steps=STEPS) if path is not None else None
    for step in range(STEPS):
        during(step, monitor)
        for part in range(2):
            targets = torch.arange(5) % 3
            loss = functional.cross_entropy(model(torch.randn(5, 6)), targets) * (1e4 if step == 4 else 1)
            scaler.scale(loss * (torch.inf if step == 3 and part else 1)).backward()
        for each in optimizers.values():
            scaler.unscale_(each)
        if monitor is None:
            bits.append(nn.utils.clip_grad_norm_(model.parameters(), 0.5))
        else:
            bits.append(monitor.clip_grad_norm_(0.5))
        nn.utils.clip_grad_value_(model[0].parameters(), 0.4)
        for each in optimizers.values():
            scaler.step(each)
            each.zero_grad()
        scaler.update()
        if monitor is not None:
            monitor.log(loss=loss * (torch.nan if step == 1 else 1))
            monitor.log_categories([1.0, 2.0], ["a", "b"])
            monitor.log_evaluation("val", loss=1.0)
            if step != 0:  # so that step 1, in which something is found, is looked back at
                monitor.examine()
            assert isinstance(monitor.findings, list)
        bits.append(loss.detach())
    if monitor is not None:
        monitor.close()
    return [*bits, *(each.clone() for each in model.state_dict().values()), torch.get_rng_state()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(one, other))


def functions() -> dict[CodeType, FunctionType]:
    """Every function and method of the rooms that a training runs through, by its code."""
    found: dict[CodeType, FunctionType] = {}
    for room in ("monitor", "metrics", "store", "rules"):
        package = importlib.import_module(f"auscult.{room}")
        for each in pkgutil.iter_modules(package.__path__, f"auscult.{room}."):
            for owner in (module := importlib.import_module(each.name), *classes(module)):
                for value in vars(owner).values():
                    plain = getattr(value, "fget", None) or getattr(value, "__func__", value)
                    if isinstance(plain, FunctionType) and plain.__module__ == module.__name__:
                        found[plain.__code__] = plain
    return found


def classes(module: object) -> Iterator[type]:
    return (each for each in vars(module).values() if inspect.isclass(each) and each.__module__ == module.__name__)


def raising(*args: object, **kwargs: object) -> object:
    raise RuntimeError("injected")


def test_a_failure_in_any_function_changes_nothing(tmp_path: Path) -> None:
    known, called = functions(), dict[str, FunctionType]()

    def note(frame, event: str, arg: object) -> None:
        function = known.get(frame.f_code) if event == "call" else None
        if function is not None and not function.__code__.co_freevars:
            called[function.__qualname__] = function

    def begin(step: int, monitor: object) -> None:
        if step == 1:
            threading.setprofile(note)
            sys.setprofile(note)

    gc.collect()  # what other tests left is not to be found
    try:
        watched = train(tmp_path / "found", begin)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    bare = train(None)
    assert same(bare, watched)
    wanted = {name: each for name, each in called.items() if name not in ENTRANCES | NET and "__torch" not in name}
    assert len(wanted) > 100
    broken: dict[str, str] = {}
    for number, (name, function) in enumerate(wanted.items()):
        whole = function.__code__

        def inject(step: int, monitor: object, function: FunctionType = function) -> None:
            if step == 1:
                function.__code__ = raising.__code__

        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                result = train(tmp_path / str(number), inject)
        except Exception as error:
            broken[name] = f"{type(error).__name__}: {error}"
            continue
        finally:
            function.__code__ = whole
        texts = [str(each.message).partition("(")[0] for each in caught]
        if not same(bare, result):
            broken[name] = "the training is another one"
        elif len(texts) != len(set(texts)):
            broken[name] = f"warned more than once: {texts}"
    gc.collect()
    train(tmp_path / "whole")  # whose end gives torch back what a broken one could not
    assert broken == {}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize(
    "target",
    [
        "auscult.store.log.AppendLog.append",
        "auscult.store.log.AppendLog.cut",
        "auscult.store.log.AppendLog.sync",
        "auscult.store.log.AppendLog.close",
        "auscult.store.log.AppendLog.__init__",
        "auscult.store.writer.write_detail",
        "auscult.store.writer.write_info",
        "auscult.store.rowlog.RowLog.append_block",
        "auscult.store.sealer.write_tile",
        "auscult.store.sealer.read_tail",
    ],
)
def test_a_disk_that_takes_nothing_more(target: str, error: int, tmp_path: Path, monkeypatch) -> None:
    def fails(*args: object, **kwargs: object) -> object:
        raise OSError(error, "no disk")

    def inject(step: int, monitor: object) -> None:
        if step == 2:
            monkeypatch.setattr(target, fails)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched = train(tmp_path / "run", inject)
    monkeypatch.undo()
    assert same(train(None), watched)
    parts = [str(each.message).partition("(")[0] for each in caught]
    assert len(parts) == len(set(parts))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert {0} <= set(auscult.load(tmp_path / "run").steps.tolist())


def test_the_directory_is_taken_away_and_put_back(tmp_path: Path) -> None:
    def move(step: int, monitor: "auscult.Monitor | None") -> None:
        if monitor is not None and step == 2:
            monitor.path.rename(tmp_path / "elsewhere")
        if monitor is not None and step == 4:
            (tmp_path / "elsewhere").rename(monitor.path)

    watched = train(tmp_path / "run", move)
    assert same(train(None), watched)
    assert len(auscult.load(tmp_path / "run").steps) > 2


def test_a_failure_of_ours_stands_in_the_run(tmp_path: Path, monkeypatch) -> None:
    def fails(*args: object, **kwargs: object) -> object:
        raise RuntimeError("injected")

    def inject(step: int, monitor: object) -> None:
        if step == 2:
            monkeypatch.setattr("auscult.metrics.marks.Marks.remember", fails)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched = train(tmp_path / "run", inject)
    monkeypatch.undo()
    assert same(train(None), watched)
    assert len(caught) == 1 and "RuntimeError: injected" in str(caught[0].message)
    run = auscult.load(tmp_path / "run")
    failures = [each for each in run.events if each["kind"] == "failure"]
    assert [(each["part"], each["message"]) for each in failures] == [("measuring", "RuntimeError: injected")]
    assert len(run.series("loss")) == len(run.steps) == STEPS
