"""What was tried for VMAS transport."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

from _common import Line, Lines, Panel, Row, read, table

NAMES = {
    "transport-mappo": "MAPPO",
    "transport-mappo-500": "MAPPO, entropy 0.01",
    "transport-mappo-big": "MAPPO, 600 environments",
    "transport-maddpg-500": "MADDPG",
    "transport-mass5-mappo": "MAPPO",
    "transport-mass1-mappo": "MAPPO",
    "transport-mass1-mappo-600envs": "MAPPO, 600 environments",
}


def runs() -> list[Row]:
    by_name = {run["run"]: run for run in read("vmas_transport", "runs")}
    return [by_name[name] for name in NAMES]


def option(run: Row, name: str, default: str) -> str:
    """Returns the value of the last word ``name=value`` of the run's command."""
    values = re.findall(rf"(?<=\b{re.escape(name)}=)\S+", run["command"])
    return values[-1] if values else default


def tables() -> dict[str, str]:
    rows = [
        [
            option(run, "package_mass", "50"), NAMES[run["run"]],
            option(run, "max_steps", "100"), f"{run['frames'] / 1e6:.1f}M",
            f"{statistics.fmean(run['return']):.2f}", f"{max(run['evaluations']['return']):.2f}",
        ]
        for run in runs()
    ]  # fmt: skip
    header = ["package's mass", "algorithm", "steps of an episode", "frames"]
    return {"tried": table([*header, "last return", "best evaluation"], rows)}


def panels() -> Sequence[Panel]:
    return [
        Lines(
            f"mass {mass}",
            "million frames",
            "greedy return",
            [
                Line(
                    [frames / 1e6 for frames in run["evaluations"]["frames"]],
                    run["evaluations"]["return"],
                    NAMES[run["run"]],
                )
                for run in runs()
                if option(run, "package_mass", "50") == mass
            ],
        )
        for mass in ("50", "5", "1")
    ]
