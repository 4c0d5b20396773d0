"""Tables and the picture of InforMARL's tasks from the records beside this file.

usage: python results/informarl/table.py  (prints the tables, draws success.png)
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
TASKS = ("target", "coverage", "formation", "line")
POLICIES = (
    "informarl", "informarl-gru", "local", "local-norm", "neighbourhood", "global", "global-norm"
)  # fmt: skip
RADII = ("0.1", "0.2", "0.5", "1", "2")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def seeds(name: str) -> list[Path]:
    return sorted(HERE.glob(f"{name}-[0-9]"))


def over(values: list[float], digits: int = 2) -> str:
    """Mean and, of several, the standard error."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}"


def final(runs: list[Path]) -> str:
    """Return per agent, T, collisions per agent, S% and minutes of the final policies."""
    last = [lines(run / "evaluations.jsonl")[-1] for run in runs]
    means = [{k: statistics.fmean(v) for k, v in e["metrics"].items()} for e in last]
    agents = [json.loads((run / "config.json").read_text())["task"]["kwargs"] for run in runs]
    counts = [options.get("N", 3) for options in agents]
    columns = [
        over([statistics.fmean(e["returns"]["team"]) for e in last], 1),
        over([m["time"] for m in means]),
        over([m["collisions"] / n for m, n in zip(means, counts, strict=True)]),
        over([100 * m["success"] for m in means], 1),
        over([minutes(run) for run in runs], 0),
    ]
    return " | ".join(columns)


def minutes(run: Path) -> float:
    seconds = json.loads((run / "seconds.json").read_text())
    return sum(seconds[k] for k in ("collect", "update", "evaluate")) / 60


def tasks() -> None:
    print("| task | policy | seeds | return per agent | T | #col per agent | S % | minutes |")
    print("|---|---|---|---|---|---|---|---|")
    for task in TASKS:
        for policy in POLICIES:
            if runs := seeds(f"{task}-{policy}"):
                print(f"| {task} | {policy} | {len(runs)} | {final(runs)} |")


def radii() -> None:
    print("| radius | seeds | return per agent | T | #col per agent | S % | minutes |")
    print("|---|---|---|---|---|---|---|")
    for radius in RADII:
        name = "target-informarl" if radius == "1" else f"target-radius{radius}"
        if runs := seeds(name):
            print(f"| {radius} | {len(runs)} | {final(runs)} |")


def scaling() -> None:
    """Trained with three agents, run with more, among 0 to 10 obstacles; per agent."""
    print("| policy | agents | reward | T | #col | S % |")
    print("|---|---|---|---|---|---|")
    cells: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for line in lines(HERE / "scaling.jsonl"):
        cells.setdefault((line["run"].rpartition("-")[0], line["agents"]), []).append(line)
    for (policy, agents), same in cells.items():
        keys = {"reward_per_agent": 1, "T": 2, "collisions_per_agent": 2}
        words = [over([x[key] for x in same], digits) for key, digits in keys.items()]
        words.append(over([100 * x["success"] for x in same], 1))
        print(f"| {policy} | {agents} | {' | '.join(words)} |")


def density() -> None:
    """The same in worlds that grow with their agents; reward and #col are per agent."""
    print("| agents | episodes | reward | T | #col | S % | ms acting | stepping | MiB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for x in lines(HERE / "density.jsonl"):
        words = (
            f"{x['reward_per_agent']:.1f} | {x['T']:.2f} | {x['collisions_per_agent']:.2f} | "
            f"{100 * x['success']:.0f} | {1e3 * x['seconds_acting']:.1f} | "
            f"{1e3 * x['seconds_stepping']:.1f} | {x['peak_mib']:.0f}"
        )
        print(f"| {x['agents']} | {x['episodes']} | {words} |")


def draw() -> None:
    """S% during training, every task and policy, every seed a line."""
    shades = ("#c8553d", "#e0a13b", "#3b6fb6", "#8fb5e3", "#5f9e6e", "#777777", "#bbbbbb")
    colours = dict(zip(POLICIES, shades, strict=True))
    figure, all_axes = plt.subplots(1, len(TASKS), figsize=(13, 3.2), layout="constrained")
    for axes, task in zip(all_axes, TASKS, strict=True):
        for policy in POLICIES:
            for number, run in enumerate(seeds(f"{task}-{policy}")):
                found = lines(run / "evaluations.jsonl")
                success = [100 * statistics.fmean(e["metrics"]["success"]) for e in found]
                axes.plot([e["frames"] / 1e6 for e in found], success, color=colours[policy],
                          label=policy if number == 0 else None, linewidth=1.3)  # fmt: skip
        axes.set(title=task, xlabel="million frames", ylim=(-3, 103))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].set_ylabel("episodes in which all arrive, %")
    lines_by_name = {
        line.get_label(): line
        for axes in all_axes
        for line in axes.get_lines()
        if str(line.get_label()) in POLICIES
    }
    figure.legend(
        lines_by_name.values(), lines_by_name.keys(), frameon=False, loc="outside right center"
    )
    figure.savefig(HERE / "success.png", dpi=130)
    plt.close(figure)


def main() -> None:
    for show in (tasks, radii, scaling, density):
        show()
        print()
    draw()


if __name__ == "__main__":
    main()
