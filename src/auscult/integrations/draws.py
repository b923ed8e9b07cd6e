"""Draws: what a tracker draws at random, from generators of its own; a training draws what it would have drawn.

Some packages draw from Python's `random` while they are imported; others, and what they send with, draw whenever a
server does not answer, to wait for a time that varies, and do so on threads of their own.
"""

import random
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import module_from_spec
from types import BuiltinMethodType, MethodType
from typing import Any

import numpy as np
import torch

SHARED = frozenset({"urllib3", "sentry_sdk"})
"""Packages that trackers send with."""


@contextmanager
def kept() -> Generator[None]:
    """In the body anything may be drawn on this thread; afterwards all states are what they were."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  (the user's)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002  (the user's)
        torch.set_rng_state(states[2])


def set_apart(package: str) -> None:
    """From now on the modules of a package that are loaded, and of `SHARED`, draw from a second copy of `random`.

    Their users, who draw by the name `random` of their own module, notice nothing of it.
    """
    names = SHARED | {package.partition(".")[0]}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in names:
            for key, value in list(vars(module).items()):
                if value is random:
                    setattr(module, key, _COPY)
                elif type(value) in (MethodType, BuiltinMethodType) and value.__self__ is _HIDDEN:
                    setattr(module, key, getattr(_COPY, value.__name__))


def _copied() -> Any:
    spec = random.__spec__
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_HIDDEN: Any = getattr(random.random, "__self__", None)
"""The generator behind the functions of `random`."""
_COPY = _copied()
