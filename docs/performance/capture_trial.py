"""Tries CUDA graphs on marl's own parts: the same kernels, launched one by one and replayed.

    python docs/performance/capture_trial.py [--json FILE]

from the root of the tree. A line for each part: milliseconds launched and replayed, and how far the
replayed results are from the launched ones. Without a GPU the parts run, and nothing is captured.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from marl.cli import compose
from marl.env import random_action
from marl.envs.task import Task
from marl.experiment import Experiment
from marl.training.provenance import provenance
from marl.types import tree_map, tree_tensors

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
SMALL = not CUDA


class Captured:
    """A function without arguments whose kernels are recorded once and replayed.

    Args:
        function: what to record; it reads and writes the same tensors in every call.
        generators: the sources of its random numbers.
        warmups: calls before the recording.
    """

    def __init__(
        self, function: Callable[[], Any], generators: Sequence[torch.Generator], warmups: int = 2
    ):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warmups):
                function()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        for generator in generators:
            self.graph.register_generator_state(generator)
        began = time.perf_counter()
        with torch.cuda.graph(self.graph):
            self.result = function()
        self.seconds = time.perf_counter() - began

    def __call__(self) -> Any:
        self.graph.replay()
        return self.result


def milliseconds(function: Callable[[], Any], least: float = 0.3, repeats: int = 5) -> float:
    """Returns the median time of a call."""
    times = []
    function()
    began = time.perf_counter()
    while len(times) < repeats and (len(times) < 3 or time.perf_counter() - began < 4 * least):
        calls, start = 0, synchronized()
        while calls == 0 or time.perf_counter() - start < least / repeats:
            function()
            calls += 1
        times.append((synchronized() - start) / calls)
    return sorted(times)[len(times) // 2] * 1e3


def synchronized() -> float:
    if CUDA:
        torch.cuda.synchronize()
    return time.perf_counter()


def write_back(before: Any, after: Any) -> None:
    """Copies new values into the tensors that the next replay reads."""
    for old, new in zip(tree_tensors(before), tree_tensors(after), strict=True):
        if old is not new:
            old.copy_(new)


def stepping(copies: int, compiled: bool, steps: int) -> tuple[Callable[[], Any], list[Any], Any]:
    """``steps`` steps of simple_spread by fixed actions, its generators, and its state."""
    env: Any = Task("mpe/simple_spread", kwargs={"compile": compiled})(copies, DEVICE)
    obs = env.reset(0)
    random = torch.Generator(DEVICE).manual_seed(1)
    actions = [
        {n: random_action(g, obs.groups[n], random) for n, g in env.groups.items()}
        for _ in range(steps)
    ]
    state = tree_map(torch.clone, env.state)
    env.state = state
    total = torch.zeros((), device=DEVICE)

    def run() -> Tensor:
        env.state = state
        for action in actions:
            reward = env.step(action).reward
            total.add_(sum(x.sum() for x in reward.values()))
        write_back(state, env.state)
        env.state = state
        return total

    return run, [env._random], state


def experiment(words: str, folder: Path) -> Experiment:
    given = f"device={DEVICE} evaluation_episodes=1 video=false progress=false directory={folder}"
    if SMALL:
        words += " num_envs=4"
    return compose.build(compose.composed([*words.split(), *given.split()]))


def collecting(run: Experiment) -> tuple[Callable[[], Any], list[Any], Any]:
    """The steps of a rollout, without the checks and metrics after it."""
    c, env = run.collector, run.env
    names = [name for name in ("state", "play") if hasattr(env, name)]
    held = tree_map(torch.clone, (c.obs, c.carry, c.start))
    states = {name: tree_map(torch.clone, getattr(env, name)) for name in names}

    def point() -> None:
        c.obs, c.carry, c.start = held
        for name in names:
            setattr(env, name, states[name])

    def collect() -> Any:
        point()
        for t in range(c.steps):
            c._step(t)
        write_back(held, (c.obs, c.carry, c.start))
        for name in names:
            write_back(states[name], getattr(env, name))
        point()
        return c.storage

    return collect, [env._random, c.generator], (held, states, c)  # type: ignore[attr-defined]


def updating(run: Experiment) -> tuple[Callable[[], Any], list[Any], Any]:
    """All epochs of an update from a fixed rollout."""
    rollout = tree_map(torch.clone, run.collector.collect()[0])
    if run.replay is not None:
        run.replay.append(rollout)
    (team,) = run.teams.values()
    return lambda: team.update(rollout), [team.context.generator], team  # type: ignore[attr-defined]


def vmas_world(name: str) -> tuple[Callable[[], Any], list[Any], Any]:
    """A step of a VMAS scenario by fixed actions; its own generator is torch's."""
    from vmas import make_env

    env: Any = make_env(name, num_envs=60, device=str(DEVICE), continuous_actions=True, seed=0)
    actions = [env.get_random_action(agent) for agent in env.agents]
    if not env.world._gravity.any():  # VMAS asks at every step whether it is 0
        env.world._gravity = env.world._gravity.cpu()
    entities = env.world.entities
    parts = [*(e.state for e in entities), *(a.action for a in env.agents), *entities]
    parts += [env, env.world, env.scenario]
    slots = [(part, key, value) for part in parts for key, value in vars(part).items()
             if isinstance(value, Tensor)]  # fmt: skip
    held = [(part, key, value.clone()) for part, key, value in slots]
    for part, key, value in held:
        setattr(part, key, value)
    reward = [x.clone().float() for x in env.step([a.clone() for a in actions])[1]]

    def step() -> None:
        for part, key, value in held:
            setattr(part, key, value)
        out = env.step([a.clone() for a in actions])
        for old, new in zip(reward, out[1], strict=True):
            old.copy_(new)
        for part, key, value in held:
            if getattr(part, key) is not value:
                value.copy_(getattr(part, key))

    return step, [], [*(v for _, _, v in held if v.is_floating_point()), *reward]


def tensors_of(subject: Any) -> list[Tensor]:
    if hasattr(subject, "state_dict"):
        return [x for x in tree_tensors(subject.state_dict()) if x.dtype.is_floating_point]
    held, state, collector = subject
    return [x for x in tree_tensors((held, state, collector.storage)) if x.dtype.is_floating_point]


def compare(name: str, make: Callable[[], tuple[Callable[[], Any], list[Any], Any]],
            tensors: Callable[[Any], list[Tensor]] = tensors_of) -> dict[str, Any]:  # fmt: skip
    """Times a part both ways, from equal beginnings, and compares the results of a fourth call."""
    figures: dict[str, Any] = {"part": name}
    try:
        function, generators, subject = make()
        for _ in range(4):
            function()
        expected = [x.clone() for x in tensors(subject)]
        figures["launched_ms"] = milliseconds(function)
        if CUDA:
            function, generators, subject = make()
            began = time.perf_counter()
            before = torch.cuda.memory_allocated()
            captured = Captured(function, generators)
            figures["capture_s"] = time.perf_counter() - began
            for _ in range(2):
                captured()
            torch.cuda.synchronize()
            pairs = list(zip(tensors(subject), expected, strict=True))
            gaps = [float((a - b).norm() / (b.norm() + 1e-12)) for a, b in pairs]
            figures["largest_gap"] = max(gaps)
            figures["equal"] = all(torch.equal(a, b) for a, b in pairs)
            figures["replayed_ms"] = milliseconds(captured)
            figures["graph_mb"] = (torch.cuda.memory_allocated() - before) / 2**20
    except Exception as error:
        figures["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        traceback.print_exc(limit=-3)
    print({k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}, flush=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--json")
    parser.add_argument("--only", help="regular expression of the parts to try")
    options = parser.parse_args()
    spread = "task=mpe/simple_spread algorithm=mappo num_envs=4096 steps=25"
    replayed = "task=mpe/simple_spread num_envs=64 steps=25 algorithm.warmup=100"
    world = "task.kwargs.compile=true"
    folder = Path(tempfile.mkdtemp())
    runs = iter(range(100))
    parts: list[tuple[str, Callable[[], Any], Any]] = []
    just_state = lambda state: [x for x in tree_tensors(state) if x.is_floating_point()]  # noqa: E731
    for copies in (16,) if SMALL else (1024, 65536):
        for compiled in (False,) if SMALL else (False, True):
            for steps in (1, 25):
                name = f"world {copies}{' compiled' if compiled else ''} x {steps}"
                part = lambda c=copies, k=compiled, s=steps: stepping(c, k, s)  # noqa: E731
                parts.append((name, part, just_state))
    new = lambda words: experiment(words, folder / str(next(runs)))  # noqa: E731
    for name, words in {
        "mappo spread": spread,
        "mappo spread, compiled world": f"{spread} {world}",
        "ippo-gru spread": "task=mpe/simple_spread algorithm=ippo model=gru num_envs=1024 steps=20",
        "aloha learned": "experiment=bayes_aloha num_envs=1024 algorithm.joint.graph=learned",
        "informarl": "experiment=informarl_target num_envs=1024 algorithm.minibatch_size=6400 "
        "algorithm.compile=false",
        "happo spread": spread.replace("mappo", "happo"),
        "masac spread": f"{replayed} algorithm=masac",
        "hasac spread": f"{replayed} algorithm=hasac",
        "maddpg spread": f"{replayed} algorithm=maddpg",
    }.items():
        parts.append((f"collect {name}", lambda w=words: collecting(new(w)), tensors_of))
        if "world" not in name:
            parts.append((f"update {name}", lambda w=words: updating(new(w)), tensors_of))
    r1 = "experiment=speed_r1 algorithm.compile=false"
    parts.append(("update R1", lambda: updating(new(f"{r1} algorithm.epochs=5")), tensors_of))
    import vmas

    for scenario in vmas.scenarios:
        part = lambda n=scenario: vmas_world(n)  # noqa: E731
        parts.append((f"vmas {scenario}", part, just_state))
    if options.only:
        parts = [part for part in parts if re.search(options.only, part[0])]
    for name, make, tensors in parts:
        figures = compare(name, make, tensors)
        if options.json:
            with open(options.json, "a") as file:
                file.write(json.dumps(figures | provenance()) + "\n")
        if CUDA:
            torch.cuda.empty_cache()


main()
