"""InforMARL beside MAPPO on the four tasks of entities after 2M frames, and by its radius."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from _common import Line, Lines, Panel, Row, mean_error, means, read, table

TASKS = ("target", "coverage", "formation", "line")
POLICIES = {
    "informarl": "InforMARL, local",
    "informarl-gru": "InforMARL with GRU",
    "local": "MAPPO, local",
    "local-norm": "MAPPO, local, normalised",
    "neighbourhood": "MAPPO, neighbourhood",
    "global": "MAPPO, global",
    "global-norm": "MAPPO, global, normalised",
}
RADII = ("0.1", "0.2", "0.5", "1", "2")


def runs(name: str) -> list[Row]:
    return [row for row in read("informarl", "runs") if row["run"].rpartition("-")[0] == name]


def success(rows: list[Row]) -> str:
    """Returns the percentage of episodes in which all arrive."""
    return f"{statistics.fmean(means(rows, 'success', 100)):.1f}".removesuffix(".0")


def policy_row(task: str, policy: str) -> list[object]:
    rows = runs(f"{task}-{policy}")
    collisions = [statistics.fmean(row["collisions"]) / row["agents"] for row in rows]
    minutes = statistics.fmean(row["minutes"] for row in rows)
    time = f"{statistics.fmean(means(rows, 'time')):.2f}"
    returns = mean_error(means(rows, "return"))
    columns = [returns, time, mean_error(collisions, 2), success(rows), f"{minutes:.0f}"]
    return [task, POLICIES[policy], len(rows), *columns]


def tables() -> dict[str, str]:
    header = ["task", "policy", "seeds", "return", "T", "#col", "S %", "minutes"]
    rows = [
        policy_row(task, policy)
        for task in TASKS
        for policy in POLICIES
        if runs(f"{task}-{policy}")
    ]
    cells = []
    for radius in RADII:
        name = "target-informarl" if radius == "1" else f"target-radius{radius}"
        cells.append(f"{mean_error(means(runs(name), 'return'))} / {success(runs(name))}")
    radii = table(["radius", *RADII], [["return / S %", *cells]])
    return {"tasks": table(header, rows), "radii": radii}


def panels() -> Sequence[Panel]:
    return [
        Lines(
            task,
            "million frames",
            "episodes in which all arrive, %",
            [
                Line(
                    [frames / 1e6 for frames in row["evaluations"]["frames"]],
                    [100 * share for share in row["evaluations"]["success"]],
                    name,
                )
                for policy, name in POLICIES.items()
                for row in runs(f"{task}-{policy}")
            ],
        )
        for task in TASKS
    ]
