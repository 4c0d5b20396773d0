"""Exact policy gradients of joint policies in the coordination game (Chen & Zhang 2023).

usage: python results/bayes/tabular.py         (minutes: writes tabular.jsonl)
       python results/bayes/tabular.py --draw  (prints the table, draws tabular.png)

One line for each number of agents and graph: J / J* and the Nash gap of every seed, after every
250 steps.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

from marl.envs.games.tabular import TabularPolicy, ascend, coordination, full, line

HERE = Path(__file__).parent
GRAPHS = {
    "independent": lambda n: torch.zeros(n, n, dtype=torch.bool),
    "line": line,
    "full": full,
}
GAMES = ((2, 1, 40, 20_000), (3, 1, 40, 20_000), (5, 2, 20, 6_000))  # n, l, seeds, steps
EVERY, PAPERS = 250, 2_000
COLOURS = ("#777777", "#3b6fb6", "#c8553d")


def measure() -> None:
    torch.set_num_threads(1)
    with (HERE / "tabular.jsonl").open("w") as file:
        for agents, margin, seeds, steps in GAMES:
            game = coordination(agents, margin)
            best = game.optimum()
            for name, dag in GRAPHS.items():
                random = torch.Generator().manual_seed(0)
                policy = TabularPolicy(game, dag(agents), seeds, random)
                ratios, gaps = [], []
                for step in range(0, steps + 1, EVERY):
                    ratios.append((ascend(policy, 0)[0] / best).tolist())
                    gaps.append((policy.nash_gap() / best).tolist())
                    if step < steps:
                        ascend(policy, EVERY)
                record = {"agents": agents, "l": margin, "graph": name, "optimum": best}
                record |= {"every": EVERY, "ratio": ratios, "gap": gaps}
                file.write(json.dumps(record) + "\n")
                print(agents, name, statistics.fmean(ratios[-1]), flush=True)


def told(values: list[float]) -> str:
    return f"{statistics.fmean(values):.3f} ± {statistics.stdev(values):.3f}"


def draw() -> None:
    records = [json.loads(text) for text in (HERE / "tabular.jsonl").read_text().splitlines()]
    at = PAPERS // EVERY
    print(
        "| n (seeds) | graph | J / J* after 2,000 steps | Nash gap / J* | J / J* in the end | gap |"
    )
    print("|---|---|---|---|---|---|")
    for r in records:
        words = [told(r["ratio"][at]), f"{statistics.fmean(r['gap'][at]):.4f}"]
        words += [told(r["ratio"][-1]), f"{statistics.fmean(r['gap'][-1]):.4f}"]
        print(f"| {r['agents']} ({len(r['gap'][0])}) | {r['graph']} | {' | '.join(words)} |")
    picture(records)


def picture(records: list[dict[str, Any]]) -> None:
    counts = sorted({r["agents"] for r in records})
    figure, rows = plt.subplots(
        2, len(counts), figsize=(11, 5.6), sharex="col", layout="constrained"
    )
    for column, agents in enumerate(counts):
        same = [r for r in records if r["agents"] == agents]
        for r, colour in zip(same, COLOURS, strict=True):
            steps = [EVERY * i for i in range(len(r["gap"]))]
            for axes, key in zip(rows[:, column], ("ratio", "gap"), strict=True):
                means = [statistics.fmean(values) for values in r[key]]
                axes.plot(steps, means, color=colour, label=r["graph"])
                axes.grid(alpha=0.3)
                axes.spines[["top", "right"]].set_visible(False)
        rows[0, column].set(title=f"n = {agents}, {len(same[0]['gap'][0])} seeds")
        rows[1, column].set(xlabel="steps of exact gradient ascent", yscale="log")
    rows[0, 0].set_ylabel("J / J*")
    rows[1, 0].set_ylabel("Nash gap / J*")
    rows[0, -1].legend(frameon=False, loc="lower right")
    figure.savefig(HERE / "tabular.png", dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    draw() if "--draw" in sys.argv else measure()
