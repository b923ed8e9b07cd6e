"""Recipe: an ordinary training script as a list of settings, among them the mistakes that people make."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import cos, pi
from os import PathLike

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from auscult.clinic.networks import build_network, initialise
from auscult.clinic.objectives import (
    OBJECTIVES,
    Objective,
    class_weighted,
    label_smoothed,
    score,
    score_name,
    usual_objective,
)
from auscult.clinic.session import Outcome, Watching, hold
from auscult.clinic.tables import Table, load_table, scale_inputs, scale_targets
from auscult.core.errors import SetupError

EVALUATIONS = 40  # at most, evenly over the epochs
LOANED = 100  # training rows that the quirk `validate-on-train` takes for validation

QUIRKS = {
    "ascend": "the loss has the wrong sign",
    "dropout-in-evaluation": "dropout ignores evaluation mode",
    "evaluation-mode": "eval() was called before training, and train() never was",
    "first-layer-left-out": "the optimizer was not given the first layer",
    "labels-permuted": "labels belong to other rows, once and for all",
    "no-step": "the optimizer's step is never called",
    "no-zero-grad": "gradients are never cleared",
    "old-optimizer": "the optimizer holds the parameters of an older copy of the model",
    "same-batch": "every step takes the first batch again",
    "shuffled-apart": "features are shuffled every epoch, labels are not",
    "validate-on-train": "what is evaluated is part of what is learnt",
    "workers-in-step": "four loader workers draw the same rows, the same ones every epoch",
}
"""Name to what is wrong in the script."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """An ordinary training script of one model on one table.

    Attributes:
        data: A name of `TABLES`.
        norm: How features are scaled; see `scale_inputs`.
        norm_targets: Whether numbers to predict are standardised.
        hidden: Width of each hidden layer.
        channels: Channels of each convolution before them.
        activation: That of the hidden layers.
        activations: Those of single hidden layers, by position.
        head: Activation of the output layer; None leaves logits.
        outputs: Width of the output layer; None for one per class, label or number.
        batch_norm: Whether hidden layers have BatchNorm.
        dropout: Rate of dropout behind the hidden layers.
        init: How weights are drawn, and the scale; None for PyTorch's own way. See `initialise`.
        bias_scale: Standard deviation of the biases where `init` is given.
        loss: A name of `OBJECTIVES`; None for what fits logits.
        smoothing: Label smoothing of the cross-entropy.
        weighted: Whether the cross-entropy weighs classes by how rare they are.
        l2: Factor of the sum of squared parameters that is added to the loss.
        optimizer: `sgd`, `adam`, `adamw`, `adadelta` or `rmsprop`.
        lr: Learning rate.
        momentum: Momentum of SGD.
        nesterov: Whether it is Nesterov's.
        weight_decay: Weight decay of the optimizer.
        batch: Rows per batch.
        epochs: Number of passes over the rows.
        gamma: Factor of the learning rate after each epoch.
        schedule: Factor of the learning rate over the steps: `warm-up` (over the first tenth), `cosine` (to 0), or
            `restarts` (four cosines); None for none.
        max_norm: Bound of gradient clipping; None for none.
        accumulate: Backward passes per update.
        rows: How many rows to learn from; None for all.
        label_noise: Share of labels replaced by random ones.
        input_noise: Standard deviation of the noise added to the rows to learn from.
        imbalance: Share of each class but the first that is kept to learn from.
        quirk: A name of `QUIRKS`: what else is wrong; None for nothing.
    """

    data: str
    norm: str | float = "std"
    norm_targets: bool = True
    hidden: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    activation: str | None = "relu"
    activations: Mapping[int, str | None] = field(default_factory=dict[int, str | None])
    head: str | None = None
    outputs: int | None = None
    batch_norm: bool = False
    dropout: float = 0.0
    init: tuple[str, float] | None = None
    bias_scale: float = 0.0
    loss: str | None = None
    smoothing: float = 0.0
    weighted: bool = False
    l2: float = 0.0
    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    batch: int = 32
    epochs: int = 10
    gamma: float = 1.0
    schedule: str | None = None
    max_norm: float | None = None
    accumulate: int = 1
    rows: int | None = None
    label_noise: float = 0.0
    input_noise: float = 0.0
    imbalance: float = 1.0
    quirk: str | None = None

    def __post_init__(self) -> None:
        if self.quirk is not None and self.quirk not in QUIRKS:
            raise SetupError(f"Expected a quirk ({', '.join(QUIRKS)}) or None, but got {self.quirk!r}.")

    def train(self, path: str | PathLike[str], seed: int) -> Outcome:
        """Train it, recorded at `path`; data, initial weights and batches follow from the seed."""
        train, held = load_rows(self, seed)
        torch.manual_seed(seed)
        model = build_model(self, train)
        owned = copy.deepcopy(model) if self.quirk == "old-optimizer" else model
        optimizer = _build_optimizer(self, owned)
        lesson = Lesson(self, model, optimizer, train, held, seed)
        return hold(model, optimizer, path, lesson.teach, lambda: lesson.evaluate(held)[1])


class Lesson:
    """The loop of a recipe.

    Args:
        recipe: Its settings.
        model: The model.
        optimizer: Its optimizer.
        train: Rows to learn from.
        held: Rows held out.
        seed: Seeds the order of the batches.
    """

    def __init__(
        self, recipe: Recipe, model: nn.Module, optimizer: Optimizer, train: Table, held: Table, seed: int
    ) -> None:
        self.recipe, self.model, self.optimizer = recipe, model, optimizer
        self.train = train
        self.validation = train.rows(torch.arange(LOANED)) if recipe.quirk == "validate-on-train" else held
        self.objective = _objective(recipe, train)
        self.generator = Generator().manual_seed(seed)
        per_epoch = -(-len(train) // recipe.batch)
        self.scheduler = LambdaLR(optimizer, _factor(recipe, per_epoch // recipe.accumulate))

    def teach(self, monitor: Watching) -> None:
        """Train over all epochs, with an evaluation after each."""
        recipe = self.recipe
        if recipe.quirk == "evaluation-mode":
            self.evaluate(self.validation)
        between = max(1, recipe.epochs // EVALUATIONS)
        for epoch in range(recipe.epochs):
            if recipe.quirk != "evaluation-mode":
                self.model.train()
            for number, batch in enumerate(self._batches(), 1):
                self._step(monitor, batch, number)
            if (epoch + 1) % between == 0:
                loss, reached = self.evaluate(self.validation)
                monitor.log_evaluation("val", {"loss": loss, score_name(self.train): reached})

    def _step(self, monitor: Watching, batch: Table, number: int) -> None:
        recipe = self.recipe
        begins, ends = (number - 1) % recipe.accumulate == 0, number % recipe.accumulate == 0
        if begins and recipe.quirk != "no-zero-grad":
            self.optimizer.zero_grad()
        loss = self.objective(self.model(batch.inputs), batch)
        if recipe.l2:
            loss = loss + recipe.l2 * sum(each.square().sum() for each in self.model.parameters())
        target = loss / recipe.accumulate
        (-target if recipe.quirk == "ascend" else target).backward()
        if ends:
            if recipe.max_norm is not None:
                nn.utils.clip_grad_norm_(self.model.parameters(), recipe.max_norm)
            if recipe.quirk != "no-step":
                self.optimizer.step()
                self.scheduler.step()
        monitor.log(loss=loss)

    def _batches(self) -> Iterator[Table]:
        """The batches of one epoch."""
        recipe, count = self.recipe, len(self.train)
        order = torch.randperm(count, generator=self.generator)
        if recipe.quirk == "same-batch":
            order = torch.arange(recipe.batch).repeat(count // recipe.batch)
        elif recipe.quirk == "workers-in-step":
            quarter = torch.randperm(count, generator=Generator().manual_seed(0))[: count // 4]
            order = torch.cat([each.repeat(4) for each in quarter.split(recipe.batch)])
        for chosen in order.split(recipe.batch):
            batch = self.train.rows(chosen)
            if recipe.quirk == "shuffled-apart":
                others = torch.randint(0, count, (len(chosen),), generator=self.generator)
                batch = replace(batch, inputs=self.train.inputs[others])
            yield batch

    @torch.no_grad()
    def evaluate(self, table: Table) -> tuple[float, float]:
        """Loss and score of the model as it stands, in evaluation mode, where it is left."""
        self.model.eval()
        output = self.model(table.inputs)
        threshold = 0.5 if self.recipe.head is not None or self._regresses_labels() else 0.0
        return float(self.objective(output, table)), score(output, table, threshold)

    def _regresses_labels(self) -> bool:
        return self.recipe.loss in ("squares", "absolute")


def load_rows(recipe: Recipe, seed: int) -> tuple[Table, Table]:
    """The rows that a recipe learns from, in the state in which it is given them, and those held out."""
    train, held = load_table(recipe.data, seed)
    mirrors = torch.equal(train.inputs, train.targets)
    train, held = scale_inputs(train, held, recipe.norm)
    if mirrors:
        train, held = replace(train, targets=train.inputs), replace(held, targets=held.inputs)
    elif recipe.norm_targets:
        train, held = scale_targets(train, held)
    generator = Generator().manual_seed(seed + 1)
    if recipe.imbalance < 1:
        kept = (train.targets == 0) | (torch.rand(len(train), generator=generator) < recipe.imbalance)
        train = train.rows(kept)
    if recipe.rows is not None:
        train = train.rows(torch.arange(min(recipe.rows, len(train))))
    if recipe.label_noise:
        random = torch.randint(0, train.classes, (len(train),), generator=generator)
        wrong = torch.rand(len(train), generator=generator) < recipe.label_noise
        train = replace(train, targets=torch.where(wrong, random, train.targets))
    if recipe.input_noise:
        noise = torch.randn(train.inputs.shape, generator=generator)
        train = replace(train, inputs=train.inputs + recipe.input_noise * noise)
    if recipe.quirk == "labels-permuted":
        train = replace(train, targets=train.targets[torch.randperm(len(train), generator=generator)])
    return train, held


def build_model(recipe: Recipe, table: Table) -> nn.Sequential:
    """The untrained model of a recipe, of PyTorch's global generator."""
    wanted = table.classes or table.targets.shape[1]
    model = build_network(
        table.inputs.shape[1],
        wanted if recipe.outputs is None else recipe.outputs,
        recipe.hidden,
        channels=recipe.channels,
        activation=recipe.activation,
        activations=recipe.activations,
        head=recipe.head,
        batch_norm=recipe.batch_norm,
        dropout=recipe.dropout,
        dropout_always=recipe.quirk == "dropout-in-evaluation",
    )
    if recipe.init is not None:
        initialise(model, *recipe.init, bias_scale=recipe.bias_scale)
    return model


def _objective(recipe: Recipe, table: Table) -> Objective:
    if recipe.smoothing:
        return label_smoothed(recipe.smoothing)
    if recipe.weighted:
        counts = torch.bincount(table.targets, minlength=table.classes).float()
        return class_weighted(counts.sum() / (table.classes * counts))
    outputs = table.classes or table.targets.shape[1]
    return OBJECTIVES[recipe.loss or usual_objective(table, recipe.outputs or outputs)]


def _build_optimizer(recipe: Recipe, model: nn.Sequential) -> Optimizer:
    modules = list(model)[1:] if recipe.quirk == "first-layer-left-out" else list(model)
    parameters: list[Tensor] = [each for module in modules for each in module.parameters()]
    lr, decay = recipe.lr, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, recipe.momentum, nesterov=recipe.nesterov, weight_decay=decay)
    kinds = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adadelta": torch.optim.Adadelta,
        "rmsprop": torch.optim.RMSprop,
    }
    if recipe.optimizer not in kinds:
        raise SetupError(f"Expected an optimizer (sgd, {', '.join(kinds)}), but got {recipe.optimizer!r}.")
    return kinds[recipe.optimizer](parameters, lr=lr, weight_decay=decay)


def _factor(recipe: Recipe, per_epoch: int) -> Callable[[int], float]:
    """Factor of the learning rate at an update, counted from 0."""
    total = max(1, per_epoch * recipe.epochs)

    def factor(update: int) -> float:
        done = min(1.0, update / total)
        if recipe.schedule == "warm-up":
            return min(1.0, (update + 1) / (0.1 * total))
        if recipe.schedule == "cosine":
            return (1 + cos(pi * done)) / 2
        if recipe.schedule == "restarts":
            return (1 + cos(pi * (4 * done % 1))) / 2
        return recipe.gamma ** (update // max(1, per_epoch))

    return factor
