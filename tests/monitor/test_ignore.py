"""Findings that the user ignores, from `watch` to the page."""

import pytest
import torch
from torch import nn

import auscult
from auscult.core.errors import SetupError
from auscult.pages.terminal import findings_text
from auscult.reading import examine


def train(path, ignore=()):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with auscult.watch(model, optimizer, path, every=1, ignore=ignore) as monitor:
        for _ in range(20):
            loss = (model(torch.randn(8, 4)) * float("nan")).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    return monitor


def test_what_is_ignored_is_kept_with_the_run_and_not_told_live_or_later(tmp_path):
    told = train(tmp_path / "told")
    assert "L001" in [each.code for each in told.findings]
    silent = train(tmp_path / "silent", ["L001:*"])
    assert "L001" not in [each.code for each in silent.findings]
    run = auscult.load(silent.path)
    assert run.segments[-1].ignore == ("L001:*",)
    findings, ignored = examine(run)
    assert findings == auscult.diagnose(run) == silent.findings
    assert [(each.finding.code, each.pattern) for each in ignored] == [("L001", "L001:*")]
    page = auscult.report(run, tmp_path / "page.html", sound=False).read_text(encoding="utf-8")
    assert "1 finding ignored by L001:*." in page
    assert len(findings_text(run, findings, ["L001:*"]).renderables) > len(findings_text(run, findings).renderables)
    assert "L001" not in [each.code for each in auscult.diagnose(auscult.load(told.path), ignore=["non-finite"])]


@pytest.mark.parametrize("wrong", ["L001", ["nothing"], ["L001:"]])
def test_a_malformed_pattern_is_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(SetupError, match="ignore"):
        train(tmp_path / "run", wrong)
    assert not (tmp_path / "run").exists()
