"""BenchMARL and marl in turn on R1, R2 or R3, by the clock, without marl's compiling.

    python docs/performance/benchmarl_pairs.py DIR/bin/python SCRIPT WORK [ROUNDS] [WORDS…]

from the root of the tree. DIR holds BenchMARL 1.5.2, SCRIPT runs it (``SCRIPT WORK THREADS
FRAMES`` prints frames/s), and WORK is R1, R2, MASAC or MADDPG. WORDS are settings of marl.
BenchMARL's figure is its whole run, as SCRIPT prints it; marl's is of as many frames, after two
iterations.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time

from marl.cli import compose
from marl.utils.device import keep_freed_memory

#: Experiment, frames of BenchMARL's run, and iterations of marl's.
WORKS = {
    "R1": ("speed_r1", 6_000, 1),
    "R2": ("speed_r2", 20_000, 10),
    "MASAC": ("speed_r3_masac", 6_000, 1),
    "MADDPG": ("speed_r3_maddpg", 6_000, 1),
}


def main() -> None:
    python, script, work = sys.argv[1:4]
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 7
    experiment, frames, iterations = WORKS[work]
    run = compose.build(compose.composed([
        f"experiment={experiment}", "threads=2", "evaluation_episodes=1", "video=false",
        "progress=false", f"directory={tempfile.mkdtemp()}/run", *sys.argv[5:],
    ]))  # fmt: skip
    pairs = []
    with run.process.use(), keep_freed_memory():

        def iterate() -> None:
            rollout, _ = run.collector.collect()
            run.learn(rollout)

        iterate()
        iterate()
        for _ in range(rounds):
            command = [python, script, work, "2", str(frames)]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            theirs = float(printed.split()[-2])
            began = time.perf_counter()
            for _ in range(iterations):
                iterate()
            seconds = time.perf_counter() - began
            ours = iterations * run.settings.frames_per_iteration / seconds
            pairs.append((theirs, ours))
            print(f"{theirs:.0f} {ours:.0f} {ours / theirs:.2f}", file=sys.stderr, flush=True)
    ratios = [ours / theirs for theirs, ours in pairs]
    record = {
        "work": work, "benchmarl": [p[0] for p in pairs], "marl": [round(p[1]) for p in pairs],
        "ratio": statistics.median(ratios), "from": min(ratios), "to": max(ratios),
    }  # fmt: skip
    print(json.dumps(record, default=lambda x: round(x, 3)))


if __name__ == "__main__":
    main()
