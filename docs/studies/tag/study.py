"""Predators and prey: touches and returns of MADDPG and DDPG on either side."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from _common import Bars, Matrix, Panel, Row, group, mean_error, means, read, table

NAMES = {"m": "MADDPG", "d": "DDPG"}


def pairings() -> dict[str, list[Row]]:
    """Returns the runs of each pairing, whose first letter is the predators'."""
    runs = [{**row, "pairing": row["run"].split("-")[1]} for row in read("tag", "runs")]
    return {pairing: rows for (pairing,), rows in group(runs, "pairing").items()}


def tables() -> dict[str, str]:
    rows = [
        [
            *(NAMES[letter] for letter in pairing),
            *(mean_error(means(runs, key)) for key in ("touches", "return_adversary")),
            mean_error(means(runs, "return_agent")),
            f"{statistics.fmean(means(runs, 'untrained_touches')):.1f}",
        ]
        for pairing, runs in pairings().items()
    ]
    header = ["predators", "prey", "touches", "return of predators", "return of prey"]
    return {"touches": table([*header, "touches before training"], rows)}


def panels() -> Sequence[Panel]:
    found = pairings()
    cells = group(read("tag", "crossplay"), "row")
    runs = [name.split("-")[1] for (name,) in cells]
    return [
        Bars(
            "simple_tag",
            "touches an episode",
            [f"{NAMES[pairing[0]]} /\n{NAMES[pairing[1]]}" for pairing in found],
            {"touches": [means(rows, "touches") for rows in found.values()]},
            "predators / prey",
        ),
        Matrix(
            "touches an episode in cross-play",
            [[cell["touches"] for cell in row] for row in cells.values()],
            runs,
            runs,
            "prey of the run",
            "predators of the run",
            digits=2,
        ),
    ]
