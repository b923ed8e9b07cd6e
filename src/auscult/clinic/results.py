"""Results: trials on disk, one JSON object a line, so that a long round goes on where it was stopped.

The first line says which commit made them; trials of another one are another doctor's.
"""

import json
from pathlib import Path

from auscult.clinic.trial import Trial, Variant
from auscult.core.errors import SetupError

Key = tuple[str, Variant, int]


class Results:
    """A file of trials that grows.

    Attributes:
        path: The file; None keeps nothing.
        trials: Those in it, by case, variant and seed.
    """

    def __init__(self, path: Path | None, commit: str) -> None:
        """Open a file, or begin one.

        Args:
            path: The file; None keeps nothing.
            commit: What makes the trials.

        Raises:
            SetupError: if the file is of another commit, or is none of trials.
        """
        self.path = path
        self.trials: dict[Key, Trial] = {}
        if path is None:
            return
        if path.exists():
            self._read(path, commit)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"commit": commit}) + "\n", encoding="utf-8")

    def add(self, trial: Trial) -> None:
        """Keep one trial more."""
        self.trials[trial.key] = trial
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(trial.to_dict()) + "\n")

    def _read(self, path: Path, commit: str) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        try:
            made_by = json.loads(lines[0])["commit"]
            found = [Trial.from_dict(json.loads(line)) for line in lines[1:]]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise SetupError(
                f"Expected a file of trials, but got {str(path)!r}, which cannot be read ({error}). "
                "A round that was killed may have cut its last line: delete that line, or the file."
            ) from None
        if made_by != commit:
            raise SetupError(
                f"Expected trials of commit {commit}, but {str(path)!r} holds those of {made_by}. Write --results with "
                "another file, or delete this one."
            )
        self.trials = {each.key: each for each in found}
