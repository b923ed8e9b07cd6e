"""To which step a logged number belongs, and what happens to numbers that are none."""

import math
import warnings

import numpy as np
import pytest
import torch

import auscult
from auscult.core.errors import SetupError


def test_numbers_belong_to_the_update_before_or_after(tmp_path, small, batches) -> None:
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    with auscult.watch(small, optimizer, tmp_path / "run") as monitor:
        for number, (inputs, _) in enumerate(batches(4)):
            small(inputs).sum().backward()
            monitor.log(before=number)
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(after=number)
            small.eval()
            with torch.no_grad():
                small(inputs)
            small.train()
            monitor.log_evaluation("val", accuracy=number / 10)
            monitor.log({"late/value": number})
    run = auscult.load(tmp_path / "run")
    for name in ("before", "after", "late/value"):
        assert run.series(name).values.tolist() == [0, 1, 2, 3] == run.series(name).steps.tolist()
    assert run.series("val/accuracy").values.tolist() == [0.0, 0.1, 0.2, 0.3]


def test_also_when_only_parts_of_the_model_are_called(tmp_path, small, batches) -> None:
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    with auscult.watch(small, optimizer, tmp_path / "run") as monitor:
        for number, (inputs, _) in enumerate(batches(4)):
            small.first(inputs).sum().backward()
            monitor.log(before=number)
            optimizer.step()
            optimizer.zero_grad()
    assert auscult.load(tmp_path / "run").series("before").values.tolist() == [0, 1, 2, 3]


def test_repeats_are_averaged_and_accumulation_is_one_step(tmp_path, small, batches) -> None:
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    with auscult.watch(small, optimizer, tmp_path / "run") as monitor:
        for number, (inputs, _) in enumerate(batches(6)):
            small(inputs).sum().backward()
            monitor.log(loss=torch.tensor(float(number)))
            if number % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()
    run = auscult.load(tmp_path / "run")
    assert run.series("loss").values.tolist() == [1.0, 4.0]
    assert run.series("throughput").observed


def test_a_tensor_is_logged_as_it_is_now(tmp_path, small, batches, step) -> None:
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    running = torch.zeros(())
    with auscult.watch(small, optimizer, tmp_path / "run") as monitor:
        for batch in batches(3):
            step(small, optimizer, batch)
            running += 1
            monitor.log(running=running)
            running += 10
    assert auscult.load(tmp_path / "run").series("running").values.tolist() == [1, 12, 23]


def test_nan_infinity_and_huge_values_are_kept_as_they_are(tmp_path, small, batches, step) -> None:
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    values = [math.nan, math.inf, -math.inf, 1e300, -0.0, 5e-324]
    with auscult.watch(small, optimizer, tmp_path / "run") as monitor:
        for value, batch in zip(values, batches(6)):
            step(small, optimizer, batch)
            monitor.log(odd=value)
    np.testing.assert_array_equal(auscult.load(tmp_path / "run").series("odd").values, values)


def test_names_of_ours_do_not_hide_ours(tmp_path, small, batches, step) -> None:
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    with auscult.watch(small, optimizer, tmp_path / "run") as monitor:
        for batch in batches(2):
            step(small, optimizer, batch)
            monitor.log(grad_norm=-1.0, lr=7.0)
    run = auscult.load(tmp_path / "run")
    assert (run.series("grad_norm").values > 0).all()
    assert run.series("user/grad_norm").values.tolist() == [-1, -1]
    assert run.series("lr").values.tolist() == [7, 7] and run.series("lr", "0").values == pytest.approx([0.1, 0.1])


def test_categories_add_up_over_the_calls_of_a_step(tmp_path, small, batches, step) -> None:
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    with auscult.watch(small, optimizer, tmp_path / "run") as monitor:
        for batch in batches(2):
            step(small, optimizer, batch)
            monitor.log_categories([2.0, 6.0], ["short", "long"], lengths=[1, 3])
            monitor.log_categories([4.0], ["short"], lengths=[4])
    run = auscult.load(tmp_path / "run")
    assert run.series("category_loss", "short").values.tolist() == [1.5, 1.5]
    assert run.series("category_loss_per_token", "short").values == pytest.approx([6 / 5, 6 / 5])
    assert run.series("category_count", "short").values.tolist() == [2, 2]


@pytest.mark.provokes_failure
def test_what_is_no_number_raises_before_the_first_update_and_never_after(tmp_path, small, batches, step) -> None:
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    monitor = auscult.watch(small, optimizer, tmp_path / "run")
    with pytest.raises(SetupError, match=r"Expected `loss` to be a number .* monitor\.log\(loss=loss\.mean\(\)\)"):
        monitor.log(loss=torch.zeros(3))
    batch = next(batches(1))
    step(small, optimizer, batch)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        monitor.log(loss="broken")
        monitor.log(loss="broken again")
    assert len(warned) == 1 and "Training is not affected" in str(warned[0].message)
    monitor.log(fine=1.0)
    monitor.close()
    run = auscult.load(tmp_path / "run")
    assert run.series("fine").values.tolist() == [1.0]
    failure = next(event for event in run.events if event["kind"] == "failure")
    assert "number" in failure["message"]


def test_one_name_in_both_streams_stays_two_series(tmp_path, small, batches, step) -> None:
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    with auscult.watch(small, optimizer, tmp_path / "run") as monitor:
        for number, batch in enumerate(batches(3)):
            step(small, optimizer, batch)
            monitor.log({"val/loss": 100.0 + number})
            monitor.log_evaluation("val", loss=1.0)
    run = auscult.load(tmp_path / "run")
    assert run.series("val/loss").values.tolist() == [100, 101, 102]
    assert run.series("evaluation/val/loss").values.tolist() == [1, 1, 1]


def test_what_is_logged_without_an_update_is_kept(tmp_path, small, batches, step) -> None:
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    with auscult.watch(small, optimizer, tmp_path / "run") as monitor:
        monitor.log_evaluation("test", accuracy=0.5)
    run = auscult.load(tmp_path / "run")
    assert run.series("test/accuracy").values.tolist() == [0.5] and len(run.steps) == 0
    assert auscult.diagnose(run) == []
    with auscult.watch(small, optimizer, tmp_path / "more") as monitor:
        for batch in batches(2):
            step(small, optimizer, batch)
        small(batch[0])
        monitor.log(last=7.0)
    run = auscult.load(tmp_path / "more")
    assert run.steps.tolist() == [0, 1] and run.series("last").steps.tolist() == [2]
    assert auscult.report(run, tmp_path / "more.html").exists()
