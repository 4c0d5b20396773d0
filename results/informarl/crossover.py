"""Where the sparse form of the graph encoder overtakes the dense one.

usage: python results/informarl/crossover.py > results/informarl/crossover.jsonl

Agents, each with a goal and an obstacle, at Target's density; the own nodes of all agents through
the default encoder, both forms by turns: acting in 1 environment and in 32, and a forward and
backward pass over 64 moments, as in learning. Medians, milliseconds.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import torch

from marl.envs.task import Task
from marl.networks.entity_graph import agents_of
from marl.networks.informarl import GraphEncoder, InforMARL

AGENTS = (3, 4, 5, 6, 8, 10, 12, 16, 24)
FORMS = ("dense", "sparse")


def measured(agents: int, copies: int, learning: bool, repetitions: int = 25) -> dict[str, float]:
    """Milliseconds of either form."""
    side = 2 * (agents / 3) ** 0.5
    options = {"N": agents, "num_obstacles": agents, "world_size": side, "information": "local"}
    env = Task("navigation/target", kwargs=options)(copies, torch.device("cpu"))
    graph, spec = env.reset(0).graph, env.groups["agent"].entities
    assert graph is not None and spec is not None
    egos = agents_of(graph)
    encoders = {form: GraphEncoder(InforMARL(form=form), spec, None) for form in FORMS}
    found: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(repetitions + 2):
        for form, encoder in encoders.items():
            began = time.perf_counter()
            with torch.set_grad_enabled(learning):
                nodes = encoder.own(graph, egos)
            if learning:
                nodes.sum().backward()
            found[form].append(1e3 * (time.perf_counter() - began))
    return {form: round(statistics.median(times[2:]), 2) for form, times in found.items()}


def main() -> None:
    torch.set_num_threads(1)
    for agents in AGENTS:
        line: dict[str, Any] = {"agents": agents, "torch": torch.__version__}
        for name, copies, learning in (
            ("act_1", 1, False),
            ("act_32", 32, False),
            ("learn_64", 64, True),
        ):
            line |= {
                f"{name}_{form}": ms for form, ms in measured(agents, copies, learning).items()
            }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
