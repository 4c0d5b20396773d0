"""Ensembles of sub-policies beside single policies, in cross-play on physical deception."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from _common import Bars, Panel, Row, group, mean_error, read, table

KINDS = {"deception": "K=1", "ensemble": "K=3"}
SIDES = ("agent", "adversary")


def meetings() -> dict[tuple[Any, ...], list[Row]]:
    """Returns (agents, adversary) -> the cells of all pairs of their runs."""
    cells = read("ensembles", "crossplay")
    for cell in cells:
        cell["agents"] = KINDS[cell["row"].split("-")[0]]
        cell["adversaries"] = KINDS[cell["column"].split("-")[0]]
    return group(cells, "agents", "adversaries")


def by_run(cells: list[Row], key: str, scale: float = 1.0) -> list[float]:
    """Returns the mean of every run of the agents, over all opponents."""
    return [
        scale * statistics.fmean(cell[key] for cell in row) for row in group(cells, "row").values()
    ]


def tables() -> dict[str, str]:
    rows = []
    for kinds, cells in meetings().items():
        returns = [mean_error(by_run(cells, f"return_{side}")) for side in SIDES]
        success = [mean_error(by_run(cells, f"{side}_success", 100)) for side in SIDES]
        rows.append([*kinds, *returns, " / ".join(success)])
    header = ["agents", "adversary", "return of agents", "of adversary"]
    return {"crossplay": table([*header, "agents' / adversary's success %"], rows)}


def panels() -> Sequence[Panel]:
    found = meetings()
    names = [f"{agents} / {adversary}" for agents, adversary in found]
    success = {
        side: [by_run(cells, f"{side}_success", 100) for cells in found.values()] for side in SIDES
    }
    returns = {
        side: [by_run(cells, f"return_{side}") for cells in found.values()] for side in SIDES
    }
    return [
        Bars("success", "success, %", names, success, "agents / adversary"),
        Bars("return", "return", names, returns, "agents / adversary"),
    ]
