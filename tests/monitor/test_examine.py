"""Steps in full detail: which they are, and that what they say is true of the step they name."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import auscult
from auscult.core.errors import SetupError, UnknownName
from auscult.core.run import Run


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 600), nn.BatchNorm1d(600), nn.Tanh(), nn.Dropout(0.1), nn.Linear(600, 4))


def train(path: Path, updates: int, examine: tuple[int, ...] = (), **options: object) -> tuple[Run, nn.Sequential]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    with auscult.watch(model, optimizer, path, **{"every": (1, 8), **options}) as monitor:
        for step in range(updates):
            inputs = torch.randn(64, 20, generator=generator)
            if step in examine:
                monitor.examine()
            loss = model(inputs).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    assert not monitor.failures
    return auscult.load(monitor.path), model


def test_the_first_the_last_and_few_between_are_examined(tmp_path: Path) -> None:
    run, _ = train(tmp_path / "run", 150, examine=(10,), steps=150)
    assert run.details == (0, 10, 64, 128, 149)
    assert run.until(64).details == (0, 10, 64)
    with pytest.raises(UnknownName, match=r"0, 10, 64, 128, 149.*monitor\.examine"):
        run.detail(11)


def test_what_it_says_is_true_of_the_step(tmp_path: Path) -> None:
    run, model = train(tmp_path / "run", 12, steps=12)
    detail = run.detail(11)
    for path, parameter in model.named_parameters():
        exact = parameter.detach().double()
        found = detail.tensor("param", path)
        assert found.mean == pytest.approx(exact.mean().item(), rel=1e-9, abs=1e-12)
        assert found.std == pytest.approx(exact.std().item(), rel=1e-9)
        assert found.count == parameter.numel()
        assert detail.tensor("update", path).std == pytest.approx(run.series("update_std", path).at(11), rel=1e-6)
        assert detail.tensor("grad", path).mean == pytest.approx(run.series("grad_mean", path).at(11), rel=1e-5)
    assert {each.path for each in detail.of("activation")} == {"0", "1", "2", "3", "4"}
    (statistics,) = detail.batch_statistics
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None
    assert statistics.running_mean == pytest.approx(norm.running_mean.numpy(), abs=1e-6)
    (units,) = detail.units
    assert (units.path, units.kind, units.map.shape) == ("2", "saturated", (256, 64))
    assert detail.fan_ins == {"0.weight": 20, "4.weight": 600}


def test_activations_of_an_examined_step_are_of_all_elements(tmp_path: Path) -> None:
    run, _ = train(tmp_path / "run", 3, examine=(1,))
    found = run.detail(1).tensor("activation", "0")
    assert found.count == 64 * 600  # more than a sample
    assert run.series("activation_std", "0").at(1) == pytest.approx(found.std, rel=1e-6)
    assert run.series("activation_std", "0").steps.tolist() == [0, 1]


def test_asked_after_the_forward_pass_it_is_the_next_step(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "run", every=(1, 8)) as monitor:
        for step in range(5):
            loss = model(torch.randn(8, 20)).square().mean()
            if step == 2:
                monitor.examine()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert auscult.load(monitor.path).details == (0, 3)


def test_training_is_the_same_to_the_bit(tmp_path: Path) -> None:
    _, plain = train(tmp_path / "plain", 20, activations=False, every=64)
    _, examined = train(tmp_path / "examined", 20, examine=tuple(range(20)))
    for one, other in zip(plain.state_dict().values(), examined.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_two_backward_passes_of_one_step_are_one_set_of_activations(tmp_path: Path) -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    gradients: list[Tensor] = []
    with auscult.watch(model, optimizer, tmp_path / "run", every=(1, 8)) as monitor:
        for _ in range(2):
            hidden = model[:4](torch.randn(8, 20))
            model(torch.randn(8, 20)).square().mean().backward()
            del hidden
        gradients += [each.grad.clone() for each in model.parameters() if each.grad is not None]
        optimizer.step()
    detail = auscult.load(monitor.path).detail(0)
    assert detail.tensor("activation", "4").count == 2 * 8 * 4
    assert detail.tensor("grad", "4.weight").std == pytest.approx(gradients[-2].double().std().item(), rel=1e-9)


def test_a_resumed_run_forgets_the_details_it_goes_back_behind(tmp_path: Path) -> None:
    train(tmp_path / "run", 100, steps=100)
    run, _ = train(tmp_path / "run", 3, if_exists="resume", step=50)
    assert run.details == (0,) and run.last_step == 52


def test_damage_is_left_out_where_that_is_asked(tmp_path: Path) -> None:
    train(tmp_path / "run", 65)
    file = sorted((tmp_path / "run" / "details").iterdir())[1]
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(auscult.core.errors.StoreError, match="damaged"):
        auscult.load(tmp_path / "run").detail(64)
    run = auscult.load(tmp_path / "run", skip_damage=True)
    assert run.details == (0,) and "details" in run.damage[0]
    assert np.isfinite(run.detail(0).tensor("param", "0.weight").std)


@pytest.mark.parametrize("steps", [-1, 2.5, "many"])
def test_a_wrong_number_of_steps_is_refused(tmp_path: Path, steps: object) -> None:
    with pytest.raises(SetupError, match=r"epochs \* len\(loader\)"):
        train(tmp_path / "run", 1, steps=steps)


def test_what_was_found_is_looked_at_more_closely(tmp_path: Path) -> None:
    """With an adapting cadence; the pauses make sure that the budget has room for it."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, tmp_path / "run", budget=0.9) as monitor:
        for step in range(40):
            time.sleep(0.05 if step < 20 else 0.0)
            loss = model(torch.randn(64, 20)).square().mean() * (torch.nan if step == 20 else 1.0)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    run = auscult.load(monitor.path)
    assert [each.step for each in auscult.diagnose(run) if each.code == "L001"] == [20]
    assert len(run.details) == 3 and run.details[1] == 20 and 20 < run.details[2] < 24  # looked back at, then ahead
    sampled = run.series("grad_mean", "0.weight").steps
    assert sampled[sampled > 20].tolist() == list(range(run.details[2], run.details[2] + 16))
