"""Files of one JSON value per line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a JSONL file, which may still be written to; none if it is not there."""
    if not path.exists():
        return []
    whole = path.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines() if line.strip()]


def scalars(kind: str, record: Mapping[str, Any]) -> dict[str, float]:
    """A record as flat numbers, episodes averaged: ``{"evaluation/return/team": -3.2, ...}``."""
    if kind != "evaluations":
        prefix = "timing/" if kind == "timing" else ""
        return {prefix + k: v for k, v in record.items() if k != "frames"}
    flat = {}
    for part, name in (("returns", "return"), ("metrics", "info")):
        for key, values in record[part].items():
            flat[f"evaluation/{name}/{key}"] = sum(values) / len(values)
    return flat
