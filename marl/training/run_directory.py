"""Run directories: reading of the configuration of a run, and of what it refers to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from marl.errors import UserError
from marl.training import checkpoint, curriculum
from marl.training.settings import Settings, apply_changes
from marl.utils import trust, user_files, versions
from marl.utils.serialization import TYPE, Foreign, any_class, from_plain, imports, relocate

STACK = "stack.json"  # names the run directories of stacked seeds, in the folder that holds them


def check(directory: Path) -> None:
    """Raises UserError if ``directory`` is not a run directory."""
    if directory.is_file():
        raise UserError(f"{str(directory)!r} is a file, not a run directory or .pt checkpoint")
    if not directory.is_dir():
        raise UserError(f"run directory {str(directory)!r} does not exist")
    if (directory / STACK).exists():
        raise UserError(
            f"{str(directory)!r} holds the runs of a stack of seeds; give one of them, such as "
            f"{str(next(directory.glob('*/config.json'), directory).parent)!r}"
        )
    if not (directory / "config.json").exists():
        raise UserError(f"{str(directory)!r} is not a run directory: it has no config.json")


def read_config(directory: Path) -> dict[str, Any]:
    """Returns the configuration of a run as objects, with the task of its last stage.

    Raises:
        UserError: as ``read_whole_config``.
    """
    config = read_whole_config(directory)
    if stages := curriculum.parse(getattr(config["settings"], "curriculum", ())):
        config["task"] = curriculum.changed_task(config["task"], stages[-1].task)
    return config


def read_whole_config(directory: Path) -> dict[str, Any]:
    """Returns the configuration of a run, as the objects that it was built from.

    Raises:
        UserError: the directory is not a run directory, or it would import code and is not trusted
            (``marl.utils.trust``).
    """
    check(directory)
    path = directory / "config.json"
    try:
        plain = json.loads(path.read_text())
        config = _objects(directory, plain)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not a run's configuration: {error}") from None
    if not isinstance(config, dict) or not {"task", "settings", "teams"} <= config.keys():
        raise UserError(
            f"{str(path)!r} is not a run's configuration: expected task, settings and teams"
        )
    if hasattr(config["task"], "without_unread"):  # options that older versions ignored
        config["task"] = config["task"].without_unread()
    _leave_unmeasured(config, plain)
    relocate(config, partial(_find_moved, directory))
    return config


def _leave_unmeasured(config: Mapping[str, Any], plain: Mapping[str, Any]) -> None:
    """Turns off, in place, what a run of an older version did not measure, so that its records go
    on as they began."""
    settings = config["settings"]
    if isinstance(settings, Settings) and "episodes" not in plain["settings"].get("selfplay", {}):
        settings.selfplay.episodes = 0


def _objects(directory: Path, plain: Any) -> Any:
    """Returns the objects that a configuration describes.

    Raises:
        UserError: it names classes outside this package, and is not trusted.
    """
    if trust.trusted(directory, plain):
        return from_plain(_with_moved_files(directory, plain), any_class)
    config = None
    try:
        config = from_plain(plain)
        foreign = [*imports(config), *_imports_of_stages(config)]
    except Foreign as error:
        foreign = [error.path]
    if foreign:
        raise UserError(
            f"{str(directory)!r} would import {', '.join(map(repr, foreign))}, and nothing shows "
            "that you made this run, as it is now, on this machine; if you trust its author, add "
            "--trust (in Python: trust=True, or with marl.utils.trust.accept_all())"
        )
    return config


def _imports_of_stages(config: Any) -> Iterator[str]:
    """Yields the import paths that the stages of a curriculum give to the task."""
    settings = config.get("settings") if isinstance(config, Mapping) else None
    if isinstance(settings, Settings):
        for stage in curriculum.parse(settings.curriculum):
            yield from imports(curriculum.changed_task(config.get("task"), stage.task))


def _with_moved_files(directory: Path, plain: Any) -> Any:
    """Returns a configuration whose import paths name files where they are now.

    A file that is no longer where it was is looked for where it lies from the run, so that a
    project moves as a whole.

    Raises:
        UserError: a file has moved, and the user does not say that what lies there is trusted: the
            run's signature is of the old place.
    """
    if isinstance(plain, list):
        return [_with_moved_files(directory, item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    moved = {key: _with_moved_files(directory, item) for key, item in plain.items()}
    if TYPE in moved:
        for key in (TYPE, "name", "callbacks", "wrappers"):
            if key in moved:
                moved[key] = _moved_paths(directory, moved[key])
    return moved


def _moved_paths(directory: Path, value: Any) -> Any:
    """Returns an import path, or a list or mapping of some, with files where they are now.

    Raises:
        UserError: one has moved, and the user does not say that what lies there is trusted.
    """
    if isinstance(value, list):
        return [_moved_paths(directory, item) for item in value]
    if isinstance(value, dict):
        items = ([_moved_paths(directory, part) for part in pair] for pair in value.items())
        return dict(items)
    if not isinstance(value, str) or not user_files.names_file(value):
        return value
    file, _, name = value.rpartition(":")
    place = _find_moved(directory, file)
    if place != file and not trust.accepts_all():
        raise UserError(
            f"{str(directory)!r} imports {file!r}, which is now {place!r}; if the "
            "project was moved, add --trust (in Python: trust=True)"
        )
    return f"{place}:{name}"


def resumed_parts(
    directory: Path, changes: Mapping[str, Any]
) -> tuple[Any, dict[str, Any], Settings]:
    """Returns the parts of a run to be resumed.

    Args:
        directory: directory of the run.
        changes: new values of its settings.

    Returns:
        The task, the teams by name, and the settings with the changes.

    Raises:
        UserError: the run or a setting does not exist, a setting cannot have the value, or the
            task was not stored.
    """
    config = read_whole_config(directory)
    if config["task"] is None:
        raise UserError(
            f"{str(directory)!r} was made from Python by a function without a name; "
            "build the same Experiment(..., resume=True) there"
        )
    return config["task"], config["teams"], apply_changes(config["settings"], changes)


def check_total(directory: Path, total_frames: int, frames: int) -> None:
    """Checks the number of frames to which a run is to be trained on.

    Args:
        directory: directory of the run.
        total_frames: the new number.
        frames: frames that the run has played.

    Raises:
        UserError: it is less than the run has played.
    """
    if total_frames < frames:
        raise UserError(
            f"total_frames={total_frames} is less than the {frames} frames that "
            f"{str(directory)!r} has played; take a larger number, or train a new run"
        )


def _find_moved(directory: Path, reference: str) -> str:
    """Returns the present path of a file that a run refers to.

    It is the old path, or the one to which the file was moved together with the run.
    """
    try:
        old_directory = json.loads((directory / "provenance.json").read_text())["directory"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # missing in older runs
        return reference
    if Path(reference).exists() or not isinstance(old_directory, str):
        return reference
    relative = os.path.relpath(reference, old_directory)
    moved = Path(os.path.normpath(directory.absolute() / relative))
    return str(moved) if moved.exists() else reference


def device_of(directory: Path) -> str:
    """Returns the device in a run's settings.

    It is ``cpu`` if they cannot be read: ``read_config`` reports that error.
    """
    try:
        return str(json.loads((directory / "config.json").read_text())["settings"]["device"])
    except (OSError, ValueError, TypeError, KeyError):
        return "cpu"


def resumable_version(directory: Path) -> int:
    """Returns the version of learning of a run that is to be resumed (``marl.utils.versions``).

    Raises:
        UserError: the directory is not a run directory, or its version would learn something else.
    """
    check(directory)
    version = versions.learning_of(directory)
    if version != versions.LEARNING:
        versions.check_resumable(directory, version, read_config(directory))
    return version


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically.

    Args:
        path: the file.
        value: plain values.
    """
    checkpoint.write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())
