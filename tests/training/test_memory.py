"""What training will weigh is known before it begins, and refused where it is too much."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from marl.algorithms.happo import HAPPOConfig
from marl.algorithms.mappo import MAPPOConfig
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.entity_graph import surroundings, use_sizes_of
from marl.networks.informarl import InforMARL
from marl.networks.perceptron import Perceptron
from marl.policies.dag import BayesianNetworkConfig
from marl.training import memory
from marl.training.build import build_teams
from marl.training.collector import Collector
from marl.training.teams import RunShape, Team, resolve_teams
from marl.types import tree_map, tree_tensors
from tests.helpers.builders import CPU, SMALL
from tests.helpers.experiments import SHORT
from tests.helpers.processes import Child

MIB = 2**20


def built(task: Task, config: Any, model: Any, copies: int, steps: int) -> tuple[Any, Any]:
    env = task(copies, CPU)
    specs = resolve_teams(env, {}, Team(None, config, model, model))
    return env, build_teams(env, specs, RunShape(copies, steps, 10), 0)


def entities(count: int, **options: Any) -> Task:
    return Task("navigation/target", kwargs={"N": count, "num_obstacles": count, **options})


def test_the_peak_of_a_layer_by_hand() -> None:
    """4 bytes each: the layer's output, what relu gives beside it and is kept for its gradient, the
    sum, and the weights."""
    layer, x = nn.Linear(10, 20, device="meta"), torch.empty(1000, 10, device="meta")
    with memory.Peak() as peak:
        total = layer(x).relu().sum()
        assert peak.live_bytes == 4 * (20_000 + 1 + 200)
        assert peak.peak_bytes == 4 * (20_000 + 20_000 + 200)
        total.backward()
        assert peak.peak_bytes <= 4 * (20_000 + 20_000 + 1 + 200 + 200 + 20 + 2)


def measure(words: Path, config: Any, model: Any, task: Task, copies: int, steps: int) -> None:
    """Writes the estimate, and by how much the process grew at most in an iteration."""
    torch.set_num_threads(1)
    env, teams = built(task, config, model, copies, steps)
    found = memory.estimate(env, teams, env.reset(0), steps)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    rollout, _ = Collector(env, teams, steps, 0, torch.Generator()).collect()
    for team in teams.values():
        team.update(rollout)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    words.write_text(f"{found.total} {most - before}")


@pytest.mark.parametrize(
    ("model", "task", "copies", "steps"),
    [
        (Perceptron([256, 256]), entities(3), 64, 200),
        (InforMARL(), entities(10, world_size=3), 10, 10),
        (InforMARL(form="sparse"), entities(24, world_size=3), 16, 4),
    ],
    ids=["mlp", "dense", "sparse"],
)
def test_the_estimate_is_what_is_measured(
    tmp_path: Path, model: Any, task: Task, copies: int, steps: int
) -> None:
    """To a third, and 40 MiB of what else a process takes."""
    critic = "agent" if getattr(model, "form", "") == "sparse" else "all"
    config = MAPPOConfig(critic=critic, epochs=1)
    arguments = (tmp_path / "found", config, model, task, copies, steps)
    assert Child(tmp_path, measure, *arguments).wait().code == 0
    estimate, measured = map(int, (tmp_path / "found").read_text().split())
    assert estimate > 100 * MIB
    assert measured / 1.5 - 40 * MIB < estimate < measured * 1.33, (estimate, measured)


def test_imagined_surroundings_are_as_large_as_real_ones() -> None:
    env = entities(20, world_size=3)(2, CPU)
    graph = env.reset(0).graph
    assert graph is not None
    real = surroundings(graph, range(20), 2)
    with use_sizes_of(graph):
        found = surroundings(tree_map(lambda x: x.to("meta"), graph), range(20), 2)
        twice = tree_map(lambda x: torch.cat([x, x]).to("meta"), graph)
        larger = surroundings(twice, range(20), 2)
    assert [x.shape for x in vars(found).values()] == [x.shape for x in vars(real).values()]
    assert larger.edge_index.shape[1] == 2 * real.edge_index.shape[1]


@pytest.mark.parametrize(
    ("task", "config", "model"),
    [
        ("identity", MAPPOConfig(), Perceptron([8])),
        ("identity", MAPPOConfig(critic="agent", reward="own"), Perceptron([8], gru=8)),
        ("rivals", MAPPOConfig(critic="all"), Perceptron([8], sharing="per_agent")),
        ("mortal", HAPPOConfig(), Perceptron([8])),
        ("images", MAPPOConfig(), Perceptron(**SMALL)),
        ("multidiscrete", MAPPOConfig(), Perceptron([8])),
        ("continuous", MAPPOConfig(), Perceptron([8])),
        ("stateful", MAPPOConfig(critic="state"), Perceptron([8])),
        ("identity", MAPPOConfig(joint=BayesianNetworkConfig("full")), Perceptron([8])),
        ("identity", MAPPOConfig(joint=BayesianNetworkConfig("learned")), Perceptron([8])),
    ],
)
def test_every_kind_is_counted(task: str, config: Any, model: Any) -> None:
    env, teams = built(Task(f"tests.helpers.toy_envs:{task}"), config, model, 4, 10)
    obs = env.reset(0)
    for team in teams.values():
        once, twice = (memory._peak(team, obs, count, True) for count in (40, 80))
        assert 1.5 * once < twice + 8192 and twice > once > 0
        assert twice <= memory._bound(team, obs, 80, True) <= 10 * twice


def test_too_much_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    """Two hundred agents, whose central critic sees every entity as each of them does."""
    task, model = entities(200, world_size=8), InforMARL()
    arguments: Any = (task, MAPPOConfig(critic="all"), model)
    settings = Settings(**{**SHORT, "num_envs": 2, "evaluation_episodes": 1})
    words = (
        r"training weighs about [\d.]+ GiB: a rollout of 10 steps of 2 copies [\d.]+ .iB, and "
        r"learning from 20 frames at a time [\d.]+ GiB; memory_gib=16 is the limit; take .*"
    )
    with pytest.raises(UserError, match=words):
        Experiment(*arguments, settings=settings, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_surely_fits_is_counted_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    env, teams = built(Task("mpe/simple_spread"), MAPPOConfig(), Perceptron([8]), 4, 10)
    before = torch.get_rng_state()
    monkeypatch.setattr(memory, "_peak", None)
    memory.check(env, teams, env.reset(0), Settings(**SHORT))
    assert torch.equal(before, torch.get_rng_state())


def test_a_smaller_minibatch_is_advised(tmp_path: Path) -> None:
    def experiment(minibatch_size: int) -> Experiment:
        limit = Settings(**{**SHORT, "steps": 100}, memory_gib=0.1)
        config = MAPPOConfig(critic="all", minibatch_size=minibatch_size)
        directory = tmp_path / str(minibatch_size)
        return Experiment(entities(6, world_size=3), config, InforMARL(), settings=limit,
                          directory=directory)  # fmt: skip

    with pytest.raises(UserError, match=r"take algorithm.minibatch_size=\d+, fewer") as error:
        experiment(0)
    experiment(int(str(error.value).partition("minibatch_size=")[2].partition(",")[0]))


def test_a_rollout_is_counted_whole() -> None:
    env, teams = built(
        Task("tests.helpers.toy_envs:identity"), MAPPOConfig(), Perceptron([8]), 4, 10
    )
    obs = env.reset(0)
    found = memory.estimate(env, teams, obs, 10)
    rollout, _ = Collector(env, teams, 10, 0, torch.Generator()).collect()
    whole = sum(x.nbytes for x in tree_tensors(rollout))
    assert whole / 1.5 < found.rollout <= whole
