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


def find_runs(folder: str, links: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yields every run directory in a folder, the folder itself included, sorted by name.

    Hidden folders and those that may not be read are skipped, and no run directory is searched for
    others.

    Args:
        folder: the folder.
        links: real paths of the symbolic links on the way to it, which are followed once.
    """
    if os.path.exists(os.path.join(folder, CONFIG)):
        yield folder
        return
    try:
        with os.scandir(folder) as entries:
            folders = sorted((e.name, e.is_symlink()) for e in entries if _is_searched(e))
    except PermissionError:  # another user's
        return
    for name, is_link in folders:
        path = os.path.join(folder, name)
        if not is_link:
            yield from find_runs(path, links)
        elif (real := os.path.realpath(path)) not in links and not _is_above(real, folder):
            yield from find_runs(path, links | {real})


def _is_above(real: str, folder: str) -> bool:
    """Returns whether a link from ``folder`` to ``real`` leads round in a circle."""
    return os.path.commonpath([real, os.path.realpath(folder)]) == real


def _is_searched(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and not entry.name.startswith(".") and entry.name not in SKIPPED


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
    if place.startswith("zoo:"):
        raise UserError(
            f"{place!r} names a policy; give the folder of its records, as in "
            f"results/{place.removeprefix('zoo:')}"
        )
    if glob.has_magic(place):
        return [path for path in sorted(glob.glob(place, recursive=True)) if os.path.isdir(path)]
    raise UserError(
        f"run directory {place!r} does not exist; 'marl list runs' shows those in runs/"
    )
