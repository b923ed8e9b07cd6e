"""Controls: healthy trainings, plain ones and ones that look odd, none of which a doctor may call sick."""

from dataclasses import dataclass, replace

from auscult.clinic import habits, sequences, structures
from auscult.clinic.copying import Copying
from auscult.clinic.halfprecision import HalfPrecision
from auscult.clinic.hearing import Hearing
from auscult.clinic.recipe import Recipe
from auscult.clinic.session import Script, Training
from auscult.clinic.tuning import Tuning


@dataclass(frozen=True, slots=True)
class Control:
    """A healthy training.

    Attributes:
        name: Its name in our tables; rules never see it.
        about: What it is, and why it may look sick.
        floor: The score it reaches at least.
        training: The training.
    """

    name: str
    about: str
    floor: float
    training: Training


_DIGITS = Recipe("digits", "unit", hidden=(64,), epochs=8, lr=2e-3)

CONTROLS = {
    each.name: each
    for each in (
        # Plain.
        Control("digits-adam", "digits, Adam", 0.9, _DIGITS),
        Control("digits-adamw", "digits, AdamW", 0.9, replace(_DIGITS, optimizer="adamw", weight_decay=0.01)),
        Control("digits-rmsprop", "digits, RMSprop", 0.85, replace(_DIGITS, optimizer="rmsprop", lr=1e-3)),
        Control(
            "digits-convolution",
            "a convolution, SGD at 0.1",
            0.85,
            Recipe("digits", "unit", hidden=(64,), channels=(16,), optimizer="sgd", lr=0.1, epochs=14),
        ),
        Control(
            "digits-lenet",
            "two convolutions, SGD with momentum, weight decay 1e-5",
            0.9,
            Recipe(
                "digits",
                "unit",
                hidden=(60, 42),
                channels=(6, 16),
                optimizer="sgd",
                lr=0.05,
                momentum=0.9,
                weight_decay=1e-5,
                epochs=12,
            ),
        ),
        Control(
            "digits-batchnorm",
            "convolutions, BatchNorm and dropout, SGD with momentum, cosine",
            0.9,
            Recipe(
                "digits",
                "unit",
                hidden=(64, 64),
                channels=(8, 16),
                batch_norm=True,
                dropout=0.2,
                optimizer="sgd",
                lr=0.05,
                momentum=0.9,
                schedule="cosine",
                epochs=8,
            ),
        ),
        Control("iris-logistic", "logistic regression", 0.8, Recipe("iris", lr=0.05, epochs=40, batch=16)),
        Control("iris-small", "four hidden units", 0.8, Recipe("iris", hidden=(4,), lr=0.02, epochs=40, batch=16)),
        Control("wine", "AdamW", 0.9, Recipe("wine", hidden=(32,), optimizer="adamw", lr=3e-3, epochs=30)),
        Control(
            "cancer",
            "two classes from one logit",
            0.9,
            Recipe("cancer", hidden=(32,), outputs=1, epochs=15),
        ),
        Control(
            "cancer-small",
            "two small layers, a sigmoid and the loss that takes it",
            0.9,
            Recipe("cancer", hidden=(4, 4), outputs=1, head="sigmoid", loss="binary", lr=5e-3, epochs=25),
        ),
        Control("diabetes", "noise that no model explains", 0.25, Recipe("diabetes", hidden=(32,), epochs=15)),
        Control(
            "diabetes-deeper",
            "two layers, weight decay 1e-5",
            0.25,
            Recipe("diabetes", hidden=(64, 64), weight_decay=1e-5, epochs=10),
        ),
        Control("sine", "tanh", 0.95, Recipe("sine", hidden=(32, 32), activation="tanh", lr=5e-3, epochs=40)),
        Control("multilabel", "three labels", 0.8, Recipe("multilabel", hidden=(32,), epochs=15, lr=3e-3)),
        Control("moons", "two moons", 0.95, Recipe("moons", hidden=(32, 32), lr=5e-3, epochs=15)),
        Control("circles", "two circles", 0.95, Recipe("circles", hidden=(32, 32), lr=5e-3, epochs=15)),
        Control(
            "autoencoder",
            "images from 16 numbers",
            0.5,
            Recipe("images-themselves", "unit", hidden=(48, 16, 48), lr=3e-3, epochs=15),
        ),
        Control("text", "a transformer on text, whose entropy is its floor", 0.85, Script(sequences.read_text)),
        Control("copying", "a transformer that copies, half of whose task is guessing", 0.9, Copying()),
        Control("hearing", "a transformer on sounds, clipped and warmed up", 0.85, Hearing(scaled=False)),
        Control("sums", "a GRU that adds up", 0.9, Script(sequences.add_up)),
        Control("topics", "bags of words", 0.85, Script(sequences.sort_texts)),
        # Traps.
        Control("sparse", "wide ReLU layers, mostly 0", 0.9, replace(_DIGITS, hidden=(256, 256))),
        Control("standardised", "standardised pixels, some up to 20", 0.9, replace(_DIGITS, norm="std")),
        Control("sgd-0.1", "SGD at 0.1", 0.9, replace(_DIGITS, optimizer="sgd", lr=0.1, epochs=15)),
        Control("adadelta-3", "Adadelta at 3", 0.9, replace(_DIGITS, optimizer="adadelta", lr=3.0)),
        Control("adam-0.02", "Adam at 0.02", 0.9, replace(_DIGITS, lr=0.02)),
        Control(
            "separable",
            "data so separable that the loss goes to 0",
            0.9,
            Recipe("islands", hidden=(32,), optimizer="sgd", lr=0.1, epochs=40),
        ),
        Control(
            "dropout",
            "dropout, so that evaluation is better than training",
            0.9,
            replace(_DIGITS, hidden=(128,), dropout=0.5, epochs=12),
        ),
        Control("smoothed", "label smoothing, a floor of the loss", 0.9, replace(_DIGITS, smoothing=0.1)),
        Control("warm-up", "a learning rate from nearly 0", 0.9, replace(_DIGITS, schedule="warm-up")),
        Control("cosine", "a learning rate down to 0", 0.85, replace(_DIGITS, schedule="cosine")),
        Control(
            "restarts",
            "a learning rate that rises again",
            0.9,
            replace(_DIGITS, schedule="restarts", lr=4e-3, epochs=12),
        ),
        Control("accumulation", "four backward passes an update", 0.9, replace(_DIGITS, accumulate=4, batch=8)),
        Control("frozen", "all but the end frozen, its BatchNorm too", 0.9, Tuning(statistics_frozen=True)),
        Control("adapters", "frozen layers with low-rank updates from 0", 0.8, Script(structures.adapters)),
        Control("tied", "one matrix to read and to write", 0.85, Script(sequences.read_text_tied)),
        Control("sparse-gradients", "sparse gradients of an embedding", 0.85, Script(sequences.sort_texts_sparsely)),
        Control("zero-head", "an output layer from 0", 0.9, Script(structures.zero_head)),
        Control("gated", "residual branches from 0", 0.9, Script(structures.gated_residual)),
        Control("residual", "sixteen residual blocks", 0.85, Script(structures.deep_residual)),
        Control("half-precision", "a loss scale that skips the first steps", 0.9, HalfPrecision(scale=2.0**24)),
        Control("clipped", "clipping at every second step or so", 0.9, replace(_DIGITS, max_norm=1.0)),
        Control("batch-8", "noisy small batches", 0.85, replace(_DIGITS, batch=8, epochs=4, lr=1e-3)),
        Control("adversaries", "a generator and its critic", 0.8, Script(habits.against_each_other)),
        Control("reward", "a policy and a value", 0.7, Script(habits.for_a_reward)),
        Control("memory", "an LSTM whose gates saturate", 0.9, Script(sequences.remember)),
        Control("numbers-as-names", "inputs up to 50,000 of an embedding", 0.8, Script(sequences.look_up)),
        Control("rescaled", "targets of thousands, rescaled behind", 0.9, Script(structures.rescaled)),
        Control(
            "imbalance",
            "one class twenty times as rare, and weighted",
            0.9,
            Recipe("moons", hidden=(32, 32), lr=5e-3, epochs=30, imbalance=0.05, weighted=True),
        ),
        Control("resumed", "resumed twice at half the learning rate", 0.9, Script(habits.resumed)),
        Control("evaluated-often", "evaluated every ten steps", 0.9, Script(habits.evaluated_often)),
        Control("experts", "experts that not every step calls", 0.85, Script(structures.experts)),
        Control("bad-batch", "a spike that recovers", 0.9, Script(habits.one_bad_batch)),
        Control("l-bfgs", "several losses a step", 0.8, Script(habits.several_evaluations_a_step)),
        Control("curriculum", "sequences that grow", 0.85, Script(sequences.add_up_longer)),
        Control("buckets", "batches of one length each", 0.85, Script(sequences.add_up_in_buckets)),
        Control("outline", "a U-shaped network", 0.85, Script(structures.outline)),
    )
}
"""Name to Control, in the order in which they are listed."""
