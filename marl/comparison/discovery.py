"""Run directories below folders: single runs, multiruns, sweeps and suites, at any depth."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from marl.errors import UserError

CONFIG = "config.json"  # the file that makes a folder a run directory
# Folders without runs in them, which may hold many files.
SKIPPED = ("checkpoints", "wandb", "tensorboard", "node_modules", "__pycache__")


def find_runs(folder: str) -> Iterator[str]:
    """Yields every run directory in a folder, the folder itself included, sorted by name.

    Hidden folders are skipped, and no run directory is searched for others.
    """
    if os.path.exists(os.path.join(folder, CONFIG)):
        yield folder
        return
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not _skipped(e.name))
    for name in names:
        yield from find_runs(os.path.join(folder, name))


def _skipped(name: str) -> bool:
    return name.startswith(".") or name in SKIPPED


def runs_of(places: Iterable[str]) -> list[Path]:
    """Returns the run directories that the words of a command name, each once.

    Args:
        places: run directories, folders with runs in them, or patterns such as ``runs/*seed?``.

    Raises:
        UserError: a place does not exist, or holds no run.
    """
    runs: dict[str, Path] = {}
    for place in places:
        before = len(runs)
        folders = _folders(place)
        for run in (run for folder in folders for run in find_runs(folder)):
            runs.setdefault(os.path.realpath(run), Path(run))
        if len(runs) == before and not any(True for folder in folders for _ in find_runs(folder)):
            raise UserError(
                f"{place!r} holds no run: there is no {CONFIG} in it or below it; 'marl list runs' "
                "shows those under runs/"
            )
    return list(runs.values())


def _folders(place: str) -> list[str]:
    """Returns the folders that a place stands for."""
    if os.path.isdir(place):
        return [place]
    if os.path.exists(place):
        raise UserError(f"{place!r} is a file; expected a run directory or a folder with runs")
    if glob.has_magic(place):
        return [path for path in sorted(glob.glob(place, recursive=True)) if os.path.isdir(path)]
    raise UserError(
        f"run directory {place!r} does not exist; 'marl list runs' shows those in runs/"
    )
