"""Copying: a small causal transformer that learns to repeat what it has read, with faults that can be built into it.

A sequence is a separator, five random symbols, the separator and the same five symbols. Of its 11 predictions of the
next symbol five are a guess among eleven, so that no honest model has a loss below 5/11 ln 11 = 1.090. The score is how
much of the way from ln 12 to that floor a model gets where later symbols are not there to be seen, which is little for
one that could see them while it trained.
"""

from dataclasses import dataclass
from math import log
from os import PathLike

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from auscult.clinic.session import Outcome, Watching, hold
from auscult.core.errors import SetupError

SYMBOLS, LENGTH = 11, 5
SEPARATOR = SYMBOLS
WIDTH, HEADS = 32, 4
BATCH, WARM_UP, EVALUATED = 32, 30, 256

FAULTS = {
    "future-visible": "attention sees later positions",
    "no-positions": "positions are not told",
    "no-residual": "blocks do not add to their input but replace it",
    "sharp-logits": "logits are multiplied by 5",
    "zero-gain": "the normalisations inside the blocks have gain 0 and keep it",
    "zero-query": "the query projections are 0 and stay so",
}


@dataclass(frozen=True, slots=True)
class Copying:
    """One training of the transformer.

    Attributes:
        fault: A name of `FAULTS`; None for none.
        lr: Learning rate of AdamW after the warm-up.
        late: Factor of the learning rate in the last half of the steps.
        max_norm: Bound of gradient clipping; None for none.
        steps: Number of updates.
        blocks: Number of blocks.
    """

    fault: str | None = None
    lr: float = 3e-3
    late: float = 1.0
    max_norm: float | None = 1.0
    steps: int = 300
    blocks: int = 2

    def __post_init__(self) -> None:
        if self.fault is not None and self.fault not in FAULTS:
            raise SetupError(f"Expected a fault ({', '.join(FAULTS)}) or None, but got {self.fault!r}.")

    def train(self, path: str | PathLike[str], seed: int) -> Outcome:
        """Train it, recorded at `path`; weights and sequences follow from the seed."""
        torch.manual_seed(seed)
        model = Copier(self.fault, self.blocks)
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.lr)
        generator = Generator().manual_seed(seed)
        held = sequences(EVALUATED, Generator().manual_seed(seed + 1))
        scheduler = LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * (self.late if 2 * step >= self.steps else 1.0)
        )

        def loop(monitor: Watching) -> None:
            for step in range(self.steps):
                model.train()
                loss = next_symbol_loss(model, sequences(BATCH, generator))
                optimizer.zero_grad()
                loss.backward()
                if self.max_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), self.max_norm)
                optimizer.step()
                scheduler.step()
                monitor.log(loss=loss)
                if (step + 1) % 50 == 0:
                    model.eval()
                    with torch.no_grad():
                        monitor.log_evaluation("val", loss=next_symbol_loss(model, held))

        return hold(model, optimizer, path, loop, lambda: foretold(model, held))


class Block(nn.Module):
    """Attention and a small network, each behind a LayerNorm.

    Args:
        residual: Whether each adds to its input.
        causal: Whether attention sees no later positions.
    """

    def __init__(self, residual: bool, causal: bool) -> None:
        super().__init__()
        self.residual, self.causal = residual, causal
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.inner = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, hidden: Tensor) -> Tensor:
        """`(N, T, 32)` of the same."""
        length = hidden.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool).triu(1) if self.causal else None
        normed = self.norm1(hidden)
        attended, _ = self.attention(normed, normed, normed, attn_mask=mask, need_weights=False)
        hidden = hidden + attended if self.residual else attended
        inner = self.inner(self.norm2(hidden))
        return hidden + inner if self.residual else inner


class Copier(nn.Module):
    """Embeddings, blocks, a last normalisation and a linear layer.

    Args:
        fault: As in `Copying`.
        blocks: Likewise.
    """

    def __init__(self, fault: str | None, blocks: int) -> None:
        super().__init__()
        self.symbols = nn.Embedding(SYMBOLS + 1, WIDTH)
        self.positions = None if fault == "no-positions" else nn.Embedding(2 * LENGTH + 2, WIDTH)
        self.blocks = nn.Sequential(*(Block(fault != "no-residual", fault != "future-visible") for _ in range(blocks)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, SYMBOLS + 1)
        self.sharpness = 5.0 if fault == "sharp-logits" else 1.0
        for block in self.blocks:
            assert isinstance(block, Block)
            if fault == "zero-query":
                _keep_zero(block.attention.in_proj_weight, WIDTH)
                _keep_zero(block.attention.in_proj_bias, WIDTH)
            if fault == "zero-gain":
                _keep_zero(block.norm1.weight, WIDTH)
                _keep_zero(block.norm2.weight, WIDTH)

    def forward(self, symbols: Tensor) -> Tensor:
        """Logits `(N, T, 12)` of the symbols that follow each of `(N, T)`."""
        hidden = self.symbols(symbols)
        if self.positions is not None:
            hidden = hidden + self.positions(torch.arange(symbols.shape[1]))
        return self.sharpness * self.head(self.norm(self.blocks(hidden)))


def sequences(count: int, generator: Generator) -> Tensor:
    """int64 `(count, 12)`: separator, five symbols, separator, the same five."""
    symbols = torch.randint(0, SYMBOLS, (count, LENGTH), generator=generator)
    separator = torch.full((count, 1), SEPARATOR)
    return torch.cat([separator, symbols, separator, symbols], 1)


def next_symbol_loss(model: nn.Module, symbols: Tensor) -> Tensor:
    """Mean cross-entropy of every symbol given those before it."""
    logits = model(symbols)[:, :-1]
    return functional.cross_entropy(logits.flatten(0, 1), symbols[:, 1:].flatten())


def foretold(model: nn.Module, symbols: Tensor) -> float:
    """How far below ln 12 the loss is where a model is given no more than what came before, as a share of the most."""
    loss = torch.stack(
        [
            functional.cross_entropy(model(symbols[:, :end])[:, -1], symbols[:, end])
            for end in range(1, symbols.shape[1])
        ]
    )
    most = log(SYMBOLS + 1) - LENGTH / (2 * LENGTH + 1) * log(SYMBOLS)
    return (log(SYMBOLS + 1) - float(loss.mean())) / most


def _keep_zero(parameter: nn.Parameter, rows: int) -> None:
    with torch.no_grad():
        parameter[:rows] = 0

    def keep(gradient: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(gradient[:rows]), gradient[rows:]])

    parameter.register_hook(keep)
