"""How attention is spread, against weights computed openly in float64, and what is taken for attention at all."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from auscult.metrics import attention
from auscult.metrics.activations import Activations
from auscult.metrics.taps import FunctionTap

BATCH, HEADS, LENGTH, WIDTH = 3, 2, 7, 4
ENTROPY, AHEAD = "attention_entropy", "attention_ahead"


@pytest.fixture(autouse=True)
def nothing_is_left_on_the_stack() -> Iterator[None]:
    torch.manual_seed(0)
    yield
    assert torch.overrides._get_current_function_mode_stack() == []


def never(part: str, error: Exception) -> None:
    raise AssertionError(part) from error


def told(weights: Tensor, visible: Tensor) -> dict[str, float]:
    """Entropy and mass ahead of weights `(..., L, S)`, row by row."""
    entropies, masses = [], []
    for row, seen, place in zip(
        weights.detach().double().flatten(0, -2).numpy(),
        visible.expand(weights.shape).flatten(0, -2).numpy(),
        np.tile(np.arange(weights.shape[-2]), math.prod(weights.shape[:-2])),
    ):
        if seen.sum() >= 2:
            entropies.append(-sum(w * math.log(w) for w in row[seen] if w > 0) / math.log(seen.sum()))
        if seen.any():
            masses.append(row[place + 1 :][seen[place + 1 :]].sum())
    found = {ENTROPY: float(np.mean(entropies))}
    return {**found, AHEAD: float(np.mean(masses))} if weights.shape[-1] == weights.shape[-2] else found


class Block(nn.Module):
    """Queries, keys and values by one projection each, and attention as it is given."""

    def __init__(self, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.queries, self.keys, self.values = (nn.Linear(8, HEADS * WIDTH) for _ in range(3))
        self.attend = attend

    def split(self, inputs: Tensor) -> list[Tensor]:
        return [
            each(inputs).view(*inputs.shape[:2], HEADS, WIDTH).transpose(1, 2)
            for each in (self.queries, self.keys, self.values)
        ]

    def forward(self, inputs: Tensor) -> Tensor:
        return self.attend(*self.split(inputs))


class Model(nn.Module):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.first, self.block, self.last = nn.Linear(8, 8), block, nn.LazyLinear(3)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.last(self.block(self.first(inputs[0]), *inputs[1:]))


def heard(model: nn.Module, *inputs: Tensor) -> dict[str, dict[str, float]]:
    """Metrics by path, of one pass."""
    activations = Activations(model, never)
    activations.armed = True
    activations.begin_pass()
    model(*inputs).float().square().mean().backward()
    found: dict[str, dict[str, float]] = {}
    for channel, value in activations.take().figures().items():
        found.setdefault(channel.path, {})[channel.metric] = value
    activations.close()
    return found


def softmax_of(query: Tensor, key: Tensor, hidden: Tensor | None = None, value: float = -math.inf) -> Tensor:
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    return scores if hidden is None else scores.masked_fill(hidden, value)


LATER = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
SOME = torch.zeros(BATCH, 1, 1, LENGTH, dtype=torch.bool)
SOME[1, ..., 4:] = SOME[2, ..., 1:] = True  # padding; of the last sample only one key is left
PRODUCT = functional.scaled_dot_product_attention
WAYS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], Tensor]] = {
    "product": (PRODUCT, torch.zeros(1, dtype=torch.bool)),
    "causal product": (lambda q, k, v: PRODUCT(q, k, v, is_causal=True), LATER),
    "product with a mask": (lambda q, k, v: PRODUCT(q, k, v, ~SOME), SOME),
    "product with an additive mask": (
        lambda q, k, v: PRODUCT(q, k, v, attn_mask=torch.zeros(LENGTH, LENGTH).masked_fill(LATER, -1e9)),
        LATER,
    ),
    "softmax": (lambda q, k, v: softmax_of(q, k, LATER).softmax(-1) @ v, LATER),
    "softmax of large numbers": (lambda q, k, v: torch.softmax(softmax_of(q, k, SOME, -1e4), 3) @ v, SOME),
    "softmax of nn": (lambda q, k, v: nn.Softmax(dim=-1)(softmax_of(q, k)) @ v, torch.zeros(1, dtype=torch.bool)),
    "softmax with dropout": (
        lambda q, k, v: functional.dropout(functional.softmax(softmax_of(q, k, LATER), dim=-1), 0.5) @ v,
        LATER,
    ),
    "softmax of einsum": (
        lambda q, k, v: torch.einsum("bhqk,bhke->bhqe", torch.einsum("bhqe,bhke->bhqk", q / 2, k).softmax(-1), v),
        torch.zeros(1, dtype=torch.bool),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_weights_by_functions(way: str) -> None:
    attend, hidden = WAYS[way]
    model, inputs = Model(Block(attend)), torch.randn(BATCH, LENGTH, 8) * 2
    model(inputs)
    query, key, _ = (each.double() for each in model.block.split(model.first(inputs)))
    weights = softmax_of(query, key, hidden).softmax(-1)
    assert heard(model, inputs) == {"block": pytest.approx(told(weights, ~hidden), abs=1e-5)}


def test_uniform_collapsed_and_looking_ahead() -> None:
    """Closed forms: entropy 1 and (L - 1) / 2L ahead; entropy 0 on one key, also where it wins by hundreds."""
    inputs = torch.randn(BATCH, LENGTH, 8)
    uniform = heard(Model(Block(lambda q, k, v: PRODUCT(q * 0, k, v))), inputs)["block"]
    assert uniform == pytest.approx({ENTROPY: 1.0, AHEAD: (LENGTH - 1) / (2 * LENGTH)}, abs=1e-6)
    last = torch.zeros(LENGTH, LENGTH)
    last[:, -1] = 800.0
    for attend in (
        lambda q, k, v: PRODUCT(q * 0, k, v, attn_mask=last),
        lambda q, k, v: torch.softmax(q * 0 @ k.mT + last, -1) @ v,
    ):
        collapsed = heard(Model(Block(attend)), inputs)["block"]
        assert collapsed == pytest.approx({ENTROPY: 0.0, AHEAD: (LENGTH - 1) / LENGTH}, abs=1e-6)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("masked", ["", "causal", "padding", "both", "by head"])
def test_weights_of_multihead_attention(masked: str, batch_first: bool) -> None:
    hidden = {"causal": LATER, "both": LATER, "by head": LATER.expand(BATCH * HEADS, -1, -1).clone()}.get(masked)
    padding = SOME[:, 0, 0] if masked in ("padding", "both") else None
    if masked == "by head":
        hidden[::2] = False

    class SelfAttention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(8, HEADS, dropout=0.3, batch_first=batch_first)
            nn.init.normal_(self.inner.in_proj_weight)
            nn.init.normal_(self.inner.in_proj_bias)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x, x, x, attn_mask=hidden, key_padding_mask=padding, need_weights=False)[0]

    model, inputs = Model(SelfAttention()), torch.randn(BATCH, LENGTH, 8)
    inputs = inputs if batch_first else inputs.transpose(0, 1)
    model(inputs)
    state = model.first(inputs)
    model.eval()
    weights = model.block.inner(
        state, state, state, attn_mask=hidden, key_padding_mask=padding, average_attn_weights=False
    )[1]
    model.train()
    seen = torch.ones(BATCH, HEADS, LENGTH, LENGTH, dtype=torch.bool)
    if hidden is not None:
        seen &= ~(hidden.view(BATCH, HEADS, LENGTH, LENGTH) if hidden.ndim == 3 else hidden)
    if padding is not None:
        seen &= ~padding[:, None, None]
    assert heard(model, inputs) == {"block.inner": pytest.approx(told(weights, seen), abs=1e-5)}


def test_attention_across_with_projections_of_its_own() -> None:
    """Keys of another length and width: no later positions, and the entropy all the same."""

    class Across(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(8, HEADS, kdim=5, vdim=5, bias=False, batch_first=True)

        def forward(self, x: Tensor, memory: Tensor) -> Tensor:
            return self.inner(x, memory, memory)[0]

    model, inputs, memory = Model(Across()), torch.randn(BATCH, LENGTH, 8), torch.randn(BATCH, 11, 5)
    model(inputs, memory)
    weights = model.block.inner(model.first(inputs), memory, memory, average_attn_weights=False)[1]
    exact = told(weights, torch.ones_like(weights, dtype=torch.bool))
    assert heard(model, inputs, memory) == {"block.inner": pytest.approx(exact, abs=1e-5)}


def test_shared_keys_and_bfloat16() -> None:
    def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return PRODUCT(q, k[:, :1], v[:, :1], is_causal=True, scale=0.3, enable_gqa=True)

    model, inputs = Model(Block(grouped)), torch.randn(BATCH, LENGTH, 8)
    model(inputs)
    query, key, _ = (each.double() for each in model.block.split(model.first(inputs)))
    weights = (query @ key[:, :1].mT * 0.3).masked_fill(LATER, -math.inf).softmax(-1)
    assert heard(model, inputs)["block"] == pytest.approx(told(weights, ~LATER), abs=1e-5)
    assert heard(model.bfloat16(), inputs.bfloat16())["block"] == pytest.approx(told(weights, ~LATER), abs=0.02)


@pytest.mark.parametrize(
    "attend",
    [
        lambda q, k, v: functional.linear(v, torch.randn(5, WIDTH)).softmax(-1),  # classes of each position
        lambda q, k, v: functional.linear(v, nn.Parameter(torch.randn(5, WIDTH))).softmax(-1),
        lambda q, k, v: functional.linear(v.flatten(1, 2), nn.Parameter(torch.randn(5, WIDTH))).softmax(-1),
        lambda q, k, v: functional.linear(PRODUCT(q, k, v).clone(), torch.randn(5, WIDTH)).softmax(-1),
        lambda q, k, v: (q @ k.mT).softmax(-2).sum(-1, keepdim=True) * v,  # over queries
        lambda q, k, v: (q * k).softmax(-1) * v,
    ],
)
def test_other_softmaxes_are_no_attention(attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    inside = attend.__code__.co_names  # the second way has attention before its classes
    found = heard(Model(Block(attend)), torch.randn(BATCH, LENGTH, 8))
    assert set(found) == ({"block"} if "PRODUCT" in inside else set())
    if found:
        assert found["block"][AHEAD] > 0.2


def test_large_attention_is_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = Model(Block(WAYS["causal product"][0])), torch.randn(40, LENGTH, 8)
    whole = heard(model, inputs)["block"]
    for seen in (300, 60, 10):  # some samples, one sample with some heads, some queries
        monkeypatch.setattr(attention, "SEEN", seen)
        assert heard(model, inputs)["block"] == pytest.approx(whole, abs=0.1)
    hidden = Model(Block(WAYS["softmax"][0]))
    assert heard(hidden, inputs)["block"][AHEAD] == 0.0


def test_what_is_not_finite_is_nan() -> None:
    inputs = torch.randn(BATCH, LENGTH, 8)
    inputs[0, 0, 0] = math.nan
    for way in ("product", "softmax"):
        assert math.isnan(heard(Model(Block(WAYS[way][0])), inputs)["block"][ENTROPY])


def test_modes_of_the_user_and_exceptions_are_left_alone() -> None:
    class Theirs(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            return func(*args, **(kwargs or {}))

    model, inputs = Model(Block(PRODUCT)), torch.randn(BATCH, LENGTH, 8)
    with Theirs():
        assert heard(model, inputs) == {}
    broken = Model(Block(PRODUCT))
    broken.block.attend = lambda q, k, v: PRODUCT(q, k[..., :1], v)
    activations = Activations(broken, never)
    activations.armed = True
    activations.begin_pass()
    with pytest.raises(RuntimeError):
        broken(inputs)
    assert torch.overrides._get_current_function_mode_stack() == []
    activations.close()


def test_recomputation_and_evaluation_are_not_heard_again() -> None:
    class Saved(Block):
        def forward(self, inputs: Tensor) -> Tensor:
            return checkpoint(super().forward, inputs, use_reentrant=False)

    model, inputs = Model(Saved(PRODUCT)), torch.randn(BATCH, LENGTH, 8)
    model(inputs)
    once = heard(model, inputs)["block"]
    with torch.no_grad():
        query, key, _ = model.block.split(model.first(inputs))
    weights = softmax_of(query, key).softmax(-1)
    assert once == pytest.approx(told(weights, torch.ones_like(weights, dtype=torch.bool)), abs=1e-5)


def test_a_model_without_attention_is_listened_to_once() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    activations = Activations(model, never)
    activations.armed = True
    stacks: list[int] = []
    model[0].register_forward_hook(lambda *_: stacks.append(len(torch.overrides._get_current_function_mode_stack())))
    for _ in range(3):
        activations.begin_pass()
        model(torch.randn(2, 8)).sum().backward()
        activations.take()
    activations.close()
    assert stacks == [1, 0, 0]


def test_taps_lie_on_each_other_and_go_in_any_order() -> None:
    class Counting(FunctionTap):
        def __init__(self) -> None:
            super().__init__({torch.relu})
            self.count = 0

        def hear(self, *_: object) -> None:
            self.count += 1

    first, second = Counting(), Counting()
    first.begin()
    second.begin()
    torch.relu(torch.ones(1))
    first.end()  # while the other lies on it
    torch.relu(torch.ones(1))
    second.end()
    torch.relu(torch.ones(1))
    assert (first.count, second.count) == (1, 2)
    assert not first.active and not second.active


def test_autocast_changes_nothing() -> None:
    model, inputs = Model(Block(PRODUCT)), torch.randn(BATCH, LENGTH, 8)
    plain = heard(model, inputs)["block"]
    with torch.autocast("cpu", torch.bfloat16):
        assert heard(model, inputs)["block"] == pytest.approx(plain, abs=0.02)
        assert torch.is_autocast_enabled("cpu")
