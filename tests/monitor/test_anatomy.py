"""The inside of the first training pass, and of normalisation on sampled steps, through `watch`."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import auscult
from auscult.core.anatomy import Feed


def train(model: nn.Module, path, steps: int = 3, every: tuple[int, int] = (1, 1)) -> "auscult.Run":
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, path, every=every) as monitor:
        for _ in range(steps):
            functional.cross_entropy(model(torch.randn(16, 8)), torch.randint(4, (16,))).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert monitor.failures == []
    return auscult.load(path)


def test_the_run_says_which_module_feeds_which_and_what_sums_to_one(tmp_path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4), nn.Softmax(-1))
    anatomy = train(model, tmp_path / "run").anatomy
    assert anatomy is not None and anatomy.step == 0
    assert anatomy.feeds == (Feed("0", "1"), Feed("1", "2"))
    assert anatomy.sums_to_one == ("2",)


def test_statistics_of_batch_normalisation(tmp_path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, momentum=0.5), nn.ReLU(), nn.Linear(16, 4))
    run = train(model, tmp_path / "run", steps=9, every=(1, 4))
    shift, scale = run.series("statistics_shift", "1"), run.series("statistics_scale", "1")
    assert shift.steps.tolist() == scale.steps.tolist() == [0, 4, 8]
    assert scale.at(8) == pytest.approx(1.0, abs=0.5) and shift.at(8) < 0.5
    assert run.paths("statistics_shift") == ("1",)


class Attending(nn.Module):
    """Attention by each of its ways, normalisation, dropout, and a loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 16)
        self.norm = nn.BatchNorm1d(16)
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.qkv = nn.Linear(16, 48)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(16, 11)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.embed(tokens).mT).mT
        hidden = self.layer(hidden, src_mask=torch.ones(9, 9).triu(1).bool())
        query, key, value = self.qkv(hidden).chunk(3, -1)
        hidden = hidden + functional.scaled_dot_product_attention(query, key, value, dropout_p=0.1, is_causal=True)
        weights = self.drop(torch.softmax(query @ key.mT / 4, -1))
        logits = self.head(hidden + weights @ value)
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def attend(path) -> list[torch.Tensor]:
    torch.manual_seed(5)
    model = Attending()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    monitor = None if path is None else auscult.watch(model, optimizer, path, every=(1, 2))
    seen = []
    for _ in range(6):
        loss = model(torch.randint(11, (4, 9)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.detach())
    if monitor is not None:
        monitor.close()
        assert monitor.failures == []
    return [*seen, *model.state_dict().values(), torch.get_rng_state()]


def test_a_transformer_trains_the_same_to_the_bit(tmp_path) -> None:
    bare, watched = attend(None), attend(tmp_path / "run")
    assert all(torch.equal(a, b) for a, b in zip(bare, watched, strict=True))
    run = auscult.load(tmp_path / "run")
    assert set(run.paths("attention_entropy")) == {"layer.self_attn", ""}
    assert run.series("attention_entropy", "layer.self_attn").steps.tolist() == [0, 2, 4]
    assert run.series("attention_ahead", "layer.self_attn").at(4) == 0.0
    assert 0.1 < run.series("attention_ahead", "").at(4) < 0.3  # of two, one looks ahead
    assert run.audit is not None and run.audit.loss == "cross_entropy"  # called inside of the model


def test_attention_is_told_by_the_paths_of_its_blocks(tmp_path) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 8, 0.0, batch_first=True)
    blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    model = nn.Sequential(nn.Linear(8, 8), blocks, nn.Flatten(), nn.Linear(40, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, tmp_path / "run") as monitor:
        for _ in range(2):
            model(torch.randn(6, 5, 8)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            model.eval()
            with torch.no_grad():
                model(torch.randn(6, 5, 8))
            model.train()
    run = auscult.load(monitor.path)
    assert run.paths("attention_entropy") == ("1.layers.0.self_attn", "1.layers.1.self_attn")
