"""Which modules act differently in evaluation: each kind is asked what it computes in both modes."""

import pytest
import torch
from torch import nn

from auscult.metrics.modes import Modes

KINDS = {
    "dropout": (nn.Dropout(0.5), True),
    "dropout at 0": (nn.Dropout(0.0), False),
    "dropout of channels": (nn.Dropout1d(0.5), True),
    "alpha dropout": (nn.AlphaDropout(0.5), True),
    "batch norm": (nn.BatchNorm1d(6), True),
    "batch norm without statistics": (nn.BatchNorm1d(6, track_running_stats=False), False),
    "instance norm": (nn.InstanceNorm1d(6), False),
    "instance norm with statistics": (nn.InstanceNorm1d(6, track_running_stats=True), True),
    "layer norm": (nn.LayerNorm(4), False),
    "group norm": (nn.GroupNorm(2, 6), False),
    "recurrent": (nn.GRU(4, 3, num_layers=2), False),
    "recurrent with dropout": (nn.GRU(4, 3, num_layers=2, dropout=0.5), True),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore:dropout")
def test_a_kind_of_module_matters_if_its_output_does(name: str) -> None:
    module, expected = KINDS[name]
    inputs, outputs = torch.randn(5, 6, 4), []
    for training in (True, False):
        torch.manual_seed(0)
        output = module.train(training)(inputs)
        outputs.append(output[0] if isinstance(output, tuple) else output)
    assert torch.equal(*outputs) is not expected
    assert Modes(nn.Sequential(module)).matter() is expected


def test_share_in_evaluation() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.1), nn.BatchNorm1d(3), nn.Dropout(0.0))
    modes = Modes(model)
    assert modes.share_in_evaluation() == 0
    model[1].eval()
    assert modes.share_in_evaluation() == pytest.approx(1 / 3)
    assert Modes(nn.Linear(3, 3)).share_in_evaluation() is None
    model.eval()
    assert modes.share_in_evaluation() == 1
    model[4].p = 0.5
    model[4].train()
    assert modes.share_in_evaluation() == 3 / 4  # a rate may be set later
