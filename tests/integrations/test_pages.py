"""The code in docs/integrations and examples/ runs as it stands, offline, and leaves a run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import auscult

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "integrations").glob("*.md"))
MADE = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
inputs = torch.randn(240, 8)
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(inputs, (inputs.sum(1) > 0).long()), batch_size=12
)
loss_fn = nn.CrossEntropyLoss()
"""
MADE_FOR = {
    "lightning": """
from lightning.pytorch import LightningModule
class Lit(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = model
    def training_step(self, batch, index):
        return loss_fn(self.net(batch[0]), batch[1])
    def configure_optimizers(self):
        return optimizer
module = Lit()
""",
    "transformers": """
from transformers import GPT2Config, GPT2LMHeadModel
model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=16, n_layer=1, n_head=2))
dataset = [{"input_ids": ids, "labels": ids} for ids in torch.randint(0, 50, (64, 12))]
""",
}


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    quiet = {"WANDB_MODE": "offline", "TRACKIO_DIR": str(folder / "trackio"), "HF_HUB_OFFLINE": "1"}
    paths = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **quiet, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "could not go on" not in done.stderr and "auscult: sink" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    assert all(len(line) <= 120 for line in code.splitlines())
    run(["-c", MADE + MADE_FOR.get(page.stem, "") + code], tmp_path)
    if page.stem != "README":
        (path,) = (each for each in (tmp_path / "runs").iterdir())
        assert len(auscult.load(path).steps) in (10, 20) and auscult.load(path).finished


def test_every_tool_has_its_page() -> None:
    named = {each.stem for each in (ROOT / "src" / "auscult" / "integrations").glob("*.py")}
    inner = {"__init__", "draws", "excerpt", "logger", "marks", "outbox", "required", "selection", "tracker", "values"}
    assert named - inner == {each.stem for each in PAGES} - {"README", "accelerate", "pytorch"}


def test_the_plain_example_stops_and_goes_on(tmp_path: Path) -> None:
    for steps in ("40", "80"):
        run([str(ROOT / "examples" / "plain.py"), "--out", "run", "--steps", steps], tmp_path)
    found = auscult.load(tmp_path / "run")
    assert found.series("loss").steps.tolist() == list(range(80))
    assert [each.step for each in found.segments] == [0, 40]


@pytest.mark.parametrize("tool", ["tensorboard", "wandb", "comet"])
def test_a_script_that_closes_nothing_loses_nothing(tool: str, tmp_path: Path) -> None:
    from tests.integrations.conftest import READERS

    code = """
import sys
from pathlib import Path
from tests.integrations.conftest import Training, sink_of, watched
training = Training()
monitor = watched(training, Path("run"), [sink_of(sys.argv[1], Path.cwd(), files=False)])
training.run(range(10), monitor)
"""
    run(["-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", tool], tmp_path)
    assert [step for step, _ in READERS[tool](tmp_path)["loss"]] == list(range(10))
