"""Texts without the places of one machine: what is given away names no home and no user.
Importable without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

SETTING = re.compile(r"([+~]*[\w.@/]+=)?(.*)", re.DOTALL)  # KEY=VALUE, or a value alone
BETWEEN = re.compile(r"([\s,:;=|&<>\[\](){}'\"]+)")  # what stands between two paths of a text


def without_places(value: Any) -> Any:
    """Returns a JSON value in whose texts every path that leads out of the working directory is
    reduced to its name, that of a checkpoint to ``RUN/checkpoints/FILE``."""
    if isinstance(value, Mapping):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    return _reduced(value) if isinstance(value, str) else value


def _reduced(text: str) -> str:
    setting = SETTING.fullmatch(text)
    key, given = setting.groups("") if setting else ("", text)
    if _leads_out(given) and not re.search(r"[,:;\n]", given):  # one path, perhaps with spaces
        return key + _name(given)
    parts = ["", *BETWEEN.split(text)]  # what stands before each path, and the path
    reduced = (
        before + (path if before.endswith(":") and path.startswith("//") else _name(path))  # a URL
        for before, path in zip(parts[::2], parts[1::2], strict=True)
    )
    home = str(Path("~").expanduser())
    return "".join(reduced).replace(home, "~") if len(home) > 1 else "".join(reduced)


def _leads_out(path: str) -> bool:
    home = path.startswith("~") and "/" in path
    return path.startswith("/") or home or ".." in PurePosixPath(path).parts


def _name(path: str) -> str:
    if not _leads_out(path):
        return path
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..", "~")]
    several = len(parts) > 2 and parts[-2] == "checkpoints"
    return "/".join(parts[-3:] if several else parts[-1:]) or path
