"""Where and with what a run was made: versions, host, devices, seed, commit, command."""

import dataclasses
import math
import os
import platform
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from auscult.core.run import RunInfo
from auscult.core.version import __version__

FORMAT_VERSION = 1
DEEPEST = 20
"""Levels of a config that are kept; one that contains itself has no last one."""


def run_info(name: str, config: object) -> RunInfo:
    """Describe the run that begins now.

    Args:
        name: Its name.
        config: The user's hyperparameters: a mapping, a dataclass, an argparse namespace, or None.
    """
    return RunInfo(
        id=uuid.uuid4().hex,
        name=name,
        created=time.time(),
        format_version=FORMAT_VERSION,
        config=plain_config(config),
        command=tuple(sys.argv),
        seed=torch.initial_seed(),
        git_commit=_git_commit(),
        versions=versions(),
        host=socket.gethostname(),
        devices=_devices(),
        world_size=dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1,
    )


def versions() -> dict[str, str]:
    """Versions of what produced the numbers."""
    return {
        "auscult": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }


def plain_config(config: object) -> dict[str, Any]:
    """A config as JSON types; what JSON does not know is kept as its `repr`."""
    if config is None:
        return {}
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    if not isinstance(config, Mapping):
        config = vars(config) if hasattr(config, "__dict__") else {"config": config}
    return {str(key): _plain(value) for key, value in config.items()}


def resident_bytes() -> float:
    """Resident set size of this process in bytes; NaN where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return math.nan
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def _plain(value: object, depth: int = 0) -> Any:
    if isinstance(value, (Mapping, list, tuple)) and depth >= DEEPEST:
        return "..."
    if isinstance(value, Mapping):
        return {str(key): _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return repr(value)[:1000]


def _devices() -> tuple[str, ...]:
    if torch.cuda.is_available():
        return tuple(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
    return (platform.processor() or platform.machine(),)


def _git_commit() -> str | None:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
