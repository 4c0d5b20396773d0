"""InforMARL trained with three agents, run with many more."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from _common import Line, Lines, Panel, group, mean_error, read, table

POLICIES = {"target-informarl": "InforMARL", "target-local": "MAPPO, local"}
PAPER = {  # reward per agent / T / #col per agent / S %
    3: "63.2 / .39 / .40 / 100",
    7: "61.2 / .38 / .74 / 100",
    10: "58.6 / .38 / .95 / 100",
    15: "53.2 / .39 / 1.28 / 100",
}


def percent(values: list[float]) -> str:
    written = mean_error([100 * value for value in values])
    return written.removesuffix(" ± 0.0").removesuffix(".0")


def same_world() -> str:
    rows = []
    runs = [{**r, "policy": r["run"].rpartition("-")[0]} for r in read(STUDY, "same_world")]
    for (policy, agents), same in group(runs, "policy", "agents").items():
        seeds = f"{POLICIES[policy]} ({len(same)} seed{'s' * (len(same) > 1)})"
        rows.append([
            seeds if agents == 3 else "", agents,
            mean_error([run["reward_per_agent"] for run in same]),
            f"{statistics.fmean(run['T'] for run in same):.2f}",
            mean_error([run["collisions_per_agent"] for run in same], 2),
            percent([run["success"] for run in same]),
            PAPER[agents] if policy == "target-informarl" else "",
        ])  # fmt: skip
    header = ["policy", "agents", "reward per agent", "T", "#col per agent", "S %"]
    return table([*header, "in the paper"], rows)


STUDY = "informarl_scaling"


def equal_density() -> str:
    rows = [
        [
            run["agents"], run["episodes"], f"{run['reward_per_agent']:.1f}", f"{run['T']:.2f}",
            f"{run['collisions_per_agent']:.2f}", f"{100 * run['success']:.0f}",
            f"{1e3 * run['seconds_acting']:.1f}", f"{1e3 * run['seconds_stepping']:.1f}",
            f"{run['peak_mib']:.0f}",
        ]
        for run in read(STUDY, "equal_density")
    ]  # fmt: skip
    header = ["agents", "episodes", "reward per agent", "T", "#col per agent", "S %"]
    return table([*header, "ms acting", "ms stepping", "MiB"], rows)


def tables() -> dict[str, str]:
    return {"same_world": same_world(), "equal_density": equal_density()}


def panels() -> Sequence[Panel]:
    runs = read(STUDY, "equal_density")
    agents = [run["agents"] for run in runs]
    names = {"seconds_acting": "acting", "seconds_stepping": "the world's step"}
    lines = [Line(agents, [1e3 * run[key] for run in runs], names[key]) for key in names]
    same = group(read(STUDY, "same_world"), "run")
    rewards = [
        Line(
            [run["agents"] for run in rows],
            [run["reward_per_agent"] for run in rows],
            POLICIES[name.rpartition("-")[0]],
        )
        for (name,), rows in same.items()
    ]
    return [
        Lines("the same world, 0 to 10 obstacles", "agents", "reward per agent", rewards),
        Lines(
            "worlds of equal density", "agents", "ms, one environment", lines,
            log_x=True, log_y=True,
        ),
    ]  # fmt: skip
