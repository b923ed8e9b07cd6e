"""The names that the makemore cases train on: makemore's own where they are, and a few made up."""

import os
from pathlib import Path

import pytest

from auscult.clinic.names import Names, load_names

# The published figures come from MKL's AVX2 kernels; with wider ones, one of them differs in its last digit. MKL reads
# this at its first call, which no test has made yet.
os.environ.setdefault("MKL_CBWR", "AVX2")

MADE_UP = ["anna", "bea", "carl", "dora", "emil", "fay", "gus", "hanna", "ida", "jon", "kara", "lea", "mia", "nils"]


@pytest.fixture(scope="session")
def makemore_names() -> Names:
    """makemore's names.txt, which may not be distributed with this project."""
    path = Path(os.environ.get("AUSCULT_NAMES", "names.txt"))
    if not path.exists():
        pytest.skip(
            "NOT TESTED: the published figures. They need makemore's names.txt (github.com/karpathy/makemore), which "
            "may not be distributed with this project; set AUSCULT_NAMES to its path."
        )
    return load_names(path)


@pytest.fixture(scope="session")
def made_up_path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("names") / "names.txt"
    path.write_text("\n".join(MADE_UP) + "\n")
    return path


@pytest.fixture(scope="session")
def made_up_names(made_up_path) -> Names:
    return load_names(made_up_path)
