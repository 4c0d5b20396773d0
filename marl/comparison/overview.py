"""What a run directory says about its run in brief: ``config.json`` and the ends of small files."""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marl.errors import UserError
from marl.launch.progress import whole_iterations
from marl.training import run_outcome
from marl.training.run_outcome import FINISHED, KILLED, RUNNING, STOPPED
from marl.utils.files import LOCK, Lock, Taken
from marl.utils.jsonl import last_line, read_json
from marl.utils.moved import current
from marl.utils.serialization import TYPE
from marl.utils.usual import with_usual
from marl.utils.versions import learning

UNNAMED = "unnamed"
# What reading a damaged file may raise.
WRONG = (OSError, LookupError, TypeError, AttributeError, ValueError, RecursionError,
         ArithmeticError)  # fmt: skip


@dataclass(frozen=True)
class Overview:
    """A run in brief."""

    #: Its directory.
    directory: Path
    #: Content of its ``config.json``.
    config: Mapping[str, Any]
    #: Frames played so far.
    frames: int
    #: Frames in all, in whole iterations.
    total: int
    #: Mean return of the last evaluation, by team; empty before the first one.
    returns: Mapping[str, float]
    #: One of ``marl.training.run_outcome.STATES``.
    state: str
    #: The error of a run that diverged or failed; empty for others.
    why: str
    #: When it was made, ``2026-11-28T05:38:03+0000``.
    started: str

    @property
    def task(self) -> str:
        """Name of the task; ``unnamed`` where a Python function without a name made it."""
        return str((self.config["task"] or {}).get("name", UNNAMED))

    @property
    def seed(self) -> int:
        """Seed of the run."""
        return int(self.config["settings"]["seed"])

    @property
    def learning(self) -> int:
        """Version of learning (``marl.utils.versions``)."""
        return learning(self.config)

    @property
    def algorithms(self) -> dict[str, str]:
        """Names of the algorithms, by team."""
        return {name: class_name(team["algorithm"]) for name, team in self.config["teams"].items()}

    @property
    def algorithm(self) -> str:
        """Name of the algorithm; where teams have several, ``adversary mappo, agent random``."""
        names = self.algorithms
        if len(set(names.values())) == 1:
            return next(iter(names.values()))
        return ", ".join(f"{team} {name}" for team, name in names.items())


def class_name(config: Mapping[str, Any]) -> str:
    """Returns the short name of a stored configuration's class: ``mappo`` of ``MAPPOConfig``."""
    module, _, name = current(str(config[TYPE])).rpartition(":")
    return re.sub(r"Config$", "", name).lower() or module.rpartition(".")[2]


def read(directory: Path) -> Overview:
    """Returns a run in brief.

    Raises:
        UserError: its configuration cannot be read.
    """
    try:
        config = with_usual(json.loads((directory / "config.json").read_bytes()))
        settings = config["settings"]
        iteration = settings.get("num_envs", 1) * settings.get("steps", 1)
        total = whole_iterations(settings["total_frames"], iteration)
        evaluation = last_line(directory / "evaluations.jsonl", 1 << 14) or {}
        returns = {name: sum(x) / len(x) for name, x in evaluation.get("returns", {}).items()}
        timing = last_line(directory / "timing.jsonl", 512) or {}
        frames = max(timing.get("frames", 0), evaluation.get("frames", 0))
        state, why = _state(directory, settings, frames, evaluation.get("frames", -1))
        run = Overview(directory, config, frames, total, returns, state, why, _started(directory))
        _ = run.task, run.seed, run.algorithm, run.learning  # of their types
        return run
    except WRONG as error:
        reason = f"{type(error).__name__} {error}"
        raise UserError(
            f"{str(directory)!r} is not what a run writes ({reason}); move it away, or restore it"
        ) from None


def _state(
    directory: Path, settings: Mapping[str, Any], frames: int, evaluated: int
) -> tuple[str, str]:
    """Returns the state of a run, and why it ended so.

    Runs of versions that did not write it are judged by their other files.
    """
    if _is_locked(directory):
        return RUNNING, ""
    state, why = run_outcome.read(directory)
    if state:
        return (KILLED, "") if state == RUNNING else (state, why)
    measured = not settings.get("absolute_episodes") or (directory / "absolute.json").exists()
    if evaluated >= settings["total_frames"] and measured:
        return FINISHED, ""
    saved = (directory / "checkpoints" / f"frames-{frames:012d}.pt").exists()
    return (STOPPED if saved else KILLED), ""


def _is_locked(directory: Path) -> bool:
    """Returns whether a process trains in the directory."""
    if not os.path.exists(directory / LOCK):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a file system without locks, where nobody can tell
            Lock(directory).check()
    except Taken:
        return True
    return False


def _started(directory: Path) -> str:
    """Returns when a run was made; without provenance, when its configuration was written."""
    provenance = read_json(directory / "provenance.json")
    if isinstance(provenance, dict) and isinstance(provenance.get("started"), str):
        return provenance["started"]
    when = os.path.getmtime(directory / "config.json")
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(when))
