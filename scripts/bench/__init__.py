"""Bench: what monitoring costs on this machine, beside what a user would take instead; `python -m scripts.bench`."""
