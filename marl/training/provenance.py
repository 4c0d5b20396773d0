"""Where, when and with what a run was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from marl.utils import distributed

PACKAGES = (
    "torch",
    "numpy",
    "vmas",
    "pettingzoo",
    "mpe2",
    "torch-geometric",
    "hydra-core",
    "wandb",
)


def provenance(directory: Path | None = None) -> dict[str, Any]:
    """Versions, commit, hardware and command: what a figure needs beside it; and where it was."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed[package] = None
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "directory": None if directory is None else str(directory.absolute()),
        "commit": git_commit(),
        "python": platform.python_version(),
        "packages": installed,
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ranks": distributed.SIZE,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def git_commit() -> str | None:
    """The commit of the source tree, with ``+dirty`` where it has changes; None outside of one."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+dirty" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(where: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=where, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
