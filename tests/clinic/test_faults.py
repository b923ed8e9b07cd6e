"""The table of known faults: complete, buildable, and each fault at the place that the table names."""

import math

import pytest
import torch

from auscult.clinic.copying import Copier, Copying, foretold, next_symbol_loss, sequences
from auscult.clinic.faults import FAULTS, NOT_RUN, Fault
from auscult.clinic.hearing import Hearing
from auscult.clinic.recipe import Recipe, build_model, load_rows

EVERY = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)

CLASSES = {
    "amp", "attention_mask", "bad_augmentation", "bad_init_scale", "batch_size", "class_imbalance", "data_leak",
    "data_pipeline", "dead_units", "double_softmax", "exploding_gradient", "gradient_wrong", "input_not_normalised",
    "labels_corrupt", "loss_reduction", "lr_too_high", "lr_too_low", "missing_nonlinearity", "missing_zero_grad",
    "mode_error", "non_finite", "optimizer_choice", "over_clipping", "over_regularised", "overfitting",
    "params_not_updated", "saturated", "symmetric_init", "target_scale", "undertrained", "vanishing_gradient",
    "wrong_hidden_activation", "wrong_loss", "wrong_metric", "wrong_output_activation",
}  # fmt: skip


def test_all_cases_are_run_or_said_not_to_be() -> None:
    assert len(FAULTS) + len(NOT_RUN) == 89
    assert all(each.source and each.about for each in FAULTS.values())


@EVERY
def test_every_fault_is_of_known_classes_and_differs_from_its_repair(fault: Fault) -> None:
    assert {fault.root_cause, *fault.also_accept} <= CLASSES
    assert fault.root_cause not in fault.also_accept
    assert type(fault.faulty) is type(fault.fixed)
    assert fault.faulty != fault.fixed


@EVERY
def test_every_model_builds_and_the_layers_named_are_in_it(fault: Fault) -> None:
    if isinstance(fault.faulty, Recipe):
        assert isinstance(fault.fixed, Recipe)
        for recipe in (fault.faulty, fault.fixed):
            rows, held = load_rows(recipe, 0)
            model = build_model(recipe, rows).eval()
            assert torch.isfinite(rows.inputs).all()
            with torch.no_grad():
                assert len(model(held.inputs)) == len(held)
        model = build_model(fault.faulty, load_rows(fault.faulty, 0)[0])
    elif isinstance(fault.faulty, Copying):
        model = Copier(fault.faulty.fault, fault.faulty.blocks)
    else:
        return
    assert set(fault.layers) <= {name for name, _ in model.named_modules()}


def test_a_sick_transformer_is_sick_where_it_is_told_to_be() -> None:
    torch.manual_seed(0)
    symbols = torch.randint(0, 11, (2, 8))
    changed = symbols.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 11
    for fault, sees_ahead in ((None, False), ("future-visible", True)):
        model = Copier(fault, 2).eval()
        assert torch.allclose(model(symbols)[:, 0], model(changed)[:, 0]) is not sees_ahead
    blind = Copier("zero-query", 2)
    blind(symbols).sum().backward()
    assert (blind.blocks[0].attention.in_proj_weight.grad[:32] == 0).all()
    assert (blind.blocks[0].attention.in_proj_weight[:32] == 0).all()


def test_what_a_causal_transformer_foretells_is_its_loss_against_the_floor() -> None:
    torch.manual_seed(0)
    symbols = sequences(64, torch.Generator().manual_seed(0))
    model = Copier(None, 2).eval()
    with torch.no_grad():
        loss = float(next_symbol_loss(model, symbols))
        share = (math.log(12) - loss) / (math.log(12) - 5 / 11 * math.log(11))
        assert foretold(model, symbols) == pytest.approx(share, abs=1e-5)


def test_hearing_is_at_fault_with_the_gain_alone() -> None:
    fault = FAULTS["ls-melscale"]
    assert isinstance(fault.faulty, Hearing) and isinstance(fault.fixed, Hearing)
    assert fault.faulty.scaled and not fault.fixed.scaled
