"""The tools write logs anew, and their own readers say what is in them; needs the tools."""

import pytest
from scripts import foreign_logs
from tests.imports.conftest import latest, merged
from tests.imports.test_values import channels_of, same

import auscult
from auscult.imports.importer import import_runs

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]

WRITERS = {
    "tensorboard": lambda folder: foreign_logs.write_tensorboard(folder / "tensorboard"),
    "wandb": foreign_logs.write_wandb,
    "mlflow.db": lambda folder: foreign_logs.write_mlflow(f"sqlite:///{folder}/mlflow.db"),
    "mlruns": lambda folder: foreign_logs.write_mlflow((folder / "mlruns").as_uri()),
    "transformers": foreign_logs.write_trainer_state,
}


@pytest.mark.parametrize("tool", WRITERS)
def test_what_the_tool_writes_now_is_read_exactly(tool, tmp_path) -> None:
    log = tmp_path / "log"
    log.mkdir()
    expected = merged({tool: WRITERS[tool](log)})[tool]
    source = log / {"transformers": "trainer", "wandb": "wandb"}.get(tool, tool)
    imported = import_runs(source, tmp_path / "run")
    assert len(imported) == len(expected)
    for each in imported:
        names = expected["." if each.name == "tensorboard" else each.name]
        run, channels = auscult.load(each.path), channels_of(each)
        for name, points in names.items():
            assert same(run, channels.get(name, (name, "")), *latest(points, tool == "mlflow.db")), name
