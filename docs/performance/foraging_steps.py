"""Steps a second of foraging 8x8-2p-2f under random actions: lbforaging in one process, and ours.

    .venv/bin/python docs/performance/foraging_steps.py [ROUNDS] [SECONDS] [COPIES] [FILE]

after ``pip install lbforaging==2.0.0``. The programs take turns, one thread each. On a shared
machine the processor's own seconds say more than the clock's; both are printed, and appended to
FILE.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import gymnasium
import lbforaging  # noqa: F401  # pyright: ignore[reportMissingImports]
import numpy as np
import torch

from marl.envs.foraging.tasks import make
from marl.training.provenance import provenance
from marl.utils.places import without_places

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3.0
copies = int(sys.argv[3]) if len(sys.argv) > 3 else 1024
choices = np.random.default_rng(0).integers(0, 6, (1000, 2))
actions = [{"agent": torch.randint(6, (copies, 2))} for _ in range(100)]
raw = gymnasium.make("Foraging-8x8-2p-2f-v3", disable_env_checker=True)
envs = {word: make("foraging/8x8-2p-2f", copies, compile=word == "compiled")
        for word in ("eager", "compiled")}  # fmt: skip


def step_package(number: int) -> None:
    *_, terminated, truncated, _ = raw.step(tuple(choices[number % 1000]))
    if terminated or truncated:
        raw.reset()


def step_native(word: str) -> Callable[[int], None]:
    return lambda number: envs[word].step(actions[number % 100]) and None


def rates(step: Callable[[int], None], frames: int) -> tuple[float, float]:
    """Frames a second by the clock, and by the processor's time of this process."""
    steps, began, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        step(steps)
        steps += 1
    count = steps * frames
    return count / (time.perf_counter() - began), count / (time.process_time() - used)


torch.set_num_threads(1)
raw.reset(seed=0)
for env in envs.values():
    env.reset(0)
    for number in range(200):  # episodes no longer end together
        env.step(actions[number % 100])
figures: dict[str, list[tuple[float, float]]] = {"lbforaging": [], "eager": [], "compiled": []}
for _ in range(rounds):
    figures["lbforaging"].append(rates(step_package, 1))
    for word in envs:
        figures[word].append(rates(step_native(word), copies))
    package = figures["lbforaging"][-1]
    for word, (*_, ours) in figures.items():
        ratios = [mine / theirs for mine, theirs in zip(ours, package, strict=True)]
        times = f"{ratios[0]:.0f} times ({ratios[1]:.0f})"
        print(f"{word}: {ours[0]:,.0f} steps/s ({ours[1]:,.0f} by processor time), {times}")
if len(sys.argv) > 4:
    told = {"copies": copies, "steps_per_second": figures, "lbforaging": version("lbforaging")}
    with Path(sys.argv[4]).open("a") as file:
        file.write(json.dumps(without_places({**told, **provenance()})) + "\n")
