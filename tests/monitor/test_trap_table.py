"""The table of traps: what has fooled monitors of PyTorch trainings, and the test that shows we are not fooled.

The tests themselves stand in `traps/`, where each row is a script that is run twice, and beside the instruments.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent

COVERED: dict[str, tuple[str, ...]] = {
    # around the update
    "order of events": ("monitor/traps/test_update.py::test_the_order_of_events_is_the_one_that_is_relied_on",),
    "subclassed optimizer": ("monitor/traps/test_update.py::a_subclass_that_calls_super",),
    "exception inside a step": (
        "monitor/traps/test_update.py::an_exception_inside_the_update",
        "monitor/traps/test_update.py::an_exception_inside_the_closure",
        "monitor/traps/test_update.py::an_exception_inside_the_forward_pass",
        "metrics/test_hooks.py::test_a_step_left_by_an_exception_does_not_silence_the_next",
    ),
    "closure": ("monitor/traps/test_update.py::a_closure",),
    "closure called many times (LBFGS)": ("monitor/traps/test_update.py::a_closure_that_is_called_many_times",),
    "wrapped optimizer": ("monitor/traps/test_update.py::a_wrapper_that_steps_when_it_sees_fit",),
    "gradient accumulation": ("monitor/traps/test_update.py::gradient_accumulation",),
    "optimizer in backward": (
        "monitor/traps/test_update.py::an_optimizer_for_each_parameter_inside_the_backward_pass",
        "monitor/traps/test_update.py::the_same_with_hooks_that_were_there_first",
    ),
    "several optimizers": (
        "monitor/traps/test_update.py::optimizers_that_take_turns",
        "monitor/test_truth.py::test_several_optimizers_make_one_step_together",
    ),
    "parameter in no optimizer, or in two": (
        "monitor/traps/test_update.py::a_parameter_in_no_optimizer",
        "monitor/traps/test_update.py::a_parameter_in_two_optimizers",
        "monitor/traps/test_update.py::a_parameter_in_two_optimizers_of_which_one_rests",
    ),
    "learning rate as the update uses it": (
        "monitor/traps/test_update.py::a_rate_that_a_scheduler_has_moved_on",
        "monitor/traps/test_update.py::a_rate_that_is_a_tensor_written_in_place",
        "monitor/traps/test_update.py::a_rate_that_is_learned_itself",
    ),
    "foreach and fused": ("monitor/traps/test_update.py::foreach_and_fused_and_maximised",),
    "parameters edited between steps": ("monitor/traps/test_update.py::parameters_edited_between_updates",),
    "gradients without a backward pass": ("monitor/traps/test_update.py::gradients_computed_without_a_backward_pass",),
    "gradient penalty": ("monitor/traps/test_update.py::a_gradient_penalty",),
    "copied optimizer": ("monitor/traps/test_update.py::a_copy_of_the_optimizer",),
    "resumed run": (
        "monitor/traps/test_update.py::a_resumed_run",
        "monitor/test_resume.py::test_resume_from_an_earlier_checkpoint_supersedes_and_keeps",
    ),
    # scaling and clipping
    "GradScaler, plain and fused, with skipped steps": (
        "monitor/traps/test_scaling_and_clipping.py::scaled",
        "metrics/test_scaling.py::test_true_norms_at_the_update_and_which_updates_were_made",
    ),
    "several scalers": ("monitor/traps/test_scaling_and_clipping.py::two_scalers_and_two_optimizers",),
    "clip before unscale": (
        "monitor/traps/test_scaling_and_clipping.py::scaled",
        "metrics/test_scaling.py::test_clipping_before_unscale_is_said_and_the_norms_are_true_all_the_same",
    ),
    "norms before clipping, however called": (
        "monitor/traps/test_scaling_and_clipping.py::clipped",
        "metrics/test_clipping.py::test_every_way_to_clip_by_norm_is_heard_and_changes_nothing",
        "monitor/traps/test_scaling_and_clipping.py::clipping_inside_a_closure",
        "monitor/traps/test_scaling_and_clipping.py::clipping_each_micro_batch",
        "monitor/traps/test_scaling_and_clipping.py::clipping_and_then_no_update",
    ),
    "norms shared with the clip": (
        "monitor/traps/test_scaling_and_clipping.py::clipping_by_the_monitor",
        "metrics/test_clipping.py::test_norms_that_torch_computes_anyway_are_shared",
    ),
    "gradients changed by hand": (
        "monitor/traps/test_scaling_and_clipping.py::changed_by_hand",
        "monitor/traps/test_scaling_and_clipping.py::changed_by_hand_between_backward_and_clip",
        "metrics/test_marks.py::test_what_leaves_the_version_alone_is_not_noticed",
    ),
    "clip spreads a NaN": ("monitor/traps/test_scaling_and_clipping.py::clipping_a_gradient_with_nan",),
    "clip that raises": ("monitor/traps/test_scaling_and_clipping.py::clipping_that_raises",),
    "end of the backward pass": (
        "metrics/test_marks.py::test_the_end_of_a_backward_pass_comes_after_all_gradients",
        "metrics/test_marks.py::test_the_end_of_a_backward_pass_with_reentrant_checkpointing",
    ),
    # the batch, the loss call, the mode
    "gradients that nobody zeroes": (
        "metrics/test_carried.py::test_gradients_that_nobody_has_zeroed",
        "metrics/test_carried.py::test_gradients_that_were_zeroed",
        "monitor/test_witness.py::test_gradients_that_nobody_zeroes",
        "monitor/test_witness.py::test_accumulation",
        "monitor/test_witness.py::test_optimizers_that_call_back_and_inside_the_backward_pass",
    ),
    "training in evaluation mode, evaluating in training mode": (
        "monitor/test_witness.py::test_training_goes_on_in_evaluation_mode",
        "monitor/test_witness.py::test_evaluations_in_training_mode_are_counted",
        "monitor/test_witness.py::test_frozen_statistics_are_a_share",
        "metrics/test_modes.py::test_a_kind_of_module_matters_if_its_output_does",
    ),
    "passes that no update is made from": (
        "monitor/test_witness.py::test_evaluations_between_steps_are_none_of_it",
        "monitor/test_witness.py::test_a_backward_pass_in_evaluation_mode_that_no_update_follows",
        "monitor/test_witness.py::test_parts_called_one_by_one_beside_an_evaluation_of_the_whole",
        "monitor/test_witness.py::test_a_checkpointed_model_does_not_evaluate",
    ),
    "the loss, wherever it is called": (
        "monitor/test_witness.py::test_a_loss_inside_of_the_model",
        "monitor/test_witness.py::test_a_loss_that_is_named",
        "monitor/test_witness.py::test_a_loss_of_the_users_own",
        "metrics/test_losses.py::test_it_never_gets_between_a_mode_and_its_exit",
    ),
    # parameters
    "tied weights, bare root parameter": (
        "monitor/traps/test_parameters.py::tied_weights_and_a_bare_parameter_of_the_root",
    ),
    "frozen and unused parameters": ("monitor/traps/test_parameters.py::frozen_unused_and_later_unfrozen",),
    "gradients None or zero": ("monitor/traps/test_update.py::gradients_that_were_zeroed_too_early",),
    "sparse gradients": (
        "monitor/traps/test_parameters.py::sparse_gradients",
        "monitor/traps/test_parameters.py::uncoalesced_sparse_gradients_that_accumulate",
    ),
    "complex parameters": (
        "monitor/traps/test_parameters.py::complex_parameters",
        "monitor/traps/test_parameters.py::gradients_that_are_lazily_conjugated",
    ),
    "bf16 and fp16": (
        "monitor/traps/test_parameters.py::half_precision",
        "monitor/traps/test_parameters.py::a_norm_beyond_half_precision",
    ),
    "fp8": ("monitor/traps/test_parameters.py::a_frozen_parameter_in_eight_bits",),
    "float32 norms of large tensors": (
        "monitor/traps/test_parameters.py::large_tensors_in_float32",
        "metrics/test_norms.py::test_norm_is_the_float64_norm_to_1e_6",
    ),
    "float32 squares out of range": ("monitor/traps/test_parameters.py::far_from_one_in_float32",),
    "float64 beyond float32": ("monitor/traps/test_parameters.py::far_from_one_in_float64",),
    "NaN and infinity": ("monitor/traps/test_parameters.py::nan_and_infinity",),
    "meta parameters": ("monitor/traps/test_parameters.py::parameters_on_the_meta_device",),
    "empty and scalar parameters": ("monitor/traps/test_parameters.py::empty_and_scalar_parameters",),
    "layouts": ("monitor/traps/test_parameters.py::transposed_and_expanded_gradients",),
    "weight norm": (
        "monitor/traps/test_parameters.py::weight_norm_before_watching",
        "monitor/traps/test_parameters.py::a_parametrization_put_on_while_training",
    ),
    "parameters made anew": (
        "monitor/traps/test_parameters.py::a_layer_replaced_while_training",
        "monitor/traps/test_parameters.py::parameters_loaded_by_assignment",
    ),
    "model cast while training": ("monitor/traps/test_parameters.py::a_model_cast_while_training",),
    "deepcopy and pickle": ("monitor/traps/test_parameters.py::copies_and_pickles_of_the_model",),
    # the forward pass
    "what hooks return": (
        "monitor/traps/test_forward.py::hooks_of_the_users_own",
        "monitor/test_bit_identical.py::test_training_is_the_same_to_the_bit",
    ),
    "outputs without a gradient": ("monitor/traps/test_forward.py::outputs_of_every_kind",),
    "in-place modules": (
        "monitor/traps/test_forward.py::modules_that_work_in_place",
        "monitor/traps/test_forward.py::the_gradient_at_an_output_that_is_changed_in_place",
    ),
    "activation checkpointing, both kinds": (
        "monitor/traps/test_forward.py::a_checkpointed_block",
        "monitor/traps/test_forward.py::a_model_checkpointed_as_a_whole",
    ),
    "module called twice": ("monitor/traps/test_forward.py::a_module_called_twice",),
    "attention, whose projection is never called": ("monitor/traps/test_forward.py::attention_and_transformer_layers",),
    "attention by functions": (
        "metrics/test_attention.py::test_weights_by_functions",
        "metrics/test_attention.py::test_other_softmaxes_are_no_attention",
        "monitor/test_anatomy.py::test_a_transformer_trains_the_same_to_the_bit",
        "monitor/test_anatomy.py::test_attention_is_told_by_the_paths_of_its_blocks",
    ),
    "modes of the user's own": (
        "metrics/test_attention.py::test_modes_of_the_user_and_exceptions_are_left_alone",
        "metrics/test_attention.py::test_taps_lie_on_each_other_and_go_in_any_order",
    ),
    "memory given out again": ("metrics/test_feeds.py::test_memory_that_is_given_out_again_feeds_nothing",),
    "inference fast path": ("monitor/traps/test_forward.py::evaluation_of_a_transformer",),
    "evaluation passes": ("monitor/traps/test_forward.py::evaluation_between_steps",),
    "autocast": ("monitor/traps/test_forward.py::autocast",),
    "first pass": ("monitor/test_anatomy.py::test_the_run_says_which_module_feeds_which_and_what_sums_to_one",),
    "loss by category": (
        "monitor/traps/test_forward.py::a_loss_that_is_logged_each_way",
        "metrics/test_losses.py::test_category_losses_are_normalised_by_length",
    ),
    "BatchNorm": (
        "monitor/traps/test_forward.py::batch_norm_and_a_bias_before_it",
        "metrics/test_examination.py::test_batch_statistics_are_those_it_normalises_by",
        "metrics/test_normalisation.py::test_the_running_statistics_are_those_before_the_call",
        "monitor/test_anatomy.py::test_statistics_of_batch_normalisation",
    ),
    "histograms that drop what they cannot place": (
        "metrics/test_examination.py::test_all_elements_are_counted",
        "metrics/test_examination.py::test_nothing_is_no_elements_and_nan_stays_nan",
    ),
    # compilation
    "compiled after hooks, and before": (
        "monitor/traps/test_compiled.py::watched_before_it_is_compiled",
        "monitor/traps/test_compiled.py::watched_after_it_is_compiled",
        "monitor/traps/test_compiled.py::watched_after_it_has_run_compiled",
    ),
    "compiled in place": ("monitor/traps/test_compiled.py::compiled_in_place",),
    "blocks compiled one by one": ("monitor/traps/test_compiled.py::repeated_blocks_compiled_one_by_one",),
    "another instance compiled before": ("monitor/traps/test_compiled.py::another_of_the_same_class_compiled_before",),
    "names of wrappers": ("metrics/test_parameters.py::test_names_of_a_compiled_model_are_the_users_own",),
    "compiled loss": ("monitor/traps/test_compiled.py::the_whole_step_in_one_function",),
    "compiled update": ("monitor/traps/test_compiled.py::a_compiled_update",),
    "clipping inside a graph": ("metrics/test_clipping.py::test_a_compiled_step_that_clips_stays_one_graph",),
    "traced and exported": (
        "monitor/traps/test_compiled.py::test_a_trace_of_a_watched_model_is_the_one_of_a_bare_model",
        "monitor/traps/test_compiled.py::test_a_watched_model_can_be_exported_strictly",
        "monitor/traps/test_compiled.py::test_a_watched_model_can_be_scripted",
        "monitor/traps/test_compiled.py::test_a_model_with_a_scripted_part",
        "monitor/traps/test_compiled.py::test_a_scripted_model_is_refused_with_what_to_write",
    ),
    # where a NaN comes from
    "origin of a NaN": ("metrics/test_origin.py::test_phase_and_place_are_right",),
    "norm that overflowed is no infinity": (
        "metrics/test_origin.py::test_a_norm_that_overflowed_is_no_infinite_gradient",
    ),
    "replay with random states and buffers": (
        "metrics/test_origin.py::test_training_is_bit_identical_with_searches_in_the_middle_of_it",
        "metrics/test_origin.py::test_dropout_is_drawn_as_it_was",
    ),
    # a step that is made again
    "a step examined when it is over": (
        "monitor/test_lookback.py::test_the_step_of_the_finding_is_what_it_was_to_the_bit",
        "monitor/test_lookback.py::test_large_parameters_are_told_from_their_update",
        "monitor/test_lookback.py::test_what_cannot_be_made_again_says_why_and_training_goes_on",
    ),
    "gradients that are not the step's": (
        "monitor/test_lookback.py::test_several_passes_of_a_step_are_not_told_as_one",
        "monitor/test_lookback.py::test_gradients_other_than_the_measured_ones_are_left_out",
    ),
    # our own failures
    "a hook that fails": (
        "monitor/test_injected_failures.py::test_a_failure_in_any_function_changes_nothing",
        "monitor/test_injected_failures.py::test_a_failure_of_ours_stands_in_the_run",
    ),
    "a store that fails": (
        "monitor/test_injected_failures.py::test_a_disk_that_takes_nothing_more",
        "monitor/test_injected_failures.py::test_the_directory_is_taken_away_and_put_back",
        "monitor/test_bad_input.py::test_a_directory_that_disappears",
        "monitor/test_bad_input.py::test_a_full_disk",
    ),
}


@cache
def rows_of(file: str) -> frozenset[str]:
    """Names of the test functions of a file, and of the scripts that its table of traps names."""
    body = ast.parse((TESTS / file).read_text(encoding="utf-8")).body
    functions = {each.name: ast.unparse(each) for each in body if isinstance(each, ast.FunctionDef)}
    tables = [each for each in body if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "TRAPS"]
    named = {each.id for table in tables for each in ast.walk(table) if isinstance(each, ast.Name)}
    return frozenset(
        name for name, text in functions.items() if name.startswith("test_") or (name in named and "twin" in text)
    )


@pytest.mark.parametrize("trap", COVERED)
def test_every_trap_has_its_test(trap: str) -> None:
    assert COVERED[trap]
    for reference in COVERED[trap]:
        file, _, name = reference.partition("::")
        assert name in rows_of(file)


def test_every_row_of_the_tables_is_named_here() -> None:
    files = [f"monitor/traps/{each.name}" for each in (TESTS / "monitor" / "traps").glob("test_*.py")]
    named = {reference for references in COVERED.values() for reference in references}
    rows = {f"{file}::{name}" for file in files for name in rows_of(file) if name != "test_trap"}
    assert len(files) == 5 and rows - named == set()
