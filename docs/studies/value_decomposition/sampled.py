"""Greedy and sampled play of the suite's foraging policies, each on 320 fresh episodes.

    python docs/studies/value_decomposition/sampled.py

from the root of the tree; writes ``data/sampled.jsonl``, in a minute.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
EPISODES = 320
TASKS = ("foraging_8x8_2p_2f_coop", "foraging_10x10_3p_3f")


def returns(policy: str, *flags: str) -> list[float]:
    """Returns the returns of the episodes that a policy of the zoo plays."""
    command = [sys.executable, "-m", "marl", "evaluate", policy, "--json", *flags,
               "--episodes", str(EPISODES)]  # fmt: skip
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(printed)["returns"]["team"]


def main() -> None:
    lines = []
    for task in TASKS:
        for algorithm in ("iql", "vdn", "qmix", "mappo", "masac"):
            policy, record = f"zoo:value/{task}/{algorithm}", {"task": task, "algorithm": algorithm}
            for play, flags in {"greedy": (), "sampled": ("--sampled",)}.items():
                values = returns(policy, *flags)
                error = statistics.stdev(values) / EPISODES**0.5
                record |= {play: [statistics.fmean(values), error]}
            print(json.dumps(record), flush=True)
            lines.append(json.dumps(record))
    (HERE / "data" / "sampled.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
