"""Checks of the settings in suite and sweep files: a file of another author runs no code that it
names. Loads no torch."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from marl.errors import UserError
from marl.utils import trust

Setting = tuple[str, Any]  # a dotted key, and the value that YAML gives
KEY = re.compile(r"\+{0,2}(?!hydra\b)[a-zA-Z_]\w*(\.\w+)*")  # Hydra's own settings start programs
TEXT = re.compile(r"[\w ,.+/\[\]-]*")  # no import path, no interpolation, no function of Hydra
DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")
RUNS = re.compile(r"teams\.\w+\.(frozen|algorithm\.checkpoint)|selfplay\.runs")
ENTRY_POINTS = ("marl.tasks", "marl.algorithms", "marl.models")


def check(file: Path, package: Path, settings: Iterable[Setting]) -> None:
    """Checks that a file from outside ``package`` names nothing to import from elsewhere.

    Args:
        file: the suite or sweep file.
        package: the folder of the files that belong to this package, which are trusted.
        settings: all settings that the file gives.

    Raises:
        UserError: a setting may import code, and the user did not pass ``--trust``.
    """
    if trust.accepts_all() or file.resolve().parent == package.resolve():
        return
    names = {e.name for group in ENTRY_POINTS for e in importlib.metadata.entry_points(group=group)}
    for key, value in settings:
        if not (KEY.fullmatch(key) and all(_harmless(key, t, names) for t in _texts(value))):
            raise UserError(
                f"{str(file)!r} sets {key}={value}, which may import code from elsewhere; if you "
                "trust its author, add --trust"
            )


def _texts(value: Any) -> Iterator[str]:
    """Yields all texts in a value, at any depth."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from (*_texts(key), *_texts(item))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif not (value is None or isinstance(value, bool | int | float)):
        yield str(value)


def _harmless(key: str, text: str, names: set[str]) -> bool:
    """Returns whether a text is a device, a run's directory (whose configuration is checked when it
    is read), or one of our names. Hydra looks these up in files, so none may leave its folder."""
    if key == "device" and DEVICE.fullmatch(text):
        return True
    leaves_folder = ".." in text or text.strip().startswith("/")
    return (
        TEXT.fullmatch(text) is not None
        and text.strip() not in names
        and not (leaves_folder and not RUNS.fullmatch(key))
    )
