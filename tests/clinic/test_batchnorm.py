"""BatchNorm against torch's, whose normalisation by the biased variance differs by a known factor; folding on a network
that has been trained."""

import pytest
import torch
from torch import nn

from auscult.clinic.batchnorm import BatchNorm, folded
from auscult.clinic.makemore import Linear
from auscult.clinic.sandwich import RECIPES, Sandwich, folding_error


def test_it_is_torchs_but_for_the_unbiased_variance() -> None:
    torch.manual_seed(0)
    mine, torchs = BatchNorm(5).double(), nn.BatchNorm1d(5).double()
    for _ in range(20):
        inputs = 3 * torch.randn(8, 5, dtype=torch.float64) + 1
        expected = torchs(inputs)
        correction = torch.sqrt((inputs.var(0, correction=0) + 1e-5) / (inputs.var(0) + 1e-5))
        torch.testing.assert_close(mine(inputs), expected * correction, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mine.running_mean, torchs.running_mean)  # torch's running variance is unbiased too
    torch.testing.assert_close(mine.running_var, torchs.running_var)
    inputs = torch.randn(4, 5, dtype=torch.float64)
    torch.testing.assert_close(mine.eval()(inputs), torchs.eval()(inputs))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_folding_is_exact(bias, dtype, bound) -> None:
    generator = torch.Generator().manual_seed(0)
    model = Sandwich(27, RECIPES["folding"], generator)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(50):
        contexts, targets = (torch.randint(27, shape, generator=generator) for shape in ((32, 3), (32,)))
        loss = nn.functional.cross_entropy(model(contexts), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if not bias:
        for layer in model.layers:
            if isinstance(layer, Linear):
                layer.bias = None
    contexts = torch.randint(27, (1000, 3), generator=generator)
    assert 0 < folding_error(model, contexts, dtype) <= bound
    kinds = [type(each) for each in folded(model.layers)]
    assert kinds == [Linear, nn.Tanh, Linear, nn.Tanh, Linear]


def test_folding_what_is_not_folded_would_be_seen() -> None:
    model = Sandwich(27, RECIPES["folding"], torch.Generator().manual_seed(0)).eval()
    contexts = torch.randint(27, (10, 3))
    plain = nn.Sequential(*(each for each in model.layers if not isinstance(each, BatchNorm)))
    with torch.no_grad():
        inputs = model.embedding(contexts)
        assert (plain(inputs) - model.layers(inputs)).abs().max() > 0.1
