"""Tables and pictures of Bayesian-network policies from the records beside this file.

usage: python results/bayes/table.py                          (tables, returns.png, graphs.png)
       python results/bayes/table.py --graphs RUN [RUN ...]   (first graphs.json, of runs whose
                                                              checkpoints were all kept)
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

HERE = Path(__file__).parent
POLICIES = ("mappo", "ippo", "full", "learned", "annealed")
COLOURS = ("#777777", "#bbbbbb", "#3b6fb6", "#c8553d", "#e0a13b")
BEST = {"coordination": 69.1, "aloha": 9.549}  # the best that can be had, where it is known
TASKS = (*BEST, "spread", "balance")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def seeds(task: str, policy: str) -> list[Path]:
    return sorted(HERE.glob(f"{task}-{policy}-[0-9]"))


def interval(values: list[float]) -> str:
    """Mean and the half width of its 95% interval (Student's t)."""
    from scipy.stats import t

    if len(values) < 2:
        return f"{values[0]:.2f}"
    half = t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.fmean(values):.2f} ± {half:.2f}"


def final(run: Path) -> float:
    return statistics.fmean(lines(run / "evaluations.jsonl")[-1]["returns"]["team"])


def returns() -> None:
    print("| task | policies | seeds | return, 95% interval | every seed | density | seconds |")
    print("|---|---|---|---|---|---|---|")
    for task in TASKS:
        for policy in POLICIES:
            if runs := seeds(task, policy):
                values = [final(run) for run in runs]
                each = " ".join(f"{value:.1f}" for value in sorted(values))
                ends = [
                    lines(run / "density.jsonl")[-1]["density"]
                    for run in runs
                    if (run / "density.jsonl").exists()
                ]
                took = [json.loads((run / "seconds.json").read_text()) for run in runs]
                seconds = statistics.fmean(x["collect"] + x["update"] for x in took)
                words = [interval(values), each, f"{statistics.fmean(ends):.2f}" if ends else ""]
                print(f"| {task} | {policy} | {len(runs)} | {' | '.join(words)} | {seconds:.0f} |")


def draw_returns() -> None:
    figure, all_axes = plt.subplots(2, 2, figsize=(10, 6.4), layout="constrained")
    for axes, task in zip(all_axes.flat, TASKS, strict=True):
        for policy, colour in zip(POLICIES, COLOURS, strict=True):
            for number, run in enumerate(seeds(task, policy)):
                found = lines(run / "evaluations.jsonl")
                means = [statistics.fmean(e["returns"]["team"]) for e in found]
                axes.plot([e["frames"] / 1e3 for e in found], means, color=colour, linewidth=1,
                          alpha=0.8, label=policy if number == 0 else None)  # fmt: skip
        if task in BEST:
            axes.axhline(BEST[task], color="black", linewidth=0.6, linestyle=":")
        axes.set(title=task, xlabel="thousand frames", ylabel="return")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if task == "aloha":
            axes.set_yscale("symlog", linthresh=10)
    all_axes[0, 0].legend(frameon=False, loc="lower right")
    figure.savefig(HERE / "returns.png", dpi=130)
    plt.close(figure)


def measure_graphs(directories: list[str]) -> None:
    """The mean adjacency matrix of every checkpoint's graphs, over 32 played episodes."""
    import torch

    from marl.policies.bayesian import JointPolicy
    from marl.training import build, loading, run_directory
    from marl.training.collector import Collector

    device, found = torch.device("cpu"), {}
    for directory in map(Path, directories):
        config, moments = run_directory.read_config(directory), []
        env = config["task"](32, device)
        paths = sorted((directory / "checkpoints").glob("frames-*.pt"))
        for path in paths:
            _, _, state = loading.newest(path, device)
            teams = build.load_teams(env, config["teams"], state["teams"], path)
            policy = teams["team"].policy
            assert isinstance(policy, JointPolicy)
            collect = Collector(env, teams, 20, 0, torch.Generator().manual_seed(0))
            rollout, _ = collect.collect()
            with torch.no_grad():
                graph = policy.graph(rollout.obs, rollout.aux[policy.first])
            moments.append({"frames": state["frames"], "mean": graph.mean((0, 1)).tolist()})
        found[directory.name] = moments
    (HERE / "graphs.json").write_text(json.dumps(found) + "\n")


def draw_graphs() -> None:
    """Above: density over training, of every seed; below: mean adjacency at some moments."""
    found = json.loads((HERE / "graphs.json").read_text())
    figure = plt.figure(figsize=(11, 2.6 + 2.2 * len(found)), layout="constrained")
    rows = figure.subfigures(1 + len(found), 1, height_ratios=[1.2] + [1] * len(found))
    parts = [rows] if not found else list(rows)
    for axes, task in zip(parts[0].subplots(1, len(TASKS)), TASKS, strict=True):
        for policy, colour in zip(POLICIES, COLOURS, strict=True):
            for number, run in enumerate(seeds(task, policy)):
                if (run / "density.jsonl").exists():
                    found_lines = lines(run / "density.jsonl")
                    axes.plot([x["frames"] / 1e3 for x in found_lines],
                              [x["density"] for x in found_lines], color=colour, linewidth=1,
                              label=policy if number == 0 else None)  # fmt: skip
        axes.set(title=task, xlabel="thousand frames", ylabel="density", ylim=(-0.03, 1.03))
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    for part, (name, moments) in zip(parts[1:], found.items(), strict=True):
        part.suptitle(f"{name}: mean of G[k, i], k (row) a parent of i", fontsize=9)
        shown = [moments[round(i * (len(moments) - 1) / 5)] for i in range(6)]
        for axes, moment in zip(part.subplots(1, 6), shown, strict=True):
            axes.imshow(moment["mean"], vmin=0, vmax=1, cmap="Blues")
            axes.set_title(f"{moment['frames'] / 1e3:.0f}k", fontsize=8)
            axes.set(xticks=[], yticks=[])
    figure.savefig(HERE / "graphs.png", dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    if "--graphs" in sys.argv:
        measure_graphs(sys.argv[sys.argv.index("--graphs") + 1 :])
    returns()
    draw_returns()
    if (HERE / "graphs.json").exists():
        draw_graphs()
