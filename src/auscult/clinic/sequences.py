"""Sequences: healthy trainings on text and on sequences of numbers."""

from collections.abc import Callable
from math import log
from os import PathLike

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from auscult.clinic.copying import WIDTH, Block
from auscult.clinic.objectives import score
from auscult.clinic.session import Outcome, Watching, descend, hold
from auscult.clinic.tables import Table

LETTERS, LENGTH, BATCH = 12, 16, 16
WORDS, WORDS_EACH = 300, 8
IDS, IDS_USED = 50_000, 60
Path = str | PathLike[str]


class Reader(nn.Module):
    """A causal transformer that predicts the next letter.

    Args:
        tied: Whether letters are read and written by one matrix.
    """

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.letters = nn.Embedding(LETTERS, WIDTH)
        self.positions = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.Sequential(Block(True, True), Block(True, True))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, LETTERS, bias=not tied)
        if tied:
            nn.init.normal_(self.letters.weight, std=WIDTH**-0.5)
            self.head.weight = self.letters.weight

    def forward(self, letters: Tensor) -> Tensor:
        """Logits `(N, T, 12)` of the letters that follow `(N, T)`."""
        hidden = self.letters(letters) + self.positions(torch.arange(letters.shape[1]))
        return self.head(self.norm(self.blocks(hidden)))


class Recurrent(nn.Module):
    """A recurrent layer and a linear one behind its last state.

    Args:
        kind: The recurrent layer's class.
        features: Numbers per position.
        outputs: Numbers that come out.
    """

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], features: int, outputs: int) -> None:
        super().__init__()
        self.recurrent = kind(features, 24, batch_first=True)
        self.head = nn.Linear(24, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """`(N, outputs)` of `(N, T, features)`."""
        return self.head(self.recurrent(inputs)[0][:, -1])


def read_text(path: Path, seed: int, tied: bool = False) -> Outcome:
    """A character model with warm-up, on a Markov chain whose entropy is its floor."""
    generator = Generator().manual_seed(seed)
    odds = torch.softmax(2 * torch.randn(LETTERS, LETTERS, generator=generator), 1)
    stationary = torch.linalg.matrix_power(odds, 64)[0]
    floor = float(-(stationary[:, None] * odds * odds.log()).sum())
    torch.manual_seed(seed)
    model = Reader(tied)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 40))

    def loss_on(text: Tensor) -> Tensor:
        return functional.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())

    def loop(monitor: Watching) -> None:
        for _ in range(250):
            loss = loss_on(_write(odds, BATCH, generator))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            monitor.log(loss=loss)

    def attained() -> float:
        return (log(LETTERS) - float(loss_on(_write(odds, 256, generator)))) / (log(LETTERS) - floor)

    return hold(model, optimizer, path, loop, attained)


def read_text_tied(path: Path, seed: int) -> Outcome:
    """The same with one matrix for letters read and written."""
    return read_text(path, seed, tied=True)


def add_up(path: Path, seed: int, lengths: Callable[[int], int] = lambda step: 10) -> Outcome:
    """A GRU that adds up numbers; `lengths` says how many at which step."""
    generator = Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = Recurrent(nn.GRU, 1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    step = -1

    def loss() -> Tensor:
        nonlocal step
        step += 1
        numbers = torch.rand(32, lengths(step), 1, generator=generator)
        return functional.mse_loss(model(numbers), numbers.sum(1) - lengths(step) / 2)

    numbers = torch.rand(400, 10, 1, generator=generator)
    held = Table(numbers, numbers.sum(1) - 5)
    return hold(model, optimizer, path, descend(optimizer, 400, loss), lambda: score(model(numbers), held, 0.0))


def add_up_longer(path: Path, seed: int) -> Outcome:
    """A curriculum: sequences of 3, then 6, then 10 numbers."""
    return add_up(path, seed, lambda step: 3 if step < 100 else 6 if step < 200 else 10)


def add_up_in_buckets(path: Path, seed: int) -> Outcome:
    """Batches of sequences of one length each, every batch another."""
    return add_up(path, seed, lambda step: (4, 7, 10, 13)[step * 7 % 4])


def remember(path: Path, seed: int) -> Outcome:
    """An LSTM that is asked for the first symbol it was shown, so that its gates saturate."""
    generator = Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = Recurrent(nn.LSTM, 4, 4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def loss() -> Tensor:
        symbols = torch.randint(0, 4, (32, 6), generator=generator)
        return functional.cross_entropy(model(functional.one_hot(symbols, 4).float()), symbols[:, 0])

    symbols = torch.randint(0, 4, (400, 6), generator=generator)
    held = Table(functional.one_hot(symbols, 4).float(), symbols[:, 0], 4)
    return hold(model, optimizer, path, descend(optimizer, 400, loss), lambda: score(model(held.inputs), held, 0.0))


def sort_texts(path: Path, seed: int, sparse: bool = False) -> Outcome:
    """Bags of words of four topics; most rows of the embedding have no gradient at a step."""
    generator = Generator().manual_seed(seed)
    topics = torch.softmax(2 * torch.randn(4, WORDS, generator=generator), 1)
    labels = torch.randint(0, 4, (1200,), generator=generator)
    bags = torch.multinomial(topics[labels], WORDS_EACH, replacement=True, generator=generator)
    train, held = Table(bags[:900], labels[:900], 4), Table(bags[900:], labels[900:], 4)
    torch.manual_seed(seed)
    embedding = nn.EmbeddingBag(WORDS, 16, mode="mean", sparse=sparse)
    model = nn.Sequential(embedding, nn.Linear(16, 4))
    optimizers: dict[str, torch.optim.Optimizer] = {"all": torch.optim.Adam(model.parameters(), lr=1e-2)}
    if sparse:
        optimizers = {
            "words": torch.optim.SparseAdam(list(embedding.parameters()), lr=1e-2),
            "rest": torch.optim.Adam(model[1].parameters(), lr=1e-2),
        }

    def loop(monitor: Watching) -> None:
        for _ in range(12):
            for chosen in torch.randperm(len(train), generator=generator).split(32):
                loss = functional.cross_entropy(model(train.inputs[chosen]), train.targets[chosen])
                for each in optimizers.values():
                    each.zero_grad()
                loss.backward()
                for each in optimizers.values():
                    each.step()
                monitor.log(loss=loss)

    return hold(model, optimizers, path, loop, lambda: score(model(held.inputs), held, 0.0))


def sort_texts_sparsely(path: Path, seed: int) -> Outcome:
    """The same with sparse gradients and an optimizer of its own for the embedding."""
    return sort_texts(path, seed, sparse=True)


def look_up(path: Path, seed: int) -> Outcome:
    """Whole numbers of up to 50,000 as inputs of an embedding, of which few are ever used."""
    generator = Generator().manual_seed(seed)
    used = torch.randint(0, IDS, (IDS_USED,), generator=generator)
    worth = torch.randn(IDS_USED, generator=generator)
    drawn = torch.randint(0, IDS_USED, (1200, 3), generator=generator)
    targets = worth[drawn].sum(1, keepdim=True)
    train, held = Table(used[drawn[:900]], targets[:900]), Table(used[drawn[900:]], targets[900:])
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Embedding(IDS, 2), nn.Flatten(), nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def loss() -> Tensor:
        chosen = torch.randint(0, len(train), (32,), generator=generator)
        return functional.mse_loss(model(train.inputs[chosen]), train.targets[chosen])

    return hold(model, optimizer, path, descend(optimizer, 300, loss), lambda: score(model(held.inputs), held, 0.0))


def _write(odds: Tensor, count: int, generator: Generator) -> Tensor:
    """int64 `(count, 17)` of a Markov chain, `odds[a, b]` being the chance that b follows a."""
    text = torch.randint(0, LETTERS, (count, 1), generator=generator)
    for _ in range(LENGTH):
        text = torch.cat([text, torch.multinomial(odds[text[:, -1]], 1, generator=generator)], 1)
    return text
