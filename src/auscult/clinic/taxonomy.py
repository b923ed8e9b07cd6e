"""Taxonomy: the classes of faults that a diagnosis is scored against, and which of them each rule names.

Classes are root causes, not symptoms; those of the public fault benchmarks, under one name each.
"""

from types import MappingProxyType

FAULTS = (
    "params_not_updated",
    "missing_zero_grad",
    "gradient_wrong",
    "lr_too_high",
    "lr_too_low",
    "undertrained",
    "optimizer_choice",
    "batch_size",
    "vanishing_gradient",
    "exploding_gradient",
    "dead_units",
    "saturated",
    "bad_init_scale",
    "symmetric_init",
    "wrong_output_activation",
    "missing_nonlinearity",
    "wrong_hidden_activation",
    "wrong_loss",
    "double_softmax",
    "loss_reduction",
    "input_not_normalised",
    "target_scale",
    "labels_corrupt",
    "class_imbalance",
    "data_pipeline",
    "data_leak",
    "bad_augmentation",
    "mode_error",
    "over_regularised",
    "over_clipping",
    "overfitting",
    "non_finite",
    "amp",
    "attention_mask",
    "rank_divergence",
)
"""Every class of fault, in the order of the published tables."""

UNKNOWN = "unknown"
"""What a watcher says that raises an alarm and names no class: it counts as detection, never as a cause."""

EXACT = ("params_not_updated", "symmetric_init", "non_finite")
"""Classes that an invariant without a threshold decides: what never moves, equal units, what is not finite."""

NAMES = MappingProxyType(
    {
        # Data
        "input-not-normalised": ("input_not_normalised",),
        "target-scale": ("target_scale",),
        "class-imbalance": ("class_imbalance",),
        "labels-corrupt": ("labels_corrupt",),
        "repeated-or-unshuffled-data": ("data_pipeline",),
        "data-leak": ("data_leak",),
        # Head and loss
        "wrong-output-activation": ("wrong_output_activation",),
        "double-softmax": ("double_softmax",),
        "softmax-wrong-axis": ("double_softmax",),
        "wrong-loss": ("wrong_loss",),
        "shape-broadcast": ("loss_reduction",),
        "loss-reduction": ("loss_reduction",),
        "targets-are-inputs": ("data_leak",),
        "initial-loss": ("bad_init_scale",),
        # Initialisation and model
        "random-gain": ("bad_init_scale",),
        "bad-init-scale": ("bad_init_scale",),
        "symmetric-init": ("symmetric_init",),
        "missing-nonlinearity": ("missing_nonlinearity",),
        "hidden-softmax": ("wrong_hidden_activation",),
        "attention-collapse": ("symmetric_init", "attention_mask"),
        "attention-leak": ("attention_mask",),
        # Mode and normalisation
        "train-eval-mode": ("mode_error",),
        "batchnorm-statistics": ("mode_error",),
        # Forward and backward
        "dead-units": ("dead_units",),
        "saturated": ("saturated",),
        "zero-gradient": ("vanishing_gradient", "dead_units"),
        "vanishing-gradient": ("vanishing_gradient",),
        "exploding-gradient": ("exploding_gradient",),
        "over-clipping": ("over_clipping",),
        "non-finite": ("non_finite",),
        "amp-overflow": ("amp",),
        # Updates
        "lr-too-high": ("lr_too_high",),
        "lr-too-low": ("lr_too_low",),
        "parameters-not-updated": ("params_not_updated",),
        "parameter-in-no-optimizer": ("params_not_updated",),
        "missing-zero-grad": ("missing_zero_grad",),
        "wrong-gradient-sign": ("gradient_wrong",),
        # Ranks
        "replicas-differ": ("rank_divergence",),
        "non-finite-on-one-rank": ("non_finite",),
        "same-data-on-ranks": ("data_pipeline",),
        "unequal-batches": ("data_pipeline",),
        "outlier-rank": ("data_pipeline",),
        # Progress
        "overfitting": ("overfitting",),
        "undertrained": ("undertrained",),
        "over-regularised": ("over_regularised",),
        # Alarms that name no cause
        "loss-spike": (),
        "diverging-loss": (),
        "no-progress": (),
        "lagging-rank": (),
    }
)
"""By name of a rule, the classes that its finding names. Two where the rule cannot tell them apart by what it sees:
together they take one rank. None where it says that something is wrong and not what."""
