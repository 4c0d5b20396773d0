"""A run's directory: claimed by one run, made ready for one process."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from marl.errors import UserError
from marl.training import absolute_metric, provenance, run_directory
from marl.training.checkpoint import Checkpoints
from marl.training.logging import IDENTITY
from marl.training.settings import Settings
from marl.utils import trust
from marl.utils.files import LOCK, Lock, Taken, explain_errors, unfinished_writes
from marl.utils.jsonl import read_jsonl
from marl.utils.serialization import to_plain
from marl.utils.trust import SIGNATURE

# What a process killed before it had a configuration leaves of a new run.
UNBORN = re.compile(
    rf"{re.escape(LOCK)}|{re.escape(SIGNATURE)}|provenance\.json"
    rf"|\.((config|provenance)\.json|{re.escape(SIGNATURE)})\.\d+\.tmp"
)
# Files of a run that a killed write may leave half.
LEFT = (r"(config|random|absolute)\.json", r"curve\.png", IDENTITY, re.escape(SIGNATURE))
CHECKPOINTED = ".checkpointed"  # a file in runs that ever had a checkpoint to continue from


def create(directory: Path, config: Mapping[str, Any], numbered: bool = False) -> Path:
    """Makes a run directory with its provenance and, last, its configuration. Of several processes
    that want the same directory one gets it.

    Args:
        numbered: where the directory is taken, takes the first that is free of ``<directory>-2``,
            ``<directory>-3`` and so on.

    Returns:
        The directory.

    Raises:
        Taken: the directory holds something already, or another process is at it.
        UserError: nothing can be written there.
    """
    for number in count(1):
        path = directory if number == 1 else directory.with_name(f"{directory.name}-{number}")
        try:
            with explain_errors(path):
                _create(path, config)
            return path
        except Taken:
            if not numbered:
                raise
    raise AssertionError("numbers do not end")


def _create(directory: Path, config: Mapping[str, Any]) -> None:
    _check_unused(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with Lock(directory).hold():
        _check_unused(directory)  # now that nobody else can begin to use it
        run_directory.write_json(directory / "provenance.json", provenance.provenance(directory))
        _write_config(directory, to_plain(config), sign=True)


def _write_config(directory: Path, config: Mapping[str, Any], sign: bool) -> None:
    """Writes a configuration, after the signature that tells that it is this user's."""
    if sign:
        trust.sign(directory, config)
    run_directory.write_json(directory / "config.json", config)
    if sign:
        trust.forget_older(directory)


def _check_unused(directory: Path) -> None:
    """Raises Taken where there is anything but what a run that never began left."""
    if not directory.exists():
        return
    if not directory.is_dir() or not all(UNBORN.fullmatch(p.name) for p in directory.iterdir()):
        raise Taken(
            f"{str(directory)!r} is not empty; choose another directory, or continue it with "
            f"'marl resume {directory}'"
        )


def change_settings(directory: Path, changes: Mapping[str, Any]) -> None:
    """Writes the settings of ``changes`` to the run's configuration, which stays as it is else, and
    this user's if it was."""
    config = json.loads((directory / "config.json").read_text())
    signed = trust.signed(directory, config)
    config["settings"].update(to_plain(changes))
    _write_config(directory, config, signed)


def check_unstarted(directory: Path, settings: Settings) -> None:
    """Checks that a run without checkpoints to continue from never had one.

    Raises:
        UserError: it had, so that it cannot go on, and to begin anew would lose what it learned.
    """
    frames = max((r["frames"] for r in read_jsonl(directory / "metrics.jsonl")), default=0)
    due = frames - settings.frames_per_iteration >= settings.checkpoint_interval
    best = any((directory / "checkpoints").glob("best-*.pt"))
    older = best and not (directory / LOCK).exists()  # of a version that wrote the best last
    if due or older or (directory / CHECKPOINTED).exists():
        more = "; its best policies are there, for marl evaluate --best" if best else ""
        raise UserError(
            f"the checkpoints to continue {str(directory)!r} from are gone (it played {frames:,} "
            f"frames); put them back, or train anew in another directory{more}"
        )


def mark_checkpointed(directory: Path) -> None:
    """Notes that there is a checkpoint, so that a run whose checkpoints are gone is not begun
    anew."""
    if not (mark := directory / CHECKPOINTED).exists():
        mark.touch()


def begin(
    directory: Path, checkpoints: Checkpoints, ended: bool, changes: Mapping[str, Any]
) -> None:
    """Makes a directory ready for the process that has its lock: without what killed writes left
    and, where the run has not ``ended`` (any more), without what was measured and drawn of its
    end; with the ``changes`` of its settings."""
    checkpoints.clean()
    for path in unfinished_writes(directory, LEFT):
        path.unlink(missing_ok=True)
    if not ended:
        absolute_metric.forget(directory)
    if changes:
        change_settings(directory, changes)
    if checkpoints.last() is not None:
        mark_checkpointed(directory)
