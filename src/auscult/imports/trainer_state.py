"""TrainerState: `trainer_state.json`, which the Trainer of Hugging Face transformers writes beside its checkpoints."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from auscult.core.errors import StoreError
from auscult.imports.account import Account
from auscult.imports.figures import kind_of, number_of, step_in
from auscult.imports.foreign import Point

NAME = "trainer_state.json"
SETTINGS = ("max_steps", "num_train_epochs", "train_batch_size", "logging_steps", "eval_steps", "save_steps")


def read_trainer_state(file: Path, account: Account) -> Iterator[Point]:
    """What the trainer logged: every entry of `log_history` at its `step`.

    Args:
        file: The file.
        account: Is told everything else.

    Raises:
        StoreError: if it is none, or an entry has no step and the account does not skip damage.
    """
    state = _read(file)
    account.trainer = "transformers"
    account.config.update({name: state[name] for name in SETTINGS if state.get(name) is not None})
    last, end = number_of(state.get("global_step")), number_of(state.get("max_steps"))
    if last is not None and end is not None and end > 0:
        account.state = "finished" if last >= end else "unknown"
    account.on_bytes(file.stat().st_size)
    for place, entry in enumerate(state["log_history"]):
        step = step_in(entry.get("step")) if isinstance(entry, dict) else None
        if step is None:
            account.report_damage(f"Expected entry {place} of `log_history` in {file} to have a step, but it has none.")
            continue
        for name, value in entry.items():
            number = number_of(value)
            if number is not None and name != "step":
                yield Point(name, step, number)
            elif number is None:
                account.left_out[kind_of(value)] += 1


def _read(file: Path) -> dict[str, Any]:
    try:
        state = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"Expected {file} to be JSON, but it is not ({error}). Was it cut off while the trainer wrote it? Take the "
            "one of an earlier checkpoint."
        ) from None
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise StoreError(
            f"Expected {file} to hold `log_history`, as the Trainer of transformers writes it, but it does not."
        )
    return state
