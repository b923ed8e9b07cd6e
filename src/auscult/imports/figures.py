"""Figures: numbers as other tools write them into JSON, CSV and databases."""

from typing import Any

SPECIAL = {"nan", "inf", "-inf", "+inf", "infinity", "-infinity", "+infinity"}


def number_of(value: Any) -> float | None:
    """A JSON value as a float; None if it is no number. Booleans are none; `"NaN"` and `"Infinity"` are."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, str) and value.strip().lower() in SPECIAL:
        return float(value)
    return None


def number_in(text: str) -> float | None:
    """The number that a cell of a table holds; None if it is empty or holds something else."""
    try:
        return float(text) if text.strip() and "_" not in text else None
    except ValueError:
        return None


def step_in(value: Any) -> int | None:
    """A whole number that is no less than 0, from a number or a text; None if it is none."""
    number = number_in(value) if isinstance(value, str) else number_of(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value if 0 <= value < 1 << 62 else None
    if number is None or not 0 <= number < 2**53 or number != int(number):
        return None
    return int(number)


def kind_of(value: Any) -> str:
    """What a JSON value is that is no number, in a word."""
    return {"str": "text", "bool": "boolean", "dict": "mapping", "NoneType": "null"}.get(
        type(value).__name__, type(value).__name__
    )
