"""Removal of local paths from texts, so that records name no home directory and no user.

Importable without torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

SETTING = re.compile(r"([+~]*[\w.@/]+=)?(.*)", re.DOTALL)  # KEY=VALUE, or a value alone
SEPARATOR = re.compile(r"([\s,:;=|&<>\[\](){}'\"]+)")  # between two paths of a text


def without_places(value: Any) -> Any:
    """Returns a JSON value whose texts hold no paths that lead out of the working directory.

    Each such path is reduced to its last part, that of a checkpoint to ``RUN/checkpoints/FILE``.
    """
    if isinstance(value, Mapping):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    return _reduced(value) if isinstance(value, str) else value


def _reduced(text: str) -> str:
    setting = SETTING.fullmatch(text)
    key, value = setting.groups("") if setting else ("", text)
    if _leads_out(value) and not re.search(r"[,:;\n]", value):  # one path, perhaps with spaces
        return key + _name(value)
    parts = ["", *SEPARATOR.split(text)]  # by turns a separator and a path
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
