"""Required: the package without which a module cannot be imported, and what is said where it is not installed."""

from importlib import import_module
from typing import Any

from auscult.core.errors import MissingExtra


def required(module: str, title: str, install: str, purpose: str) -> Any:
    """A module of a package that the user has to install.

    Args:
        module: What is imported: `transformers.trainer_callback`.
        title: What messages call the package.
        install: What pip is to install.
        purpose: What needs it.

    Raises:
        MissingExtra: if the package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.partition(".")[0]):
            raise  # the package is there, and something that it needs itself is not
        raise MissingExtra(
            f"Expected {title} to be installed, which {purpose}, but it is not. Install it: pip install {install}"
        ) from None
