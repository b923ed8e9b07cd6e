from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import auscult
from auscult.core.finding import Finding
from auscult.core.run import Run
from auscult.core.sink import Channel
from auscult.pages.verdict import is_sick, losses, verdict
from auscult.pages.wording import figure

Maker = Callable[..., Run]
FindingMaker = Callable[..., Finding]


def test_healthy_gives_its_vital_signs(healthy: Run) -> None:
    text = verdict(healthy, [])
    loss = healthy.series("train/loss").values[-1]
    ratio = np.median(healthy.series("update_ratio").values)
    assert text.startswith("No problem found: the run is finished (201 steps recorded, last step 200)")
    assert f"last loss {figure(loss)}" in text
    assert f"median update ratio {figure(float(ratio), 2)}" in text
    assert "100 % of steps finite" in text


def test_sick_names_the_worst_with_place_and_onset(exploding: Run, finding: FindingMaker) -> None:
    text = verdict(exploding, [finding(severity="warning", step=3, code="U003"), finding()])
    assert text.startswith("Critical: exploding-gradient (G001) in layers.2.weight since step 120")
    assert "1 further finding;" in text
    assert "is unfinished" in text


def test_a_run_without_a_loss_says_that_nothing_was_judged_by_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parts = {"G": nn.Linear(2, 2), "D": nn.Linear(2, 1)}
    optimizer = torch.optim.SGD([each for part in parts.values() for each in part.parameters()], lr=0.01)
    with auscult.watch(nn.ModuleDict(parts), optimizer, tmp_path / "gan") as monitor:
        for _ in range(20):
            loss = (parts["D"](parts["G"](torch.randn(4, 2))) - 1).abs().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(g_loss=loss)
    run = auscult.load(tmp_path / "gan")
    text = verdict(run, auscult.diagnose(run))
    assert "; no number named loss was logged beside g_loss, so no rule judged by one." in text
    assert f", last g_loss {figure(run.series('g_loss').values[-1])}," in text


def logging(path: Path, **values: float) -> Run:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, path) as monitor:
        for _ in range(3):
            model(torch.randn(4, 2)).abs().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(values)
    return auscult.load(path)


@pytest.mark.parametrize("name", ["train_loss", "Loss/train", "train_loss_epoch", "critic/loss"])
def test_the_training_loss_is_known_by_other_names(name: str, tmp_path: Path) -> None:
    text = verdict(logging(tmp_path / "run", **{name: 0.25, "val_loss": 9.0, "g_loss": 8.0}), [])
    assert ", last loss 0.25," in text and "judged" not in text and "g_loss" not in text


def test_losses_of_several_networks_are_told_and_not_judged_as_one(tmp_path: Path) -> None:
    run = logging(tmp_path / "run", g_loss=0.5, d_loss=1.5, val_loss=9.0, loss_scale=1024.0)
    text = verdict(run, [])
    assert ", last g_loss 0.5, last d_loss 1.5," in text and "9" not in text.replace("99.9", "")
    assert "; no number named loss was logged beside g_loss and d_loss, so no rule judged by one." in text


def test_where_nothing_is_a_loss_it_is_said(tmp_path: Path) -> None:
    text = verdict(logging(tmp_path / "run", reward=0.5, val_loss=9.0), [])
    assert "; no number named loss was logged, so no rule judged by one." in text


def test_recovered_and_notes_are_no_active_problem(healthy: Run, finding: FindingMaker) -> None:
    recovered = finding(status="recovered")
    assert not is_sick([recovered, finding(severity="info")])
    assert is_sick([recovered, finding(severity="warning")])
    text = verdict(healthy, [recovered])
    assert text.startswith("No active problem") and "recovered from exploding-gradient" in text
    assert "worth a look: exploding-gradient" in verdict(healthy, [finding(severity="info")])


def test_nothing_recorded(run_of: Maker) -> None:
    assert (
        verdict(run_of(steps=0, finished=False), []) == "Nothing was recorded: the run is unfinished and has no steps."
    )


def test_one_step_and_the_share_of_finite_steps(run_of: Maker, poisoned: Run) -> None:
    assert "1 step recorded, last step 0" in verdict(run_of(steps=1), [])
    assert "19.9 % of steps finite" in verdict(poisoned, [])
    assert "last loss NaN" in verdict(poisoned, [])


def test_almost_all_is_never_called_all(run_of: Maker) -> None:
    def spoil(name: str, values: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(values)) == 5, 0.0, values) if name.startswith("finite") else values

    assert "99.9 % of steps finite" in verdict(run_of(steps=3000, change=spoil), [])


def flawed(name: str, value: float, first: int, every: int) -> Callable[[str, np.ndarray], np.ndarray]:
    """What makes one channel not finite at every so many of its values, and each step with such a value not finite."""

    def change(channel: str, values: np.ndarray) -> np.ndarray:
        bad = (np.arange(len(values)) >= first) & ((np.arange(len(values)) - first) % every == 0)
        return np.where(bad, {name: value, "finite/": 0.0}.get(channel, values), values)

    return change


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_logged_number_that_is_not_finite_is_named(run_of: Maker, value: float) -> None:
    run = run_of(change=flawed("accuracy/", value, 1, 2))
    text = verdict(run, [])
    named = "the logged accuracy was not finite 100 of 201 times, first at step 1"
    assert text.startswith(f"No problem found, but {named}: the run is finished"), text
    assert "50.2 % of steps finite" in text
    assert verdict(run.until(0), []).startswith("No problem found: ")
    assert "0 of 1" not in verdict(run.until(1), []) and "not finite 1 of 2 times" in verdict(run.until(1), [])


def test_a_number_that_was_not_observed_is_not_one_that_is_not_finite(run_of: Maker) -> None:
    run = run_of(change=flawed("val/loss/", np.nan, 1, 1))  # an evaluation at every twentieth step
    assert "but the logged val/loss was not finite 10 of 11 times, first at step 20: " in verdict(run, [])
    run = run_of(change=flawed("category_loss/dogs", np.nan, 7, 1000))
    assert "the logged category_loss of dogs was not finite 1 of 201 times, first at step 7: " in verdict(run, [])


def test_what_was_logged_is_named_before_what_was_measured(run_of: Maker) -> None:
    late, early = flawed("accuracy/", np.nan, 9, 1000), flawed("activation_std/layers.1", np.inf, 0, 5)

    def both(name: str, values: np.ndarray) -> np.ndarray:
        return late(name, early(name, values))

    run = run_of(change=both)
    assert "but the logged accuracy was not finite 1 of 201 times, first at step 9 (1 other number likewise): " in (
        verdict(run, [])
    )
    text = verdict(run_of(change=early), [])
    assert "but activation_std of layers.1 was not finite 6 of 26 times, first at step 0: " in text


def test_beside_findings_it_is_said_where_none_of_them_says_it(run_of: Maker, finding: FindingMaker) -> None:
    run = run_of(change=flawed("accuracy/", np.nan, 1, 2))
    note, recovered = finding(severity="info"), finding(code="L001", name="non-finite", status="recovered")
    assert verdict(run, [note]).startswith("No active problem, but the logged accuracy was not finite 100 of 201 times")
    assert verdict(run, [recovered]).startswith("No active problem: ")
    assert "accuracy" not in verdict(run, [finding()])


def test_hostile_names_are_shown(run_of: Maker) -> None:
    change = flawed("accuracy/", np.nan, 0, 1)
    run = run_of(change=change)
    tables: dict = vars(run.source)["tables"]
    channels, steps, rows = tables["user"]
    tables["user"] = (channels[0], Channel("\x1b[31m\n", ""), *channels[2:]), steps, rows
    assert "\\x1b[31m\\n was not finite" in verdict(run, [])


def test_it_is_one_sentence(healthy: Run, finding: FindingMaker) -> None:
    for findings in ([], [finding()], [finding(status="recovered")]):
        text = verdict(healthy, findings)
        assert text.endswith(".") and ". " not in text and "\n" not in text


def test_losses_are_found_under_any_prefix(healthy: Run) -> None:
    assert [each.name for each in losses(healthy)] == ["train/loss", "val/loss"]
