"""Exact policy gradients of joint policies along Bayesian networks."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from _common import Line, Lines, Panel, group, read, table


def spread(values: list[float]) -> str:
    return f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}"


def tables() -> dict[str, str]:
    rows = []
    for ascent in read("bayesian_tabular", "ascents"):
        agents, seeds = ascent["agents"], len(ascent["gap_end"])
        line = "line, which is full" if agents == 2 else "line"
        if agents == 2 and ascent["graph"] == "full":
            continue  # the same numbers
        graph = line if ascent["graph"] == "line" else ascent["graph"]
        words = [
            word
            for when in ("2000", "end")
            for word in (
                spread(ascent[f"ratio_{when}"]), f"{statistics.fmean(ascent[f'gap_{when}']):.4f}"
            )
        ]  # fmt: skip
        rows.append([f"{agents} ({seeds})", graph, *words])
    gap = "Nash gap / J*"
    header = ["n (seeds)", "graph", "J / J* after 2,000 steps", gap, "J / J* in the end", gap]
    return {"equilibria": table(header, rows)}


def panels() -> Sequence[Panel]:
    names = {"mean_ratio": "J / J*", "mean_gap": "Nash gap / J*"}
    return [
        Lines(
            f"n = {agents}, {len(same[0]['gap_end'])} seeds",
            "steps of exact gradient ascent",
            name,
            [
                Line([row["every"] * i for i in range(len(row[key]))], row[key], row["graph"])
                for row in same
            ],
            log_y=key == "mean_gap",
        )
        for key, name in names.items()
        for (agents,), same in group(read("bayesian_tabular", "ascents"), "agents").items()
    ]
