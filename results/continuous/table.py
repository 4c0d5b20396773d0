"""The table of results/README.md from the records beside this file: the final policies' team sums.

usage: python results/continuous/table.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

AGENTS = {"spread": 3, "speaker_listener": 2, "reference": 2}
ALGORITHMS = ("hasac", "masac", "maddpg", "matd3", "mappo", "happo")


def team_sums(run: Path) -> list[float]:
    """Of the last evaluation's episodes: a return is the mean over the team's agents."""
    last = json.loads((run / "evaluations.jsonl").read_text().splitlines()[-1])
    task = run.name.removeprefix("discrete-").rsplit("-", 2)[0]
    return [AGENTS[task] * value for value in last["returns"]["team"]]


def cell(runs: list[Path]) -> str:
    """Mean and standard error: over seeds where there are several, else over episodes."""
    if not runs:
        return ""
    sums = [team_sums(run) for run in runs]
    values = [statistics.fmean(each) for each in sums] if len(sums) > 1 else sums[0]
    mean, error = statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.1f} ± {error:.1f}" + (f" ({len(sums)})" if len(sums) > 1 else "")


def main() -> None:
    here = Path(__file__).parent
    print("| team sum (seeds) | " + " | ".join(name.upper() for name in ALGORITHMS) + " |")
    print("|---" * (len(ALGORITHMS) + 1) + "|")
    for kind in ("", "discrete-"):
        for task in AGENTS:
            found = [sorted(here.glob(f"{kind}{task}-{name}-*")) for name in ALGORITHMS]
            if any(found):
                word = "discrete" if kind else "continuous"
                print(f"| {task}, {word} | " + " | ".join(cell(runs) for runs in found) + " |")


if __name__ == "__main__":
    main()
