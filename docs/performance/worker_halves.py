"""What two halves of workers in turn could gain at best: one half steps while the other half acts.

With two cores a whole step takes ``act(B) + env(B) / 2``, and in halves that keep both cores busy
all the time ``act(B/2) + env(B) / 2``. Measures the three in processor time, in one process.

    python docs/performance/worker_halves.py TASK NUM_ENVS HIDDEN [FILE]
"""

import json
import statistics
import sys
import tempfile
import time

import torch

from marl.cli import compose
from marl.training.collector import act, initial_carry

ROUNDS = 7


def main(task: str, copies: int, hidden: str, file: str = "") -> None:
    whole, half = (acting(task, count, hidden) for count in (copies, copies // 2))
    env = stepping(task, copies, hidden)
    gain = (whole + env / 2) / (half + env / 2)
    figures = {"task": task, "num_envs": copies, "hidden": hidden, "act_ms": whole,
               "half_act_ms": half, "env_ms": env, "largest_gain": gain}  # fmt: skip
    line = json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()})
    print(line)
    if file:
        with open(file, "a") as out:
            out.write(line + "\n")


def build(task, copies, hidden):
    words = [f"task={task}", f"num_envs={copies}", f"model.hidden={hidden}", "algorithm=mappo"]
    words += ["steps=8", "progress=false", f"directory={tempfile.mkdtemp()}/run"]
    return compose.build(compose.composed(words))


def acting(task, copies, hidden) -> float:
    """Returns milliseconds of an act in all copies."""
    run, generator = build(task, copies, hidden), torch.Generator()
    state = run.env.reset(0), initial_carry(run.teams, copies), torch.ones(copies).bool()
    return median(lambda: act(run.teams, *state, generator), 100)


def stepping(task, copies, hidden) -> float:
    """Returns milliseconds of a step of all copies, one after the other."""
    run = build(task, copies, hidden)
    obs, start = run.env.reset(0), torch.ones(copies).bool()
    step = act(run.teams, obs, initial_carry(run.teams, copies), start, torch.Generator())
    return median(lambda: run.env.step(step.action), 10)


def median(function, count) -> float:
    times = []
    for _ in range(ROUNDS):
        before = time.process_time()
        for _ in range(count):
            function()
        times.append((time.process_time() - before) / count * 1e3)
    return statistics.median(times)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.no_grad():
        main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
