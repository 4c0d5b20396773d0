"""Versions in environments' names, such as ``simple_spread_v3`` and ``CartPole-v1``."""

from __future__ import annotations

import re
from collections.abc import Iterable


def newest(name: str, known: Iterable[str]) -> str | None:
    """Returns ``name`` itself where it is known, else its newest version; None without one."""
    versions = [other for other in known if other == name or stem(other) == name]
    if not versions:
        return None
    return name if name in versions else max(versions, key=version)


def version(name: str) -> int:
    """Returns the number of a name's version, 0 without one."""
    match = re.search(r"[_-]v(\d+)$", name)
    return int(match[1]) if match else 0


def stem(name: str) -> str:
    """Returns a name without its version."""
    return re.sub(r"[_-]v\d+$", "", name)
