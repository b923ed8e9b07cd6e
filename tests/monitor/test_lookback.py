"""Look-back: the step in which something was found, in full detail, held against the tensors of a bare run."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import auscult
from auscult.core.detail import Detail, TensorDetail
from auscult.store.lines import read_lines

FAULT, UPDATES = 5, 8


class Net(nn.Module):
    """Dropout, BatchNorm, a tied weight, a bare parameter, one in no optimizer, a plain attribute that counts."""

    def __init__(self, wide: int = 24) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(10))
        self.first, self.norm = nn.Linear(10, wide), nn.BatchNorm1d(wide)
        self.act, self.drop = nn.Tanh(), nn.Dropout(0.3)
        self.second, self.third = nn.Linear(wide, wide), nn.Linear(wide, wide)
        self.third.weight = self.second.weight
        self.head = nn.Linear(wide, 3)
        self.seen = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen += 1
        hidden = self.drop(self.act(self.norm(self.first(inputs * self.scale))))
        return self.head(self.act(self.third(self.act(self.second(hidden)))))


Truth = dict[tuple[str, str], list[Tensor]]


def follow(model: nn.Module, truth: Truth) -> list[torch.utils.hooks.RemovableHandle]:
    """Copy every output of a leaf module, and the gradient at it."""

    def take(path: str, output: Tensor) -> None:
        truth.setdefault(("activation", path), []).append(output.detach().clone())
        gradients = truth.setdefault(("activation_grad", path), [])
        output.register_hook(lambda gradient: gradients.append(gradient.clone()))

    leaves = [(path, each) for path, each in model.named_modules() if path and next(each.children(), None) is None]
    return [each.register_forward_hook(lambda _, __, out, path=path: take(path, out)) for path, each in leaves]


def train(
    path: Path | None,
    *,
    replay: float | None = None,
    wide: int = 24,
    parts: int = 1,
    nan_in_loss: bool = False,
    during: Callable[[int, "auscult.Monitor | None", Tensor], object] = lambda step, monitor, inputs: None,
    **options: object,
) -> tuple[list[Tensor], Truth, "auscult.Monitor | None"]:
    """A run that logs, or has, a NaN loss at step 5: its bits; of a bare one also the tensors of that step."""
    torch.manual_seed(0)
    model, called, truth = Net(wide), list[int](), Truth()
    model.head.register_forward_hook(lambda *_: called.append(1))
    model.first.bias.requires_grad_(False)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.01)
    inputs = targets = torch.empty(0)
    if replay is not None:
        options["replay"] = lambda each: functional.cross_entropy(each(inputs), targets) * replay
    monitor = auscult.watch(model, optimizer, path, **{"every": (1, 16), **options}) if path is not None else None
    bits: list[Tensor] = []
    for step in range(UPDATES):
        looking = monitor is None and step == FAULT
        handles = follow(model, truth) if looking else []
        before = {name: each.detach().clone() for name, each in model.named_parameters()}
        for part in range(parts):
            inputs = torch.randn(16, 10, generator=torch.Generator().manual_seed(10 * step + part))
            targets = inputs[:, 0].gt(0).long()
            loss = functional.cross_entropy(model(inputs), targets)
            (loss * (torch.nan if nan_in_loss and step == FAULT else 1.0)).backward()
        gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
        optimizer.step()
        if looking:
            for name, each in model.named_parameters():
                if name not in gradients:
                    continue
                truth["grad", name], truth["param", name] = [gradients[name]], [each.detach().clone()]
                truth["update", name] = [each.detach() - before[name]]
            truth["running", "norm"] = [model.norm.running_mean.clone(), model.norm.running_var.clone()]
        for each in handles:
            each.remove()
        optimizer.zero_grad()
        if monitor is not None:
            monitor.log(loss=loss * torch.nan if step == FAULT else loss)
        during(step, monitor, inputs)
        bits += [loss.detach(), *gradients.values()]
    if monitor is not None:
        monitor.close()
    bits += [*model.state_dict().values(), torch.get_rng_state(), torch.tensor([model.seen, len(called)])]
    return [each.nan_to_num() if each.is_floating_point() else each for each in bits], truth, monitor


def counts_of(tensor: Tensor) -> tuple[dict[int, int], int]:
    """Elements by bin as `docs/file-format.md` defines bins, and how many are not finite; by NumPy."""
    values = tensor.numpy().astype(np.float32).ravel()
    finite = values[np.isfinite(values)]
    codes = (np.abs(finite).view(np.uint32) >> 21).astype(np.int64) + 1
    signed = np.where(finite == 0, 0, np.where(finite < 0, -codes, codes))
    found, counts = np.unique(signed, return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True)), len(values) - len(finite)


def assert_true(found: TensorDetail, exact: list[Tensor]) -> None:
    """Every bin holds the elements it should; the moments are those of float64."""
    whole = torch.cat([each.reshape(-1) for each in exact])
    assert (dict(zip(found.histogram.codes.tolist(), found.histogram.counts.tolist())), found.histogram.nonfinite) == (
        counts_of(whole)
    )
    wide = whole.double()
    assert [found.minimum, found.maximum] == pytest.approx([wide.min().item(), wide.max().item()], abs=0, nan_ok=True)
    assert found.mean == pytest.approx(wide.mean().item(), rel=1e-9, abs=1e-15, nan_ok=True)
    assert found.std == pytest.approx(wide.std().item(), rel=1e-9, nan_ok=True)


def looked_back(path: Path) -> list[dict[str, object]]:
    return [each for each in read_lines(path / "events.jsonl").objects if each["kind"] == "look_back"]


def detail_of(monitor: "auscult.Monitor | None") -> Detail:
    """The detail of the step with the fault."""
    assert monitor is not None and monitor.failures == []
    run = auscult.load(monitor.path)
    assert run.details == (0, FAULT)
    (told,) = looked_back(monitor.path)
    assert (told["step"], told["reason"], told["finding"]) == (FAULT, "", ["L001", ""])
    detail = run.detail(FAULT)
    assert run.detail(0).doubts is None
    return detail


@pytest.mark.parametrize("nan_in_loss", [False, True])
@pytest.mark.parametrize("replay", [None, 1.0])
def test_the_step_of_the_finding_is_what_it_was_to_the_bit(replay, nan_in_loss, tmp_path: Path) -> None:
    bits, truth, _ = train(None, nan_in_loss=nan_in_loss)
    factor = torch.nan if replay and nan_in_loss else replay
    watched, _, monitor = train(tmp_path / "run", replay=factor, nan_in_loss=nan_in_loss)
    assert all(torch.equal(a, b) for a, b in zip(bits, watched, strict=True))
    detail = detail_of(monitor)
    assert detail.doubts == ("hooks on head were not called",)
    kinds = ("activation", "param", "update", *(("activation_grad", "grad") if replay else ()))
    wanted = {key for key in truth if key[0] in kinds and key[1] != "first.bias"}  # which nobody updates
    assert {(each.kind, each.path) for each in detail.tensors} == wanted
    for each in detail.tensors:
        assert_true(each, truth[each.kind, each.path])
    (statistics,) = detail.batch_statistics
    mean, var = truth["running", "norm"]
    assert statistics.running_mean.tolist() == mean.tolist() and statistics.running_var.tolist() == var.tolist()
    inputs = truth["activation", "first"][0].double()
    assert statistics.batch_mean == pytest.approx(inputs.mean(0).numpy(), rel=1e-5, abs=1e-7)
    assert {each.path for each in detail.units} == {"act"}


def test_large_parameters_are_told_from_their_update(tmp_path: Path) -> None:
    """What no pack holds (above 65,536 elements) is a subtraction away from what it was: at most a rounding off."""
    _, truth, _ = train(None, wide=300)
    detail = detail_of(train(tmp_path / "run", wide=300)[2])
    assert "1 parameters, second.weight first, were told from their update, to its rounding" in (detail.doubts or ())
    for kind in ("param", "update"):
        for each in detail.of(kind):
            assert_true(each, truth[kind, each.path])
    for each in detail.of("activation"):
        exact = torch.cat([part.reshape(-1) for part in truth["activation", each.path]]).double()
        assert each.std == pytest.approx(exact.std().item(), rel=1e-6)


def test_several_passes_of_a_step_are_not_told_as_one(tmp_path: Path) -> None:
    """Of an accumulated gradient only the last part could be made again, so none is told."""
    _, truth, _ = train(None, parts=3)
    detail = detail_of(train(tmp_path / "run", parts=3, replay=1.0)[2])
    assert "the step had 3 forward passes, of which only the last was made again" in (detail.doubts or ())
    assert detail.of("grad") == () and detail.of("activation_grad") == ()
    assert_true(detail.tensor("activation", "first"), truth["activation", "first"][-1:])


def test_gradients_other_than_the_measured_ones_are_left_out(tmp_path: Path) -> None:
    """The function given as `replay` is not the loss of the run."""
    detail = detail_of(train(tmp_path / "run", replay=2.0)[2])
    assert any("in the run it was" in each for each in detail.doubts or ())
    assert detail.of("grad") == () and len(detail.of("activation")) == 7


def test_what_cannot_be_made_again_says_why_and_training_goes_on(tmp_path: Path) -> None:
    def overwrite(step: int, monitor: object, inputs: Tensor) -> None:
        inputs.zero_()

    watched, _, monitor = train(tmp_path / "run", during=overwrite)
    assert all(torch.equal(a, b) for a, b in zip(train(None)[0], watched, strict=True))
    assert monitor is not None and auscult.load(monitor.path).details == (0,)
    (told,) = looked_back(monitor.path)
    assert told["reason"] == "the batch was written to in place after the forward pass began"


@pytest.mark.provokes_failure
@pytest.mark.filterwarnings("ignore:auscult could not go on")
def test_a_failure_of_ours_is_recorded_and_training_goes_on(tmp_path: Path, monkeypatch) -> None:
    def fails(*args: object) -> object:
        raise RuntimeError("injected")

    monkeypatch.setattr("auscult.metrics.ledger.Ledger.nearly_before_update", fails)
    watched, _, monitor = train(tmp_path / "run")
    assert all(torch.equal(a, b) for a, b in zip(train(None)[0], watched, strict=True))
    assert monitor is not None and monitor.failures == [("look-back", "RuntimeError: injected")]
    assert auscult.load(monitor.path).series("update_norm", "head.weight").steps.tolist() == list(range(UPDATES))


def test_no_look_back_without_room_in_the_budget_or_without_a_copy(tmp_path: Path) -> None:
    """With an adapting cadence the price is known from step 0, the one that is always examined."""

    def pause(step: int, monitor: object, inputs: Tensor) -> None:
        time.sleep(0.3 if step < 3 else 0.0)

    for number, (budget, details) in enumerate(((1e-6, 1), (0.99, 2))):
        _, _, monitor = train(tmp_path / str(number), every=None, budget=budget, during=pause)
        assert monitor is not None and [each.code for each in monitor.findings if each.severity != "info"] == ["L001"]
        found = [each for each in auscult.load(monitor.path).details if each <= FAULT]
        assert len(found) == details == 1 + len(looked_back(monitor.path))
    _, _, monitor = train(tmp_path / "intended", snapshot=False)
    assert monitor is not None and auscult.load(monitor.path).details == (0,) and not looked_back(monitor.path)


def test_an_examined_step_is_not_made_again(tmp_path: Path) -> None:
    def examine(step: int, monitor: "auscult.Monitor | None", inputs: Tensor) -> None:
        if monitor is not None and step == FAULT - 1:
            monitor.examine()

    _, _, monitor = train(tmp_path / "run", during=examine)
    assert monitor is not None and auscult.load(monitor.path).detail(FAULT).doubts is None
    assert looked_back(monitor.path) == []


def test_asked_in_the_middle_of_a_step_it_looks_at_none(tmp_path: Path) -> None:
    """When the finding comes up after the next forward pass has begun, what the step began with is gone."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "run", every=(1, 16)) as monitor:
        for step in range(4):
            loss = model(torch.ones(2, 3)).square().mean()
            if step == 2:
                monitor.log(loss=torch.nan)
                assert monitor.findings == []
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            assert isinstance(monitor.findings, list)
    assert [each["step"] for each in looked_back(monitor.path)] == [2]


def test_nothing_is_kept_afterwards(tmp_path: Path) -> None:
    """What a pass made again needs is gone when it is over; a batch is let go when the run is."""
    import gc
    import weakref

    held: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def note(step: int, monitor: object, inputs: Tensor) -> None:
        held.append(weakref.ref(inputs))
        gc.collect()
        alive.append(sum(each() is not None for each in held))

    _, _, monitor = train(tmp_path / "run", during=note)
    assert monitor is not None and len(looked_back(monitor.path)) == 1
    assert max(alive) <= 2  # the loop's own, and one of ours
    gc.collect()
    assert all(each() is None for each in held)
