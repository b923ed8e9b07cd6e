from pathlib import Path

import numpy as np
import pytest

from auscult.imports.importer import import_runs

SECRET = "nobody may read this"


def write_run(path: Path, loss: np.ndarray, **columns: np.ndarray) -> Path:
    """A run with these numbers."""
    table = {"step": np.arange(len(loss)), "loss": loss, **columns}
    rows = zip(*(each.tolist() for each in table.values()), strict=True)
    file = path.parent / f"{path.name}.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join([",".join(table), *(",".join(map(repr, row)) for row in rows)]) + "\n")
    made = import_runs(file, path)[0].path
    file.unlink()
    return made


@pytest.fixture(scope="session")
def yard(tmp_path_factory) -> Path:
    """`inside` holds two runs, and links that lead out of it to a run and to parts of one; `outside` holds that run."""
    folder = tmp_path_factory.mktemp("yard")
    falling = np.exp(-np.arange(300) / 100)
    write_run(folder / "inside" / "healthy", falling, spike=np.where(np.arange(300) == 137, 1e6, 1.0))
    write_run(folder / "inside" / "deep" / "sick", np.where(np.arange(300) < 200, falling, np.nan))
    write_run(folder / "outside" / SECRET, falling)
    inside, outside = folder / "inside", folder / "outside"
    (outside / "secret.txt").write_text(SECRET)
    (inside / "linked").symlink_to(outside / SECRET)
    (inside / "linked-folder").symlink_to(outside)
    torn = write_run(inside / "torn", falling)
    (torn / "events.jsonl").unlink()
    (torn / "events.jsonl").symlink_to(outside / SECRET / "events.jsonl")
    patched = write_run(inside / "patched", falling)
    (patched / "user").rename(outside / "user")
    (patched / "user").symlink_to(outside / "user")
    return folder


ESCAPES = [
    "../outside/" + SECRET,
    "healthy/../../outside/" + SECRET,
    "linked",
    "linked-folder/" + SECRET,
    "torn",
    "patched",
    "/etc",
    "",
    ".",
    "..",
    "healthy/",
    "healthy\0",
    "~",
    "$HOME",
    "file:///etc/passwd",
    "deep",
]
