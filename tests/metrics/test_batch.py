"""What a model is given and returns, in few numbers, against NumPy in float64 and closed forms."""

import math
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor

from auscult.metrics import batch
from auscult.metrics.batch import next_share, same_share
from auscult.metrics.sample import find_tensor, table, thin


def test_moments_and_spread() -> None:
    values = torch.randn(40, 7) * 3 + 100
    exact = values.double().numpy()
    mean, std, largest = (float(each) for each in batch.moments(values))
    assert (mean, std) == (pytest.approx(exact.mean()), pytest.approx(exact.std(ddof=1)))
    assert largest == np.abs(exact).max()
    told = batch.spread(values).tolist()
    assert told == pytest.approx([exact.min(), exact.max(), exact.mean(), exact.std(ddof=1)])


def test_extremes_of_large_tensors_are_of_all_elements() -> None:
    values = torch.zeros(300_000)
    values[[1, 4]] = torch.tensor([-5.0, 9.0])
    assert batch.spread(values).tolist()[:2] == [-5.0, 9.0]


@pytest.mark.parametrize("values", [torch.tensor([True, False]), torch.tensor([3, 1], dtype=torch.uint8)])
def test_spread_of_what_is_no_floating_point(values: Tensor) -> None:
    assert batch.spread(values).tolist()[:2] == [float(values.min()), float(values.max())]


def test_moments_of_one_element_and_of_nan() -> None:
    mean, std, largest = (float(each) for each in batch.moments(torch.tensor([-2.0])))
    assert (mean, largest) == (-2, 2) and math.isnan(std)
    assert all(math.isnan(each) for each in batch.spread(torch.tensor([math.nan, 1.0])).tolist())


def test_features_of_columns_and_of_channels() -> None:
    columns = torch.randn(200, 3, dtype=torch.float64)
    columns = (columns - columns.mean(0)) / columns.std(0, correction=0)
    shaped = columns * torch.tensor([1.0, 50.0, 4.0]) + torch.tensor([0.0, 0.0, 12.0])
    assert batch.features(shaped).tolist() == pytest.approx([50.0, 3.0])
    channels = shaped.reshape(20, 10, 3).permute(0, 2, 1)
    assert batch.features(channels).tolist() == pytest.approx([50.0, 3.0])


def test_features_that_do_not_vary_do_not_count() -> None:
    constant = torch.full((50, 3), 0.1)  # whose float32 mean is not 0.1
    constant[:, 0] = torch.linspace(1, 3, 50)
    scale, offset = batch.features(constant).tolist()
    assert math.isnan(scale) and offset == pytest.approx(2 / float(torch.linspace(1, 3, 50).std(correction=0)), 1e-5)
    assert all(map(math.isnan, batch.features(torch.ones(5, 3)).tolist()))


def test_spread_over_the_batch() -> None:
    output = torch.randn(12, 4, 3)
    stds = output.double().numpy().std(axis=0, ddof=1)
    assert float(batch.spread_over_batch(output)) == pytest.approx(math.sqrt((stds**2).mean()))
    assert float(batch.spread_over_batch(torch.randn(1, 9).expand(5, 9))) == 0
    assert batch.spread_over_batch(torch.randn(1, 9)) is None and batch.spread_over_batch(torch.tensor(1.0)) is None
    large = torch.randn(6000, 40)
    assert float(batch.spread_over_batch(large)) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rows_that_sum_to_one(kind: torch.dtype) -> None:
    scores = (torch.randn(64, 30) * 4).to(kind)
    assert float(batch.sums_to_one(scores.softmax(1), 1)) == 1 and float(batch.sums_to_one(scores.softmax(0), 0)) == 1
    assert float(batch.sums_to_one(scores.softmax(0), 1)) < 0.1
    assert float(batch.sums_to_one(scores.log_softmax(1), 1, logarithms=True)) == 1
    assert batch.sums_to_one(scores[:, :1], 1) is None and batch.sums_to_one(scores[0], 0) is None
    signed = torch.tensor([[2.0, -1.0], [0.5, 0.5]])
    assert float(batch.sums_to_one(signed, 1)) == 0.5


def test_fingerprints_tell_batches_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(8, 30, generator=generator)
    order = torch.arange(8)
    order[:2] = torch.tensor([1, 0])
    nudged = first.clone()
    nudged[3, 7] += 1e-3
    seen = batch.Fingerprints()

    def repeated(tensor: Tensor) -> bool:
        return seen.is_repeated(tuple(tensor.shape), batch.fingerprint(tensor).tolist())

    assert not repeated(first) and repeated(first.clone())
    assert not repeated(first[order]) and not repeated(nudged) and not repeated(first.reshape(30, 8))
    tokens = torch.randint(50_000, (4, 100), generator=generator)
    assert not repeated(tokens) and repeated(tokens) and not repeated(tokens.flip(0))


def test_fingerprints_are_kept_in_a_bounded_number() -> None:
    seen = batch.Fingerprints()
    for number in range(batch.REMEMBERED + 1):
        assert not seen.is_repeated((1,), (float(number),))
    assert seen.is_repeated((1,), (2.0,)) and not seen.is_repeated((1,), (0.0,))


def test_a_table_keeps_one_dimension_whole() -> None:
    tensor = torch.arange(6 * 500 * 4).reshape(6, 500, 4).float()
    whole = table(tensor, 0, 10**6)
    assert torch.equal(whole, tensor.reshape(6, -1).t().double())
    part = table(tensor, 1, 3000)
    assert part.shape[1] == 500 and 500 <= part.numel() <= 3000
    assert thin(torch.zeros(4, 5), 1).numel() == 1 and table(torch.zeros(7), 0, 2).shape == (1, 7)


def test_the_first_tensor_of_inputs_and_outputs() -> None:
    class Output(OrderedDict):  # as transformers has it: a mapping whose values are attributes as well
        def __init__(self, **values: object) -> None:
            super().__init__(values)
            self.__dict__.update(values)

    class Plain:
        def __init__(self, logits: Tensor) -> None:
            self.logits = logits

        @property
        def lazy(self) -> Tensor:
            raise AssertionError("a property of the user's was run")

    loss, logits, ids = torch.tensor(1.0), torch.randn(2, 3), torch.tensor([[1, 2]])
    assert find_tensor(Output(loss=loss, logits=logits), floating=True) is logits
    assert find_tensor(Plain(logits), floating=True) is logits
    assert find_tensor({"loss": loss, "logits": logits}, floating=True) is logits
    assert find_tensor(((ids, None), {"mask": logits}), floating=False) is ids
    assert find_tensor(((ids, None), {"mask": logits}), floating=True) is logits
    lazy = torch.distributions.Categorical(probs=torch.tensor([0.5, 0.5]))
    assert find_tensor(lazy, floating=True) is None and "logits" not in lazy.__dict__
    nothing = ["text", 3, None, torch.empty(0), torch.ones(2, device="meta"), torch.eye(2).to_sparse()]
    assert find_tensor(nothing, floating=False) is None


def test_targets_that_are_the_next_token() -> None:
    text = torch.randint(0, 50, (4, 9), generator=torch.Generator().manual_seed(0))
    tokens, shifted = text[:, :-1], text[:, 1:]
    told = [next_share(tokens, shifted), next_share(tokens, shifted.flatten()), next_share(text, shifted.flatten())]
    assert all(share is not None and float(share) == 1 for share in told)
    ignored = shifted.clone()
    ignored[:, ::2] = -100
    share = next_share(tokens, ignored)
    assert share is not None and float(share) == 1
    own = next_share(tokens, tokens)
    expected = (tokens[:, :-1] == tokens[:, 1:]).numpy().mean()
    assert own is not None and float(own) == pytest.approx(expected)
    assert next_share(tokens, torch.zeros(4, dtype=torch.long)) is None
    assert next_share(tokens, shifted.float()) is None
    assert next_share(tokens[0], shifted) is None


def test_targets_that_are_the_tokens_themselves() -> None:
    text = torch.randint(1, 50, (4, 9), generator=torch.Generator().manual_seed(0))
    tokens, shifted = text[:, :-1], text[:, 1:]

    def told(target: Tensor, ignored: int = -100, given: Tensor = tokens) -> float | None:
        share = same_share(given, target, ignored)
        return None if share is None else float(share)

    assert told(tokens) == told(tokens.flatten()) == told(tokens.int()) == told(tokens, given=tokens.int()) == 1
    assert told(shifted) == pytest.approx((tokens == shifted).numpy().mean())
    for ignored in (-100, 0):
        padded = tokens.clone()
        padded[:, 6:] = ignored
        assert told(padded, ignored) == 1
        padded[0, 0] += 1
        assert told(padded, ignored) == pytest.approx(23 / 24)
    labels = torch.where(torch.arange(8) % 4 < 3, tokens, -100)
    assert told(labels, given=labels) == 0  # no embedding takes them
    nothing = torch.full_like(tokens, -100)
    assert math.isnan(told(nothing)) and math.isnan(told(torch.ones_like(tokens), given=torch.ones_like(tokens)))
    assert told(tokens[:, 1:]) is told(tokens.float()) is told(tokens[0], given=tokens[0]) is None


@pytest.mark.parametrize(("length", "enough"), [(16, False), (17, True)])
def test_a_few_tokens_may_be_alike_by_chance(length: int, enough: bool) -> None:
    tokens = torch.arange(length)[None]
    share = same_share(tokens, tokens.clone(), -100)
    assert share is not None and math.isfinite(float(share)) is enough
