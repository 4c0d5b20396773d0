"""Off-policy and on-policy algorithms on MPE after one million frames."""

from __future__ import annotations

from collections.abc import Sequence

from _common import Bars, Panel, Row, group, mean_error, means, read, table

ALGORITHMS = ("hasac", "masac", "maddpg", "matd3", "mappo", "happo")
PLAY = {  # random play, and the planner of environments.md
    ("spread", "continuous"): ("-76.1", "-18.9"),
    ("speaker_listener", "continuous"): ("-74.6", "-12.5"),
    ("reference", "continuous"): ("-54.2", "-12.8"),
    ("spread", "discrete"): ("-79.4", "-22.8"),
    ("speaker_listener", "discrete"): ("-85.2", "-16.0"),
}


def team_sums(rows: list[Row]) -> list[float]:
    """Returns each run's mean; a recorded return is the mean over the team's agents."""
    return [row["agents"] * mean for row, mean in zip(rows, means(rows, "return"), strict=True)]


def cell(rows: list[Row]) -> str:
    """Returns mean ± standard error: over seeds where there are several, else over episodes."""
    if len(rows) > 1:
        return f"{mean_error(team_sums(rows))} ({len(rows)})"
    return mean_error([rows[0]["agents"] * value for value in rows[0]["return"]])


def tables() -> dict[str, str]:
    rows = []
    for place, runs in group(read("mpe_1m", "runs"), "task", "actions").items():
        by_algorithm = group(runs, "algorithm")
        cells = [cell(by_algorithm[name,]) for name in ALGORITHMS]
        task, actions = place
        rows.append([f"{task}, {actions}", *cells, *PLAY[task, actions]])
    names = [name.upper() for name in ALGORITHMS]
    header = ["team sum (seeds)", *names, "random play", "planner"]
    return {"returns": table(header, rows)}


def panels() -> Sequence[Panel]:
    return [
        Bars(
            f"{task}, {actions}",
            "team sum",
            [name.upper() for name in ALGORITHMS],
            {"final policy": [team_sums(group(runs, "algorithm")[name,]) for name in ALGORITHMS]},
        )
        for (task, actions), runs in group(read("mpe_1m", "runs"), "task", "actions").items()
    ]
