"""METRICS: every metric that auscult records or derives, one entry each.

`docs/metrics.md` is generated from this table. Formulas write theta for a parameter after the update, d for the update
just made (theta - theta before), g for the gradient before clipping.
"""

from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from auscult.core.metric import Metric

Array = NDArray[np.float64]

KARPATHY = "Karpathy, makemore part 3: activations, gradients, BatchNorm (2022)"
DREVO = "Drevo, Training run diagnostic metrics (2026)"
PERONE = "Perone, Listening to the neural network gradient norms during training (2019)"


def _ratio(numerator: Array, denominator: Array) -> Array:
    """Elementwise ratio; 0/0 is 0 (nothing there, nothing moved), x/0 is inf."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = numerator / denominator
    return np.where((numerator == 0) & (denominator == 0), 0.0, ratio)


def _product(left: Array, right: Array) -> Array:
    return left * right


_AT_STEP = "unscaled gradient before torch's or auscult's clipping, or at the optimizer step where nothing was clipped"

_ENTRIES = (
    # Every step, for the whole run or per optimizer group.
    Metric("loss", "as logged", "run", "user", "as logged by the user; repeats within a step are averaged", "forward",
           "mean"),
    Metric("lr", "1", "group", "steps", "learning rate of the parameter group", "as the update uses it", "rank0"),
    Metric("clip_ratio", "1", "run", "steps", "total gradient norm / max_norm", "pre-clip", "rank0",
           guide="above 1, clipping acted; at nearly every step, the bound sets the step size",
           reference=DREVO),
    Metric("clip_coefficient", "1", "run", "steps", "min(1, max_norm / (total gradient norm + 1e-6)); 1 where nothing "
           "was clipped; not observed where one factor cannot tell (clipping by value, or of some gradients only)",
           "pre-clip", "rank0", reference="torch.nn.utils.clip_grad_norm_"),
    Metric("loss_scale", "1", "run", "steps", "factor by which a gradient scaler multiplied the loss; gradients are "
           "divided by it before they are measured", "pre-clip", "rank0", reference="torch.amp.GradScaler"),
    Metric("skipped_updates", "1", "run", "steps", "number of updates that a gradient scaler left out: before this one "
           "since the last that was made, or this one itself where the optimizer is fused", "update", "sum",
           guide="few; at every step, the gradients overflow whatever the scale"),
    Metric("grad_changed", "1", "run", "steps", "number of parameters whose gradient was changed between the end of "
           "the backward pass and the update by something unheard; their grad_norm is post-clip or unknown",
           "pre-clip", "sum", guide="0"),
    Metric("finite", "1", "run", "steps", "1 if every number recorded at this step is finite, else 0", "whole step",
           "rank0"),
    Metric("step_time", "s", "run", "steps", "wall time from the previous update to this one", "whole step", "max"),
    Metric("overhead_time", "s", "run", "steps", "wall time of this step spent inside auscult", "whole step", "max"),
    Metric("throughput", "samples/s", "run", "steps", "size of the first dimension of the model's input, summed over "
           "the step's forward passes / step_time", "whole step", "sum"),
    Metric("memory", "bytes", "run", "sampled", "device memory allocated; on CPU the resident set size of the process",
           "after the update", "max"),
    Metric("weight_decay", "1", "group", "steps", "weight decay of the parameter group; not observed "
           "where it is 0 or there is none", "as the update uses it", "rank0"),
    # The batch and the loss call of a step, on a schedule.
    Metric("observed_loss", "1", "run", "sampled", "value of the step's first loss call of torch.nn.functional whose "
           "result has a gradient; its mean where it is not reduced", "forward", "mean"),
    Metric("uninformed_loss", "1", "run", "sampled", "the same loss, reduced alike, for the best constant prediction "
           "of the same batch: the entropy of its classes, of each column of binary targets, the variance of its "
           "targets, their mean distance from the median; not observed with weights or label smoothing", "forward",
           "mean", guide="a model that has learned anything lies below; a batch with few samples for each class has "
           "less than its data set"),
    Metric("loss_gradient", "1", "run", "sampled", "sum of the gradient that first arrives at that loss / loss scale",
           "backward", "mean", guide="1, or 1 / accumulation steps; negative climbs the loss"),
    Metric("batch_accuracy", "1", "run", "sampled", "share of the batch's targets that the predictions name: the "
           "largest of C, the sign of a logit, the side of 1/2 of a probability", "forward", "mean"),
    Metric("batch_r2", "1", "run", "sampled", "1 - sum((prediction - target)**2) / sum((target - mean(target))**2) "
           "within the batch, of predictions and targets of one shape", "forward", "mean"),
    Metric("target_mean", "as given", "run", "sampled", "mean of the loss call's targets; not of class indices",
           "forward", "mean"),
    Metric("target_std", "as given", "run", "sampled", "std of the loss call's targets, Bessel-corrected; not of class "
           "indices", "forward", "mean"),
    Metric("target_entropy", "nats", "run", "sampled", "entropy of the batch's class counts; of class targets and "
           "single columns of binary ones", "forward", "mean", guide="near log(C) for balanced classes"),
    Metric("largest_class", "1", "run", "sampled", "share of the batch's most frequent class, likewise", "forward",
           "mean"),
    Metric("output_spread", "as given", "run", "sampled", "root mean square over the columns of the model's output of "
           "their std over the batch", "forward", "mean", guide="0: every sample gets the same prediction"),
    Metric("input_mean", "as given", "run", "sampled", "mean of the first tensor the model is called with, if that "
           "holds floating-point numbers; estimated, as are the next two, from at most 8,192 elements", "forward",
           "mean"),
    Metric("input_std", "as given", "run", "sampled", "std of that tensor, Bessel-corrected", "forward", "mean"),
    Metric("input_largest", "as given", "run", "sampled", "largest |x| of that tensor", "forward", "mean"),
    Metric("repeated_batch", "1", "run", "sampled", "1 if the first tensor the model is called with equals that of one "
           "of the 4,096 sampled steps before (shape and weighted sums of at most 8,192 elements), else 0", "forward",
           "rank0"),
    Metric("evaluation_mode", "1", "run", "sampled", "share of the modules that act differently in training and in "
           "evaluation (dropout, running statistics) which were in evaluation mode in the pass that this update was "
           "made from", "forward", "mean", guide="0; frozen statistics are part of some fine-tuning"),
    Metric("carried_gradient", "1", "run", "sampled", "1 if the step's backward passes added to the very gradients "
           "that the update before had used, never zeroed on the way, else 0; by the first and the last parameter "
           "that have one", "backward", "rank0", guide="0"),
    Metric("training_evaluations", "1", "run", "sampled", "passes without gradient but in training mode since the "
           "last sampled step, of a model that acts differently there", "forward", "sum", guide="0"),
    Metric("evaluation_dropout", "1", "run", "sampled", "calls of dropout that dropped while the model was in "
           "evaluation mode, in the first four such passes of a run without gradient, since the last sampled step",
           "forward", "sum", guide="0", reference="huggingface/transformers#33844"),
    # What single ranks of several say of themselves, when norms are taken.
    Metric("rank_loss", "as logged", "rank", "norms", "the training loss that this rank logged at the step", "forward",
           "per_rank", guide="of one distribution on all ranks"),
    Metric("rank_forward_time", "s", "rank", "norms", "wall time from this rank's previous update to the beginning of "
           "its backward pass, without auscult: data and forward pass, before it waits for others in "
           "DistributedDataParallel",
           "forward", "per_rank", guide="alike on all ranks"),
    Metric("rank_left", "1", "rank", "norms", "1 if this rank has closed the run while others went on, else 0",
           "whole step", "per_rank", guide="0"),
    Metric("rank_finite", "1", "rank", "norms", "1 if the loss that this rank logged and the norms of what it holds "
           "are finite, else 0", "whole step", "per_rank", guide="1"),
    Metric("rank_passes", "1", "rank", "norms", "training passes that this rank has made of the model since the row "
           "before", "forward", "per_rank", guide="the same on all ranks"),
    Metric("rank_differs", "1", "rank", "norms", "0 if the bits of the parameters that this rank holds are those of "
           "its replicas, 1 if most replicas agree on others, 0.5 if no majority tells who is right; not observed "
           "where no other rank holds the same", "after the update", "per_rank", guide="0, exactly"),
    Metric("rank_same_batch", "1", "rank", "norms", "1 if the first tensor that the model is called with on this rank "
           "equals that of another rank (weighted sums of at most 8,192 elements), else 0; only where every rank has "
           "data of its own: DistributedDataParallel, FSDP2, HSDP", "forward", "per_rank", guide="0"),
    # Norms, every step or every N-th.
    Metric("grad_norm", "1", "parameter", "norms", "||g||_2", _AT_STEP, "root_sum_square", adds_up=True,
           guide="compare with itself over time and with its neighbours in depth; it has no healthy absolute value",
           reference=f"{DREVO}; {PERONE}"),
    Metric("param_norm", "1", "parameter", "norms", "||theta||_2; a sum is over the parameters that have "
           "had a gradient", "after the update", "root_sum_square", adds_up=True, guide="steady, sub-linear growth",
           reference=DREVO, when_missing="last"),
    Metric("update_norm", "1", "parameter", "norms", "||d||_2 by difference of the parameters: what was really applied",
           "update", "root_sum_square", adds_up=True, reference=DREVO),
    Metric("intended_update_norm", "1", "parameter", "norms", "||d||_2 by the formula of SGD, Adam or AdamW, from "
           "their state; recorded in place of update_norm with `watch(..., snapshot=False)`", "update",
           "root_sum_square", adds_up=True, reference="torch.optim"),
    # Moments of tensors, on a schedule.
    Metric("grad_mean", "1", "parameter", "sampled", "mean(g)", _AT_STEP, "mean", reference=KARPATHY),
    Metric("grad_std", "1", "parameter", "sampled", "std(g), Bessel-corrected", _AT_STEP, "mean", reference=KARPATHY),
    Metric("param_mean", "1", "parameter", "sampled", "mean(theta)", "after the update", "mean", reference=KARPATHY),
    Metric("param_std", "1", "parameter", "sampled", "std(theta), Bessel-corrected", "after the update", "mean",
           reference=KARPATHY),
    Metric("update_mean", "1", "parameter", "sampled", "mean(d)", "update", "mean", reference=KARPATHY),
    Metric("update_std", "1", "parameter", "sampled", "std(d), Bessel-corrected", "update", "mean", reference=KARPATHY),
    Metric("descent_cosine", "1", "parameter", "sampled", "-<d, g> / (||d|| ||g||), g as the update "
           "found it (clipping by one factor turns nothing); not observed where one of the two is all zero", "update",
           "mean",
           guide="above 0: the update goes down the gradient; momentum and noise bring it near 0"),
    Metric("decay_cosine", "1", "parameter", "sampled", "-<d, theta> / (||d|| ||theta||); not observed "
           "where one of the two is all zero", "update", "mean",
           guide="near 0; near 1 the update only shrinks the parameter"),
    Metric("twin_fraction", "1", "parameter", "sampled", "share of the units (first dimension, of two or more) of a "
           "matrix or kernel whose weights equal all those of the first unit, it included; observed until they have "
           "differed twice, because training makes none equal again", "after the update", "mean",
           guide="1 / units; 1 if all units are the same"),
    # Moments of activations, on a schedule; estimated from a fixed sample of the elements of large tensors.
    Metric("activation_mean", "1", "module", "sampled", "mean of the module's output", "forward", "mean",
           reference=KARPATHY),
    Metric("activation_std", "1", "module", "sampled", "std of the module's output, Bessel-corrected", "forward",
           "mean", guide="near 1 and constant over depth at step 0", reference=KARPATHY),
    Metric("activation_grad_mean", "1", "module", "sampled", "mean of the gradient at the module's output", "backward",
           "mean", reference=KARPATHY),
    Metric("activation_grad_std", "1", "module", "sampled", "std of the gradient at the module's output, "
           "Bessel-corrected", "backward", "mean", guide="constant over depth", reference=KARPATHY),
    Metric("saturated_fraction", "1", "module", "sampled", "share of outputs with |x| > 0.97; only where all outputs "
           "lie within [-1, 1]", "forward", "mean", guide="a few per cent at step 0", reference=KARPATHY),
    Metric("dead_fraction", "1", "module", "sampled", "share of units (channels of a convolution, features otherwise) "
           "that are dead for every sample of the batch: output exactly 0 where outputs are never negative, gradient "
           "at the output exactly 0 elsewhere", "forward", "mean", guide="near 0", reference=KARPATHY),
    Metric("attention_entropy", "1", "module", "sampled", "mean over queries that may see two keys or more of the "
           "entropy of their attention weights, before dropout, / log(number of these keys); by functions, it is that "
           "of the parent of the module called last before", "forward", "mean", guide="1 is uniform, 0 a single key"),
    Metric("attention_ahead", "1", "module", "sampled", "mean attention weight on later positions, where there are as "
           "many queries as keys", "forward", "mean", guide="0 where each position predicts the next"),
    Metric("statistics_shift", "1", "module", "sampled", "median over channels of |running mean - batch mean| / "
           "sqrt(running variance + eps) of a BatchNorm in training mode, running statistics as they were before the "
           "batch", "forward", "mean"),
    Metric("statistics_scale", "1", "module", "sampled", "median over channels of (batch variance + eps) / (running "
           "variance + eps), likewise", "forward", "mean", guide="about 1"),
    # What users log.
    Metric("category_loss", "as logged", "category", "user", "mean over the category's samples of loss / length "
           "(every sample weighs the same)", "forward", "mean", reference=DREVO),
    Metric("category_loss_per_token", "as logged", "category", "user", "sum of the category's losses / sum of its "
           "lengths (every token weighs the same)", "forward", "mean", reference=DREVO),
    Metric("category_count", "samples", "category", "user", "number of samples of the category", "forward", "sum"),
    # Derived when read.
    Metric("grad_norm_clipped", "1", "parameter", "norms", "clip_coefficient * grad_norm", "clipped", "root_sum_square",
           adds_up=True, reference=DREVO, inputs=("grad_norm", "clip_coefficient"), derive=_product),
    Metric("update_ratio", "1", "parameter", "norms", "||d||_2 / ||theta||_2", "update", "root_sum_square",
           guide="1e-4 to 1e-3; above 1e-2 large, below 1e-6 stalled", reference=DREVO,
           inputs=("update_norm", "param_norm"), derive=_ratio),
    Metric("intended_update_ratio", "1", "parameter", "norms", "||d||_2 / ||theta||_2, d as the optimizer meant it",
           "update", "root_sum_square", guide="as update_ratio", inputs=("intended_update_norm", "param_norm"),
           derive=_ratio),
    Metric("effective_lr", "1", "parameter", "norms", "||d||_2 / ||clipped g||_2", "update", "root_sum_square",
           guide="the nominal lr for plain SGD", reference=DREVO, inputs=("update_norm", "grad_norm_clipped"),
           derive=_ratio),
    Metric("update_to_data", "1", "parameter", "sampled", "std(d) / std(theta)", "update", "mean",
           guide="about 1e-3", reference=KARPATHY, inputs=("update_std", "param_std"), derive=_ratio),
    Metric("grad_to_data", "1", "parameter", "sampled", "std(g) / std(theta)", _AT_STEP, "mean", reference=KARPATHY,
           inputs=("grad_std", "param_std"), derive=_ratio),
)  # fmt: skip

METRICS = MappingProxyType({each.name: each for each in _ENTRIES})
"""Name to Metric, in the order of the docs."""


def unit_of(metric: str) -> str:
    """The unit of a metric; numbers that a user logged under a name of their own are `"as logged"`."""
    return METRICS[metric].unit if metric in METRICS else "as logged"
