"""HASAC's temperature on VMAS: learning rates that were tried."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

from _common import Line, Lines, Panel, Row, read, table


def runs() -> list[Row]:
    return read("hasac_temperature", "runs")


def rate(run: Row) -> str:
    return re.findall(r"(?<=alpha_lr=)\S+", run["command"])[-1]


def task(run: Row) -> str:
    return run["run"].partition("-")[0]


def tables() -> dict[str, str]:
    rows = [
        [task(run), f"`{rate(run)}`", f"{statistics.fmean(run['return']):.1f}"] for run in runs()
    ]
    return {
        "temperature": table(["task", "`algorithm.alpha_lr`", "return after 300k frames"], rows)
    }


def panels() -> Sequence[Panel]:
    return [
        Lines(
            name,
            "thousand frames",
            "greedy return",
            [
                Line(
                    [frames / 1e3 for frames in run["evaluations"]["frames"]],
                    run["evaluations"]["return"],
                    f"alpha_lr={rate(run)}",
                )
                for run in runs()
                if task(run) == name
            ],
        )
        for name in ("balance", "navigation")
    ]
