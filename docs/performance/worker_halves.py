"""What two halves of workers in turn could gain at best: one half steps while the other half acts.

A step costs this process ``own(B)`` (act, read, store), and the workers ``env(B)`` together. W
workers and this process on as many cores take ``own(B) + env(B) / W``, and in halves at best the
longer of ``env(B) / W`` and ``2 own(B/2)``. Two workers on two cores, which both are busy all the
time, take at best ``own(B/2) + env(B) / 2``. Measures the three in processor time.

    python docs/performance/worker_halves.py TASK NUM_ENVS HIDDEN [FILE]
"""

import json
import statistics
import sys
import tempfile
import time

import torch

from marl.cli import compose

ROUNDS, STEPS = 7, 20


def main(task: str, copies: int, hidden: str, file: str = "") -> None:
    own, half = (processor_time(task, count, hidden, 2) for count in (copies, copies // 2))
    env = processor_time(task, copies, hidden, 0) - own
    figures = {"task": task, "num_envs": copies, "hidden": hidden, "own_ms": own,
               "half_own_ms": half, "env_ms": env,
               "gain_on_2_cores": (own + env / 2) / (half + env / 2),
               "gain_of_8_workers": (own + env / 8) / max(env / 8, 2 * half)}  # fmt: skip
    line = json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()})
    print(line)
    if file:
        with open(file, "a") as out:
            out.write(line + "\n")


def processor_time(task: str, copies: int, hidden: str, workers: int) -> float:
    """Returns milliseconds that this process needs for a step, without its workers."""
    words = [f"task={task}", f"task.workers={workers}", f"num_envs={copies}", f"steps={STEPS}"]
    words += ["algorithm=mappo", f"model.hidden={hidden}", "progress=false"]
    run = compose.build(compose.composed([*words, f"directory={tempfile.mkdtemp()}/run"]))
    times = []
    for _ in range(ROUNDS):
        before = time.process_time()
        run.collector.collect()
        times.append((time.process_time() - before) / STEPS * 1e3)
    run.close()
    return statistics.median(times)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
