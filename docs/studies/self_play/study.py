"""Checkpoints of one run with self-play, against each other."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from _common import Matrix, Panel, Row, group, read, table


def frames(name: str) -> str:
    return f"{int(name.rpartition('-')[2]) / 1e6:.2f}".removesuffix("0") + "M"


def averages(side: str, key: str) -> dict[str, float]:
    """Returns the mean of ``key`` for every checkpoint as ``side`` (row or column)."""
    cells = group(sorted(cells_(), key=lambda cell: cell[side]), side)
    return {
        frames(name): statistics.fmean(cell[key] for cell in same)
        for (name,), same in cells.items()
    }


def cells_() -> list[Row]:
    return read("self_play", "crossplay")


def tables() -> dict[str, str]:
    agents, adversaries = averages("row", "return_agent"), averages("column", "return_adversary")
    rows = [
        ["agents, over all adversaries", *(f"{value:.1f}" for value in agents.values())],
        ["adversary, over all agents", *(f"{value:.1f}" for value in adversaries.values())],
    ]
    return {"crossplay": table(["return of the checkpoint at frame", *agents], rows)}


def panels() -> Sequence[Panel]:
    cells = group(sorted(cells_(), key=lambda c: (c["row"], c["column"])), "row")
    names = [frames(name) for (name,) in cells]
    titles = {"return_agent": "return of the agents", "agent_success": "success of the agents"}
    return [
        Matrix(
            title,
            [[cell[key] for cell in row] for row in cells.values()],
            names,
            names,
            "adversary of frame",
            "agents of frame",
            digits=1 if key == "return_agent" else 2,
        )
        for key, title in titles.items()
    ]
