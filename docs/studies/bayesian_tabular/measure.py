"""Exact policy gradients of joint policies in the coordination game (Chen & Zhang 2023).

usage: F=docs/studies/bayesian_tabular; python $F/measure.py > $F/data/ascents.jsonl

One line for each number of agents and graph: J / J* and the Nash gap of every seed after 2,000
steps and in the end, and their means over seeds after every 250 steps. Takes minutes.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

import torch

from marl.envs.games.tabular import TabularPolicy, ascend, coordination, full, line

GRAPHS = {
    "independent": lambda n: torch.zeros(n, n, dtype=torch.bool),
    "line": line,
    "full": full,
}
GAMES = ((2, 1, 40, 20_000), (3, 1, 40, 20_000), (5, 2, 20, 6_000))  # n, l, seeds, steps
EVERY, PAPERS = 250, 2_000


def measure(agents: int, margin: int, seeds: int, steps: int, graph: str) -> dict[str, Any]:
    """Returns the line of one game and graph."""
    game = coordination(agents, margin)
    best = game.optimum()
    policy = TabularPolicy(game, GRAPHS[graph](agents), seeds, torch.Generator().manual_seed(0))
    ratios: list[list[float]] = []
    gaps: list[list[float]] = []
    for step in range(0, steps + 1, EVERY):
        ratios.append((ascend(policy, 0)[0] / best).tolist())
        gaps.append((policy.nash_gap() / best).tolist())
        if step < steps:
            ascend(policy, EVERY)
    at = PAPERS // EVERY
    result: dict[str, Any] = {"agents": agents, "l": margin, "graph": graph}
    result |= {"optimum": round(float(best), 6), "every": EVERY, "steps": steps}
    for name, i in (("2000", at), ("end", -1)):
        result[f"ratio_{name}"] = [round(value, 6) for value in ratios[i]]
        result[f"gap_{name}"] = [round(value, 7) for value in gaps[i]]
    result["mean_ratio"] = [round(statistics.fmean(values), 5) for values in ratios]
    result["mean_gap"] = [float(f"{statistics.fmean(values):.4g}") for values in gaps]
    return result


def main() -> None:
    torch.set_num_threads(1)
    for game in GAMES:
        for graph in GRAPHS:
            print(json.dumps(measure(*game, graph), separators=(",", ":")), flush=True)


if __name__ == "__main__":
    main()
