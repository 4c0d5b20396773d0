"""``marl list zoo``: the trained policies that are kept beside their records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from marl.training import zoo
from marl.utils.jsonl import read_json


def listed() -> Sequence[str]:
    """Returns a line for each policy of the zoo: its name, its task, and its mean return in the
    absolute metric of its record, by team."""
    rows = [(f"{zoo.PREFIX}{name}", *_about(path.parent)) for name, path in zoo.names()]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _about(record: Path) -> tuple[str, str]:
    config: dict[str, Any] = read_json(record / "config.json") or {}
    absolute: dict[str, Any] = read_json(record / "absolute.json") or {}
    means = {team: fmean(best["returns"][team]) for team, best in absolute.items()}
    returns = [
        f"{team} {mean:.2f}" if len(means) > 1 else f"{mean:.2f}" for team, mean in means.items()
    ]
    return config.get("task", {}).get("name", "?"), "return " + ", ".join(returns)
