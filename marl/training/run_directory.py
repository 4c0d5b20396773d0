"""Run directories: what a run was made of, where it ran, and how to load its policies again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from marl.errors import UserError
from marl.training import checkpoint
from marl.training.settings import Settings, changed
from marl.utils import trust, versions
from marl.utils.serialization import Foreign, any_class, from_plain, imports, relocate


def check(directory: Path) -> None:
    """Raises UserError where ``directory`` is not a run's."""
    if not directory.is_dir():
        raise UserError(f"there is no run directory {str(directory)!r}")
    if not (directory / "config.json").exists():
        raise UserError(f"{str(directory)!r} is not a run directory: it has no config.json")


def read_config(directory: Path) -> dict[str, Any]:
    """The configuration of a run, as the objects it was built from.

    Raises:
        UserError: the directory is not a run's, or somebody else's run names code of others.
    """
    check(directory)
    path = directory / "config.json"
    try:
        config = _objects(directory, json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not a run's configuration: {error}") from None
    if not isinstance(config, dict) or not {"task", "settings", "teams"} <= config.keys():
        raise UserError(
            f"{str(path)!r} is not a run's configuration: it needs task, settings, teams"
        )
    if hasattr(config["task"], "without_unread"):  # options that older versions took and ignored
        config["task"] = config["task"].without_unread()
    relocate(config, partial(_moved, directory))
    return config


def _objects(directory: Path, plain: Any) -> Any:
    """The objects that a configuration describes: of this package alone, unless it is trusted.

    Raises:
        UserError: others would have to be imported.
    """
    if trust.trusted(directory, plain):
        return from_plain(plain, any_class)
    config = None
    try:
        config = from_plain(plain)
        foreign = list(imports(config))
    except Foreign as error:
        foreign = [error.path]
    if foreign:
        raise UserError(
            f"{str(directory)!r} would import {', '.join(map(repr, foreign))}, and nothing shows "
            "that you made this run, as it is now, on this machine; if you trust its author, add "
            "--trust (in Python: trust=True, or with marl.utils.trust.accept_all())"
        )
    return config


def resumed_parts(
    directory: Path, changes: Mapping[str, Any]
) -> tuple[Any, dict[str, Any], Settings]:
    """Returns the task, the teams and, with ``changes``, the settings of a run to be resumed.

    Raises:
        UserError: there is no such run or setting, the setting has no such value, or the task
            stands in no file.
    """
    config = read_config(directory)
    if config["task"] is None:
        raise UserError(
            f"{str(directory)!r} was made from Python by a function without a name; "
            "build the same Experiment(..., resume=True) there"
        )
    return config["task"], config["teams"], changed(config["settings"], changes)


def _moved(directory: Path, reference: str) -> str:
    """Where what a run refers to is now: where it was, or where it would be if it was moved
    together with the run."""
    try:
        before = json.loads((directory / "provenance.json").read_text())["directory"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # an older run's has none
        return reference
    if Path(reference).exists() or not isinstance(before, str):
        return reference
    there = Path(os.path.normpath(directory.absolute() / os.path.relpath(reference, before)))
    return str(there) if there.exists() else reference


def device_of(directory: Path) -> str:
    """Returns the name of the device in a run's settings; ``cpu`` where they cannot be read, which
    whoever reads them whole reports."""
    try:
        return str(json.loads((directory / "config.json").read_text())["settings"]["device"])
    except (OSError, ValueError, TypeError, KeyError):
        return "cpu"


def resumable(directory: Path) -> int:
    """Returns the version of learning of a run that is to be resumed (``marl.utils.versions``).

    Raises:
        UserError: the directory is not a run's, or its version is another that learns otherwise.
    """
    check(directory)
    version = versions.learning_of(directory)
    if version != versions.LEARNING:
        versions.check_resumable(directory, version, read_config(directory))
    return version


def write_json(path: Path, value: Any) -> None:
    checkpoint.write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())
