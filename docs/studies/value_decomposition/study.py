"""QMIX's values where time limits bootstrap, and the suite's spread beside EPyMARL's paper."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from _common import Line, Lines, Panel, Row, group, mean_error, read, table

from marl.benchmark import records

SUITE = Path(__file__).resolve().parents[3] / "results" / "value"
#: EPyMARL's paper, Table 3, MPE simple_spread: see published.md for where it was read.
PUBLISHED = {
    "iql": "-132.6 ± 2.2",
    "vdn": "-131.0 ± 1.9",
    "qmix": "-126.6 ± 3.0",
    "mappo": "-133.5 ± 3.1",
    "masac": "",
}


TASKS = {"mpe/simple_spread": "spread", "foraging/8x8-2p-2f-coop": "foraging"}


def values(task: str) -> str:
    """Returns the table of what runs believed at their end, and earned."""
    rows = []
    for run in group(read("value_decomposition", "runs"), "task")[task,]:
        returns = [statistics.fmean(episodes) for episodes in run["returns"]]
        half = run["q"][len(run["q"]) // 2]
        believed = [f"{value:.1f}" for value in (half, run["q"][-1])]
        earned = [f"{value:.2f}" for value in (returns[-1], max(returns))]
        rows.append([run["label"], run["gamma"], f"{max(run['frames']):,}", *believed, *earned])
    header = ["run", "γ", "frames", "Q halfway", "Q at the end", "last return", "best return"]
    return table(header, rows)


def evaluations(algorithm: str) -> list[list[float]]:
    """Returns the mean returns of each seed's evaluations on spread."""
    runs = []
    for cell, record in records.find(SUITE):
        if (cell.task, cell.algorithm) == ("spread", algorithm):
            lines = records.read_lines(record / "evaluations.jsonl")
            runs.append([statistics.fmean(line["returns"]["team"]) for line in lines])
    return runs


def published() -> str:
    """Returns the table of the suite's spread beside the paper's."""
    rows = []
    for algorithm, figure in PUBLISHED.items():
        runs = evaluations(algorithm)
        best = max(zip(*runs, strict=True), key=statistics.fmean)
        last = [run[-1] for run in runs]
        rows.append([algorithm.upper(), len(runs), mean_error(best), mean_error(last), figure])
    header = ["", "seeds", "best evaluation", "last evaluation", "EPyMARL's paper, 2M frames"]
    return table(header, rows)


def sampled() -> str:
    """Returns the table of greedy and sampled play in foraging."""
    rows = []
    for run in read("value_decomposition", "sampled"):
        played = [f"{mean:.2f} ± {error:.2f}" for mean, error in (run["greedy"], run["sampled"])]
        rows.append([run["task"].removeprefix("foraging_"), run["algorithm"].upper(), *played])
    return table(["board", "", "greedy", "sampled"], rows)


def tables() -> dict[str, str]:
    return {
        "sampled": sampled(),
        **{name: values(task) for task, name in TASKS.items()},
        "published": published(),
    }


def curve(run: Row, key: str) -> Line:
    if key == "q":
        return Line(run["frames"], run["q"], run["label"])
    means = [statistics.fmean(episodes) for episodes in run["returns"]]
    return Line(run["evaluated"], means, run["label"])


def panels() -> Sequence[Panel]:
    runs = group(read("value_decomposition", "runs"), "task")
    titles = {"q": "mean Q of the batches", "return": "greedy return"}
    return [
        Lines(name, "frames", label, [curve(run, key) for run in runs[task,]])
        for task, name in TASKS.items()
        for key, label in titles.items()
    ]
