"""The pack against float64, tensor by tensor."""

import numpy as np
import pytest
import torch

from auscult.metrics.pack import LARGEST, Pack, fits


def test_norms_of_every_place(monkeypatch) -> None:
    shapes = [torch.Size(each) for each in ((1,), (), (511,), (512,), (513,), (30, 40), (100, 100), (2, 3, 5))]
    tensors = [torch.randn(shape, generator=torch.Generator().manual_seed(n)) for n, shape in enumerate(shapes)]
    tensors[4] *= 1e-25
    tensors[5] *= 1e25
    for fused in (True, False):
        if not fused:
            monkeypatch.delattr(torch, "_foreach_copy_")
        pack = Pack(shapes)
        pack.load(range(len(shapes)), tensors)
        exact = [float(np.linalg.norm(each.double().numpy().ravel())) for each in tensors]
        np.testing.assert_allclose(pack.norms(range(len(shapes))), exact, rtol=1e-6)
        np.testing.assert_allclose(pack.norms([6, 0]), [exact[6], exact[0]], rtol=1e-6)


def test_a_nan_stays_in_its_place() -> None:
    pack = Pack([torch.Size((600,)), torch.Size((600,))])
    bad = torch.ones(600)
    bad[599] = torch.nan
    pack.load([0, 1], [bad, torch.ones(600)])
    found = pack.norms([0, 1])
    assert np.isnan(found[0]) and found[1] == pytest.approx(600**0.5)
    bad[599] = -torch.inf
    pack.load([0], [bad])
    assert pack.norms([0]).tolist() == [np.inf]


def test_transposed_tensors_are_loaded_in_their_shape() -> None:
    tensor = torch.arange(12.0).view(3, 4).t()
    pack = Pack([tensor.shape])
    pack.load([0], [tensor])
    assert torch.equal(pack.places[0], tensor)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (torch.zeros(3), True),
        (torch.zeros(0), False),
        (torch.zeros(LARGEST + 1), False),
        (torch.zeros(3, dtype=torch.float64), False),
        (torch.zeros(3, device="meta"), False),
        (torch.sparse_coo_tensor([[0]], [1.0], (3,), check_invariants=False), False),
    ],
)
def test_what_fits(tensor: torch.Tensor, expected: bool) -> None:
    assert fits(tensor) == expected
