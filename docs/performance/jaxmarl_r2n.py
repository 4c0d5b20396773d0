"""R2n beside JaxMARL's public IPPO on simple_spread, in turn, neither with its compiling.

    python docs/performance/jaxmarl_r2n.py DIR/bin/python BASELINE [ENVIRONMENTS] [ROUNDS] [WORDS…]

from the root of the tree, where DIR is an environment of its own (python -m venv DIR &&
DIR/bin/pip install jaxmarl flax optax distrax hydra-core) and BASELINE the file
baselines/IPPO/ippo_ff_mpe.py of JaxMARL's repository. WORDS are settings of marl, by default
``execution=compiled threads=1``. With CORE=0 both run on that core alone and their time is the
processor's own, for a machine that others use too; else it is the clock's.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import types
from typing import Any

STEPS, TIMED = 128, 60_000  # of a rollout; frames of one round
clock = time.process_time if "CORE" in os.environ else time.perf_counter


def minibatches(copies: int) -> int:
    return 4 if copies <= 16 else 16


def frames(copies: int) -> int:
    return max(TIMED, 3 * STEPS * copies) // (STEPS * copies) * STEPS * copies


def marl_worker(copies: int, words: list[str]) -> None:
    from marl.cli import compose
    from marl.utils.device import keep_freed_memory

    size = copies * STEPS // minibatches(copies)
    given = [
        "experiment=speed_r2n", "evaluation_episodes=1", "video=false", "progress=false",
        f"directory={tempfile.mkdtemp()}/run", f"num_envs={copies}",
        f"algorithm.minibatch_size={size}",
    ]  # fmt: skip
    run = compose.build(compose.composed([*given, *words]))

    def iterate() -> float:
        rollout, _ = run.collector.collect()
        between = clock()
        run.learn(rollout)
        return between

    with run.process.use(), keep_freed_memory():
        iterate()
        iterate()
        print("ready", flush=True)
        for _ in sys.stdin:
            began, collect = clock(), 0.0
            for _ in range(frames(copies) // (STEPS * copies)):
                start = clock()
                collect += iterate() - start
            seconds = clock() - began
            print(json.dumps([frames(copies) / seconds, collect / seconds]), flush=True)


def jaxmarl_worker(baseline: str, copies: int) -> None:
    import jax  # pyright: ignore[reportMissingImports]

    wandb: Any = types.ModuleType("wandb")  # not needed for the time
    wandb.log = lambda *args, **kwargs: None
    sys.modules.setdefault("wandb", wandb)
    spec: Any = importlib.util.spec_from_file_location("baseline", baseline)
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = {
        "LR": 2.5e-4, "NUM_ENVS": copies, "NUM_STEPS": STEPS, "TOTAL_TIMESTEPS": frames(copies),
        "UPDATE_EPOCHS": 4, "NUM_MINIBATCHES": minibatches(copies), "GAMMA": 0.99,
        "GAE_LAMBDA": 0.95, "CLIP_EPS": 0.2, "ENT_COEF": 0.01, "VF_COEF": 0.5,
        "MAX_GRAD_NORM": 0.5, "ACTIVATION": "tanh", "ENV_NAME": "MPE_simple_spread_v3",
        "ENV_KWARGS": {}, "ANNEAL_LR": True,
    }  # fmt: skip
    key = jax.random.PRNGKey(0)
    train = jax.jit(module.make_train(config)).lower(key).compile()
    jax.block_until_ready(train(key))
    print("ready", flush=True)
    for _ in sys.stdin:
        began = clock()
        jax.block_until_ready(train(key))
        print(json.dumps([frames(copies) / (clock() - began)]), flush=True)


def start(python: str, *arguments: str) -> subprocess.Popen[str]:
    core = ["taskset", "-c", os.environ["CORE"]] if "CORE" in os.environ else []
    command = [*core, python, __file__, *arguments]
    worker = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    while worker.stdout.readline().strip() != "ready":
        assert worker.poll() is None, f"{command} has ended"
    return worker


def ask(worker: subprocess.Popen[str]) -> list[float]:
    assert worker.stdin is not None and worker.stdout is not None
    print("go", file=worker.stdin, flush=True)
    return json.loads(worker.stdout.readline())


def main(python: str, baseline: str, copies: str = "16", rounds: str = "7", *words: str) -> None:
    words = words or ("execution=compiled", "threads=1")
    ours = start(sys.executable, "marl", copies, *words)
    other = start(python, "jaxmarl", baseline, copies)
    ratios = []
    for _ in range(int(rounds)):
        (marl, collect), (jaxmarl,) = ask(ours), ask(other)
        ratios.append(marl / jaxmarl)
        print(f"marl {marl:,.0f} ({collect:.0%} collecting)  JaxMARL {jaxmarl:,.0f}  "
              f"ratio {ratios[-1]:.2f}", flush=True)  # fmt: skip
    print(f"median of {rounds}: {statistics.median(ratios):.2f}")
    for worker in (ours, other):
        worker.kill()


match sys.argv[1:]:
    case ["marl", copies, *words]:
        marl_worker(int(copies), words)
    case ["jaxmarl", baseline, copies]:
        jaxmarl_worker(baseline, int(copies))
    case arguments:
        main(*arguments)
