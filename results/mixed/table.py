"""Tables and pictures of mixed tasks from the records beside this file.

usage: python results/mixed/table.py  (prints the tables, draws pairings.png and inference.png)
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
NAMES = {"m": "MADDPG", "d": "DDPG"}
PAIRINGS = ("mm", "md", "dm", "dd")  # the algorithm of the first side of a task, then of the second
SIDES = {"deception": ("agent", "adversary"), "tag": ("adversary", "agent")}
COLOURS = ("#3b6fb6", "#c8553d")
INFERENCE = {  # what the others' policies are taken to be, and the runs of it
    "true policies": "deception-mm-*",
    "inferred": "inference-[0-9]",
    "true, actors at 1e-3": "true-deception-slow-*",
    "inferred, actors at 1e-3, beliefs at 1e-2": "inference-slow-*",
}


def records(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]


def last(runs: Iterable[Path], kind: str, name: str) -> tuple[float, float, int]:
    """Of the final policies: the mean over seeds, its standard error, how many seeds."""
    means = [statistics.fmean(records(run)[-1][kind][name]) for run in runs]
    error = statistics.stdev(means) / len(means) ** 0.5 if len(means) > 1 else float("nan")
    return statistics.fmean(means), error, len(means)


def seeds(task: str, pairing: str) -> list[Path]:
    return sorted(HERE.glob(f"{task}-{pairing}-*"))


def told(mean: float, error: float, count: int, scale: float = 1.0, digits: int = 1) -> str:
    spread = f" ± {scale * error:.{digits}f}" if count > 1 else ""
    return f"{scale * mean:.{digits}f}{spread} ({count})"


def deception() -> None:
    """Success of both sides; the pairing's first letter is the agents'."""
    print("| agents | adversary | agents' success % | adversary's success % |\n|---|---|---|---|")
    for pairing in PAIRINGS:
        if runs := seeds("deception", pairing):
            both = [last(runs, "metrics", f"{side}_success") for side in SIDES["deception"]]
            words = [told(*found, scale=100) for found in both]
            print(f"| {NAMES[pairing[0]]} | {NAMES[pairing[1]]} | {' | '.join(words)} |")


def tag() -> None:
    """Touches an episode; the pairing's first letter is the predators'."""
    print("| predators | prey | touches | return of predators | of prey |\n|---|---|---|---|---|")
    for pairing in PAIRINGS:
        if runs := seeds("tag", pairing):
            words = [told(*last(runs, "metrics", "touches"))]
            words += [told(*last(runs, "returns", side)) for side in SIDES["tag"]]
            print(f"| {NAMES[pairing[0]]} | {NAMES[pairing[1]]} | {' | '.join(words)} |")


def divergence(run: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Frames, and every team's KL between true and inferred policies."""
    lines = [json.loads(line) for line in (run / "inference.jsonl").read_text().splitlines()]
    teams = [name for name in lines[-1] if name != "frames"]
    return np.array([line["frames"] for line in lines]), {
        team: np.array([line[team] for line in lines]) for team in teams
    }


def inference() -> None:
    """Returns beside those with the true policies, and how the divergence fell."""
    print("| | return of agents | of adversary | agents' success % | adversary's success % |")
    print("|---|---|---|---|---|")
    for word, pattern in INFERENCE.items():
        if runs := sorted(HERE.glob(pattern)):
            words = [told(*last(runs, "returns", side)) for side in SIDES["deception"]]
            words += [
                told(*last(runs, "metrics", f"{side}_success"), scale=100)
                for side in SIDES["deception"]
            ]
            print(f"| {word} | {' | '.join(words)} |")
    for run in sorted(HERE.glob("inference-*")):
        frames, teams = divergence(run)
        for team, values in teams.items():
            at = [values[np.searchsorted(frames, when)] for when in (frames[0], 1e5, 5e5)]
            words = ", ".join(f"{value:.3f}" for value in [*at, values[-20:].mean()])
            print(f"KL {run.name} {team}: {words} (first, at 0.1M, at 0.5M, the last 20)")


def ensembles() -> None:
    """Cross-play of ensembles and single policies: mean returns and successes over all pairs of
    seeds, of the cells that meet another run or itself alike."""
    path = HERE / "crossplay-ensembles" / "crossplay.json"
    cells = json.loads(path.read_text())["cells"]
    kinds = {"deception": "K=1", "ensemble": "K=3"}
    print("| agents | adversary | return of agents | of adversary | successes % |")
    print("|---|---|---|---|---|")
    for row, agents in kinds.items():
        for column, adversary in kinds.items():
            met = [c for c in cells if c["row"].startswith(row) and c["column"].startswith(column)]
            words = [pairs(met, "returns", side) for side in SIDES["deception"]]
            rates = [pairs(met, "metrics", f"{s}_success", 100) for s in SIDES["deception"]]
            print(f"| {agents} | {adversary} | {' | '.join(words)} | {' / '.join(rates)} |")


def pairs(cells: list[dict[str, Any]], kind: str, name: str, scale: float = 1.0) -> str:
    """The mean over pairs of runs, and the standard error of the rows' means."""
    rows: dict[str, list[float]] = {}
    for cell in cells:
        rows.setdefault(cell["row"], []).append(scale * statistics.fmean(cell[kind][name]))
    means = [statistics.fmean(found) for found in rows.values()]
    return f"{statistics.fmean(means):.1f} ± {statistics.stdev(means) / len(means) ** 0.5:.1f}"


def draw_pairings() -> None:
    """Bars with every seed as a dot."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    sides = [(f"{side}_success", side, 100) for side in SIDES["deception"]]
    bars(left, "deception", sides, ("agents", "adversary"))
    left.set(title="physical deception", ylabel="success, %", ylim=(0, 105))
    bars(right, "tag", [("touches", "touches", 1)], ("predators", "prey"))
    right.set(title="predators and prey", ylabel="touches an episode")
    figure.savefig(HERE / "pairings.png", dpi=130)
    plt.close(figure)


def bars(axes: Any, task: str, sides: list, words: tuple[str, str]) -> None:
    pairings = [pairing for pairing in PAIRINGS if seeds(task, pairing)]
    width = 0.8 / len(sides)
    for i, (metric, label, scale) in enumerate(sides):
        for x, pairing in enumerate(pairings):
            runs = seeds(task, pairing)
            values = [scale * statistics.fmean(records(r)[-1]["metrics"][metric]) for r in runs]
            at = x + (i - (len(sides) - 1) / 2) * width
            axes.bar(at, statistics.fmean(values), width * 0.95, color=COLOURS[i],
                     label=label if x == 0 else None)  # fmt: skip
            axes.scatter([at] * len(values), values, s=14, color="black", zorder=3)
    names = [f"{NAMES[p[0]]} {words[0]}\n{NAMES[p[1]]} {words[1]}" for p in pairings]
    axes.set_xticks(range(len(pairings)), names, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    if len(sides) > 1:
        axes.legend(frameon=False)


def draw_inference() -> None:
    """The divergence of both teams, at the actors' learning rate of the paper and at a tenth."""
    figure, all_axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
    for axes, word in zip(
        all_axes, [word for word in INFERENCE if "inferred" in word], strict=True
    ):
        for number, run in enumerate(sorted(HERE.glob(INFERENCE[word]))):
            frames, teams = divergence(run)
            for (team, values), colour in zip(teams.items(), COLOURS, strict=True):
                label = f"what {team} believes of the others" if number == 0 else None
                axes.plot(frames / 1e6, values, color=colour, alpha=0.8, label=label, linewidth=1)
        axes.set(title=word, xlabel="million frames", yscale="log")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].set_ylabel("KL(true, inferred), nats")
    all_axes[0].legend(frameon=False)
    figure.savefig(HERE / "inference.png", dpi=130)
    plt.close(figure)


def main() -> None:
    for show in (deception, tag, inference, ensembles):
        show()
        print()
    draw_pairings()
    if any(HERE.glob("inference-*")):
        draw_inference()


if __name__ == "__main__":
    main()
