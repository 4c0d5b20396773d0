"""Files with one JSON value per line. Importable without torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Returns all complete lines of a JSONL file, which may still be written to.

    Where the file does not exist, there are none.
    """
    if not path.exists():
        return []
    complete = path.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in complete.splitlines() if line.strip()]


def last_line(path: Path, size: int = 4096) -> dict[str, Any] | None:
    """Returns the last complete line of a JSONL file, without reading the rest.

    Args:
        path: the file.
        size: bytes at its end to read first; twice as many are read until a line is whole.

    Returns:
        The line's value; None where the file does not exist or has no complete line.

    Raises:
        ValueError: the line is not JSON.
    """
    try:
        with open(path, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            while True:
                file.seek(max(0, length - size))
                lines = file.read(size).rpartition(b"\n")[0].rsplit(b"\n", 1)
                if len(lines) == 2 or size >= length:
                    return json.loads(lines[-1]) if lines[-1].strip() else None
                size *= 2
    except FileNotFoundError:
        return None


def read_json(path: Path) -> Any:
    """Returns the value in a JSON file; None where the file is missing or damaged.

    Args:
        path: the file, of something that can be made again.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def scalars(kind: str, record: Mapping[str, Any]) -> dict[str, float]:
    """Returns a record as flat numbers, such as ``{"evaluation/return/team": -3.2}``.

    Args:
        kind: ``metrics``, ``timing`` or ``evaluations``; of the last, episodes are averaged.
        record: one line of the run's file of that kind.
    """
    if kind != "evaluations":
        prefix = "timing/" if kind == "timing" else ""
        return {prefix + k: v for k, v in record.items() if k != "frames"}
    flat = {}
    parts = {"evaluation": record, "evaluation/sampled": record.get("sampled", {})}
    for prefix, episodes in parts.items():
        for part, name in (("returns", "return"), ("metrics", "info")):
            for key, values in episodes.get(part, {}).items():
                flat[f"{prefix}/{name}/{key}"] = sum(values) / len(values)
    for team, rates in record.get("pool", {}).items():
        for name in ("win_rate", "draws"):
            flat[f"evaluation/pool/{name}/{team}"] = rates[name]
    return flat
