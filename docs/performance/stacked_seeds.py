"""One seed of a run beside S stacked ones, in turn, in one process.

    python docs/performance/stacked_seeds.py SEEDS ROUNDS [WORDS…]

WORDS are settings of marl; without ``task=`` those of ``experiment=speed_r2n``. Prints the median
milliseconds of an iteration (collecting and learning), and the median and range of the ratios.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time

from marl.cli import compose
from marl.experiment import Experiment
from marl.stacked_run import StackedRun
from marl.utils.device import keep_freed_memory, use_threads


def build(words: list[str], seed: int) -> Experiment:
    given = ["evaluation_episodes=1", "video=false", "progress=false", f"seed={seed}",
             f"directory={tempfile.mkdtemp()}/run"]  # fmt: skip
    if not any(word.startswith("task=") for word in words):
        given.insert(0, "experiment=speed_r2n")
    return compose.build(compose.composed([*given, *words]))


def iterate(run: Experiment) -> tuple[float, float]:
    began = time.perf_counter()
    rollout, _ = run.collector.collect()
    collect = time.perf_counter() - began
    run.learn(rollout)
    return collect, time.perf_counter() - began - collect


def iterate_all(stack: StackedRun, iteration: int) -> tuple[float, float]:
    began = time.perf_counter()
    parts, rollout = stack.collector.collect()
    for run, part in zip(stack.runs, parts, strict=True):
        run.collector.metrics(*part)
    collect = time.perf_counter() - began
    for team in stack.teams.values():
        team.update(rollout, iteration)
    return collect, time.perf_counter() - began - collect


def main() -> None:
    seeds, rounds, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    one, stack = build(words, seeds), StackedRun([build(words, seed) for seed in range(seeds)])
    times = []
    with use_threads(one.settings.threads), keep_freed_memory():
        for iteration in range(rounds + 2):
            times.append((iterate(one), iterate_all(stack, iteration)))
    single, stacked = zip(*times[2:], strict=True)
    ratios = [sum(b) / sum(a) for a, b in zip(single, stacked, strict=True)]
    ms = [[1000 * statistics.median(part) for part in zip(*x, strict=True)]
          for x in (single, stacked)]  # fmt: skip
    record = {
        "words": words, "seeds": seeds, "one_ms": ms[0], "stacked_ms": ms[1],
        "ratio": statistics.median(ratios), "from": min(ratios), "to": max(ratios),
    }  # fmt: skip
    print(json.dumps(record, default=lambda x: round(x, 3)))


if __name__ == "__main__":
    main()
