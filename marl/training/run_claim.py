"""Claims of run directories: each belongs to one run, and one process at a time trains in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from marl.errors import UserError
from marl.training import absolute_metric, provenance, run_directory, run_outcome
from marl.training.checkpoint import Checkpoints
from marl.training.logging import IDENTITY
from marl.training.settings import Settings
from marl.utils import trust
from marl.utils.files import LOCK, Lock, Taken, explain_errors, unfinished_writes
from marl.utils.jsonl import read_jsonl
from marl.utils.serialization import to_plain
from marl.utils.trust import SIGNATURE

# Files of a new run whose process was killed before it wrote a configuration.
UNSTARTED = re.compile(
    rf"{re.escape(LOCK)}|{re.escape(SIGNATURE)}|provenance\.json"
    rf"|\.((config|provenance)\.json|{re.escape(SIGNATURE)})\.\d+\.tmp"
)
# Files of a run that a killed process may leave incomplete, under temporary names.
INCOMPLETE = (
    r"(config|random|absolute|state)\.json",
    r"curve\.png",
    IDENTITY,
    re.escape(SIGNATURE),
)
CHECKPOINTED = ".checkpointed"  # a file in runs that ever had a checkpoint to resume from


def create(
    directory: Path,
    config: Mapping[str, Any],
    numbered: bool = False,
    start_from: Mapping[str, Any] | None = None,
) -> Path:
    """Makes a run directory with its provenance and, last, its configuration.

    Of several processes that claim the same directory one gets it.

    Args:
        directory: the directory.
        config: the run's configuration, as objects.
        numbered: if the directory is taken, claims the first free one of ``<directory>-2``,
            ``<directory>-3`` and so on.
        start_from: by team, where its first weights come from, for the provenance.

    Returns:
        The directory that was made.

    Raises:
        Taken: the directory is not empty, or another process claims it.
        UserError: the directory cannot be written to.
    """
    for number in count(1):
        path = directory if number == 1 else directory.with_name(f"{directory.name}-{number}")
        try:
            with explain_errors(path):
                _create(path, config, start_from)
            return path
        except Taken:
            if not numbered:
                raise
    raise AssertionError("unreachable: there is always a free number")


def _create(
    directory: Path, config: Mapping[str, Any], start_from: Mapping[str, Any] | None
) -> None:
    plain = to_plain(config)
    _check_unused(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with Lock(directory).hold():
        _check_unused(directory)  # again, now that no other process can claim it
        made = provenance.provenance(directory)
        if start_from:
            made["start_from"] = start_from
        run_directory.write_json(directory / "provenance.json", made)
        _write_config(directory, plain, sign=True)


def _write_config(directory: Path, config: Mapping[str, Any], sign: bool) -> None:
    """Writes a configuration, and before it the signature that shows it to be this user's."""
    if sign:
        trust.sign(directory, config)
    run_directory.write_json(directory / "config.json", config)
    if sign:
        trust.forget_older(directory)


def _check_unused(directory: Path) -> None:
    """Raises Taken if a directory holds more than files of a run that never started."""
    if not directory.exists():
        return
    if not directory.is_dir() or not all(UNSTARTED.fullmatch(p.name) for p in directory.iterdir()):
        raise Taken(
            f"{str(directory)!r} is not empty; choose another directory, or continue it with "
            f"'marl resume {directory}'"
        )


def change_settings(directory: Path, changes: Mapping[str, Any]) -> None:
    """Changes settings in a run's configuration file.

    The configuration remains signed if it was signed.

    Args:
        directory: directory of the run.
        changes: new values by setting.
    """
    config = json.loads((directory / "config.json").read_text())
    signed = trust.signed(directory, config)
    config["settings"].update(to_plain(changes))
    _write_config(directory, config, signed)


def check_unstarted(directory: Path, settings: Settings) -> None:
    """Checks that a run without checkpoints to resume from never had one.

    Args:
        directory: directory of the run.
        settings: the run's settings.

    Raises:
        UserError: it had one, so that it cannot be resumed; starting it again would lose what it
            learned.
    """
    frames = max((r["frames"] for r in read_jsonl(directory / "metrics.jsonl")), default=0)
    due = frames - settings.frames_per_iteration >= settings.checkpoint_interval
    best = any((directory / "checkpoints").glob("best-*.pt"))
    older = best and not (directory / LOCK).exists()  # older versions wrote the best last
    if due or older or (directory / CHECKPOINTED).exists():
        hint = "; its best policies remain, for marl evaluate --best" if best else ""
        raise UserError(
            f"the checkpoints to resume {str(directory)!r} from are missing (it played {frames:,} "
            f"frames); restore them, or train again in another directory{hint}"
        )


def mark_checkpointed(directory: Path) -> None:
    """Records that a run has a checkpoint, so that it is not started again if it is lost."""
    if not (mark := directory / CHECKPOINTED).exists():
        mark.touch()


def begin(
    directory: Path, checkpoints: Checkpoints, finished: bool, changes: Mapping[str, Any]
) -> None:
    """Prepares a directory for the process that holds its lock.

    Removes what killed processes left, and the measurements and pictures of a former end. The run
    counts as running from now on.

    Args:
        directory: directory of the run.
        checkpoints: its checkpoints.
        finished: True if the run has no frames left to play; the results of its end then stay.
        changes: new values of its settings, to be written to its configuration.
    """
    checkpoints.clean()
    for path in unfinished_writes(directory, INCOMPLETE):
        path.unlink(missing_ok=True)
    if not finished:
        absolute_metric.remove_results(directory)
    run_outcome.write(directory, run_outcome.RUNNING)
    if changes:
        change_settings(directory, changes)
    if checkpoints.last() is not None:
        mark_checkpointed(directory)
