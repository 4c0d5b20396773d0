"""Provenance of a run: where, when and with what it was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import torch

from marl.utils import distributed

DISTRIBUTION = "marl-groups"  # name of this package as it is installed
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
    """Returns versions, commit, hardware, command and the absolute path of the run's directory."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "directory": None if directory is None else str(directory.absolute()),
        "commit": git_commit(),
        "python": platform.python_version(),
        "packages": versions,
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ranks": distributed.size(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def git_commit() -> str | None:
    """Returns the commit of this package, with ``+dirty`` if its source tree has changes.

    Of an installed package, whatever repository surrounds it, it is the version; None if neither is
    known.
    """
    root = Path(__file__).resolve().parents[2]
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel")).resolve() == root and _is_ours(root):
            commit = _git(root, "rev-parse", "HEAD")
            return commit + ("+dirty" if _git(root, "status", "--porcelain", "-uno") else "")
    except (OSError, ValueError, subprocess.SubprocessError):
        pass
    try:
        return f"{DISTRIBUTION} {importlib.metadata.version(DISTRIBUTION)}"
    except importlib.metadata.PackageNotFoundError:
        return None


def _is_ours(root: Path) -> bool:
    """Returns whether a repository is this project, and not another one with a copy of it."""
    project = tomllib.loads((root / "pyproject.toml").read_text()).get("project", {})
    return project.get("name") == DISTRIBUTION and bool(_git(root, "ls-files", "marl/__init__.py"))


def _git(folder: Path, *arguments: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    result = subprocess.run(
        ["git", *arguments],
        cwd=folder, capture_output=True, text=True, check=True, timeout=10, env=env,
    )  # fmt: skip
    return result.stdout.strip()


def processor() -> str:
    """Returns the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
