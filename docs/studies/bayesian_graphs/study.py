"""Joint policies along given, learned and annealed graphs, beside MAPPO and IPPO."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from _common import Line, Lines, Matrix, Panel, Row, group, read, table

STUDY = "bayesian_graphs"
POLICIES = ("mappo", "ippo", "full", "learned", "annealed")
BEST = {"coordination": 69.1, "aloha": 9.549}
QUANTILE = {3: 4.302653, 5: 2.776445}  # Student's t, 97.5 %, of so many values
ADJACENCY = {  # whose mean adjacency matrices are shown, at which of six moments
    "coordination-learned": [5],
    "coordination-annealed": [3],
    "aloha-annealed": [3, 5],
}
TRIED = {  # name of a run -> task, policies
    "spread-mappo-100": ("spread", "mappo"),
    "spread-full-100": ("spread", "full"),
    "spread-learned-kl-100": ("spread", "learned, `target_kl=0.03`"),
    "speaker_listener-mappo-100": ("speaker_listener", "mappo"),
    "speaker_listener-full-100": ("speaker_listener", "full, the speaker first"),
}


def interval(values: list[float]) -> str:
    """Returns the mean and the half width of its 95 % interval."""
    mean = f"{statistics.fmean(values):.2f}"
    if len(values) < 2:
        return mean
    half = QUANTILE[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean} ± {half:.2f}"


def runs() -> dict[tuple[str, str], list[Row]]:
    found = group(read(STUDY, "runs"), "task", "policy")
    return {(task, policy): rows for (task, policy), rows in found.items()}


def returns() -> str:
    body = []
    for (task, policy), rows in runs().items():
        values = [statistics.fmean(row["return"]) for row in rows]
        density = [row["density"]["density"][-1] for row in rows if "density" in row]
        body.append([
            task, policy, len(rows), interval(values),
            " ".join(f"{value:.1f}" for value in sorted(values)),
            f"{statistics.fmean(density):.2f}" if density else "",
            f"{statistics.fmean(row['seconds'] for row in rows):.0f}",
        ])  # fmt: skip
    header = ["task", "policies", "seeds", "return, 95% interval", "every seed"]
    return table([*header, "density", "seconds"], body)


def tried() -> str:
    """What one seed came to by the moments at which all of a task were evaluated."""
    moments = {"spread": 300_000, "speaker_listener": 200_000}
    curves = {run["run"]: run["evaluations"] for run in read(STUDY, "tried")}
    rows = []
    for name, (task, policy) in TRIED.items():
        at = curves[name]["frames"].index(moments[task])
        value = curves[name]["return"][at]
        rows.append([task, policy, f"{moments[task] // 1000}k", f"{value:.1f}"])
    return table(["task", "policies", "frames", "return"], rows)


def tables() -> dict[str, str]:
    return {"returns": returns(), "tried": tried()}


def panels() -> Sequence[Panel]:
    found = runs()
    tasks = list(dict.fromkeys(task for task, _ in found))
    curves: list[Panel] = [
        Lines(
            f"{task}: return",
            "thousand frames",
            "return",
            [
                Line([f / 1e3 for f in row["evaluations"]["frames"][first:]],
                     row["evaluations"]["return"][first:], policy)
                for policy in POLICIES for row in found.get((task, policy), [])
            ],
            level=BEST.get(task),
        )
        for task in tasks for first in [2 if task == "aloha" else 0]  # it begins below -1,000
    ]  # fmt: skip
    densities: list[Panel] = [
        Lines(
            f"{task}: density of the graph",
            "thousand frames",
            "density",
            [
                Line([f / 1e3 for f in row["density"]["frames"]], row["density"]["density"], policy)
                for policy in POLICIES for row in found.get((task, policy), []) if "density" in row
            ],
        )
        for task in tasks
    ]  # fmt: skip
    adjacency: list[Panel] = []
    for (name,), moments in group(read(STUDY, "adjacency"), "run").items():
        task = name.rpartition("-")[0]
        for i in ADJACENCY[task]:
            title = f"{task}, {moments[i]['frames'] / 1e3:.0f}k: mean of G"
            adjacency.append(
                Matrix(title, moments[i]["mean"], x_label="child", y_label="parent", limits=(0, 1))
            )
    return [*curves, *densities, *adjacency]
