"""Settings that a suite or a sweep file gives: those of somebody else's file run nothing that they
name. Importable without torch."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from marl.errors import UserError
from marl.utils import trust

Given = tuple[str, Any]  # a setting by its dotted key, and its value as YAML tells it
KEY = re.compile(r"\+{0,2}(?!hydra\b)[a-zA-Z_]\w*(\.\w+)*")  # Hydra's own settings start programs
TEXT = re.compile(r"[\w ,.+/\[\]-]*")  # no import path, no interpolation, no function of Hydra
DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")
RUNS = re.compile(r"teams\.\w+\.(frozen|algorithm\.checkpoint)|selfplay\.runs")
ENTRY_POINTS = ("marl.tasks", "marl.algorithms", "marl.models")


def check(file: Path, package: Path, settings: Iterable[Given]) -> None:
    """Checks that the settings of a file which does not belong to ``package``, the folder of our
    own ones, name nothing that would have to be imported from elsewhere.

    Raises:
        UserError: they may, and the user has not said that the file is to be trusted.
    """
    if trust.accepts_all() or file.resolve().parent == package.resolve():
        return
    names = {e.name for group in ENTRY_POINTS for e in importlib.metadata.entry_points(group=group)}
    for key, value in settings:
        if not (KEY.fullmatch(key) and all(_harmless(key, t, names) for t in _texts(value))):
            raise UserError(
                f"{str(file)!r} sets {key}={value}, by which code from elsewhere may be imported; "
                "if you trust its author, add --trust"
            )


def _texts(value: Any) -> Iterator[str]:
    """Yields all texts in a value, however deep."""
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
    is read), or one of our names: Hydra finds these in files, so none may lead out of its own."""
    if key == "device" and DEVICE.fullmatch(text):
        return True
    leads_out = ".." in text or text.strip().startswith("/")
    return (
        TEXT.fullmatch(text) is not None
        and text.strip() not in names
        and not (leads_out and not RUNS.fullmatch(key))
    )
