"""Times the dense and the sparse form of the graph encoder.

usage: F=docs/studies/informarl_crossover; python $F/measure.py > $F/data/milliseconds.jsonl

Agents, each with a goal and an obstacle, at Target's density; the own nodes of all agents through
the default encoder, both forms in turn: acting in 1 environment and in 32, and a forward and
backward pass over 64 moments, as in learning. Medians, milliseconds.
"""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

import torch

from marl.envs.task import Task
from marl.networks.entity_graph import agent_indices
from marl.networks.informarl import GraphEncoder, InforMARL

AGENTS = (3, 4, 5, 6, 8, 10, 12, 16, 24)
FORMS = ("dense", "sparse")
WORK = {"act_1": (1, False), "act_32": (32, False), "learn_64": (64, True)}


def measure(agents: int, copies: int, learning: bool, repetitions: int = 25) -> dict[str, float]:
    """Returns the milliseconds of either form."""
    side = 2 * (agents / 3) ** 0.5
    options = {"N": agents, "num_obstacles": agents, "world_size": side, "information": "local"}
    env = Task("navigation/target", kwargs=options)(copies, torch.device("cpu"))
    graph, spec = env.reset(0).graph, env.groups["agent"].entities
    assert graph is not None and spec is not None
    egos = agent_indices(graph)
    encoders = {form: GraphEncoder(InforMARL(form=form), spec, None) for form in FORMS}
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(repetitions + 2):
        for form, encoder in encoders.items():
            start = time.perf_counter()
            with torch.set_grad_enabled(learning):
                nodes = encoder.encode_egos(graph, egos)
            if learning:
                nodes.sum().backward()
            times[form].append(1e3 * (time.perf_counter() - start))
    return {form: round(statistics.median(values[2:]), 2) for form, values in times.items()}


def main() -> None:
    torch.set_num_threads(1)
    for agents in AGENTS:
        line: dict[str, Any] = {"agents": agents, "torch": torch.__version__}
        for name, (copies, learning) in WORK.items():
            times = measure(agents, copies, learning)
            line |= {f"{name}_{form}": value for form, value in times.items()}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
