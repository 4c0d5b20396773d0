"""Games really learned, to a return that neither chance nor a broken algorithm reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from marl.algorithms.mappo import IPPOConfig, MAPPOConfig
from marl.envs.task import Task
from marl.experiment import Experiment, Settings
from marl.learning import returns
from marl.networks.informarl import InforMARL
from marl.networks.perceptron import Perceptron
from marl.training.build import build_teams
from marl.training.collector import Collector
from marl.training.evaluation import evaluate
from marl.training.teams import RunShape, Team, resolve_teams
from tests.helpers.builders import CPU
from tests.helpers.toy_envs import Game, Pointed, continuous, identity, matrix, memory, rivals

ENVS, STEPS = 32, 8
FAST = {"actor_lr": 1e-2, "critic_lr": 1e-2, "epochs": 4, "chunk_length": 8, "gamma": 0.9}


def learned(
    make: Any, config: Any, model: Perceptron, iterations: int, **rules: Any
) -> list[float]:
    """Every team's mean greedy return over 64 episodes, after so many updates."""
    torch.manual_seed(0)
    env: Game = make(ENVS, CPU, **rules)
    specs = resolve_teams(env, {}, Team(None, config, model))
    teams = build_teams(env, specs, RunShape(ENVS, STEPS, iterations), seed=0)
    collect = Collector(env, teams, STEPS, 0, torch.Generator().manual_seed(0))
    for _ in range(iterations):
        rollout, _ = collect.collect()
        for team in teams.values():
            team.update(rollout)
    found = evaluate(make(64, CPU, **rules), teams, 64, 1)["returns"]
    return [sum(values) / len(values) for values in found.values()]


MLP, GRU = Perceptron([32]), Perceptron([32], gru=32)


@pytest.mark.parametrize("config", [MAPPOConfig(**FAST), IPPOConfig(**FAST)], ids=["mappo", "ippo"])
def test_identity(config: MAPPOConfig) -> None:
    """4 for perfect play, about 1.2 by chance."""
    assert learned(identity, config, MLP, 25, end=0.0)[0] > 3.6


@pytest.mark.parametrize(
    ("gru", "sharing"),
    [
        (0, "per_agent"),
        (16, "shared"),
        pytest.param(0, "shared", marks=pytest.mark.slow),
        pytest.param(16, "per_agent", marks=pytest.mark.slow),
    ],
)
def test_what_the_graph_tells_is_learned(gru: int, sharing: str) -> None:
    """4 for perfect play, 1 by chance: nothing is seen but the graph."""
    model = InforMARL([32], sharing=sharing, gru=gru)
    assert learned(Pointed, MAPPOConfig(**FAST), model, 25, end=0.0)[0] > 3.6


def test_every_rival_learns() -> None:
    left, right = learned(rivals, MAPPOConfig(**FAST), MLP, 30, end=0.0)
    assert left > 3.6 and right > 3.6


def test_agents_must_agree() -> None:
    """A matrix game: both must play the same, and one of the three ways pays best."""
    assert learned(matrix, MAPPOConfig(**FAST), MLP, 15)[0] > 3.8


def test_continuous() -> None:
    """The mean distance to the code over 4 steps: chance is near -4, the centre near -3.5."""
    assert learned(continuous, MAPPOConfig(**FAST, entropy=0.0), MLP, 60, end=0.0)[0] > -1.6


def test_memory_is_learned_with_memory_only() -> None:
    """Without memory 2 of 4 is the most: the code in the first step, a guess in the others."""
    assert learned(memory, MAPPOConfig(**FAST), GRU, 30)[0] > 3.5
    assert learned(memory, MAPPOConfig(**FAST), MLP, 20)[0] < 2.5


@pytest.mark.parametrize("broken", ["zero", "sign"])
def test_broken_advantages_do_not_pass(monkeypatch, broken: str) -> None:
    """The thresholds above are worth something."""
    right = returns.gae

    def wrong(*arguments: Any) -> Any:
        advantage, target = right(*arguments)
        return (-advantage if broken == "sign" else torch.zeros_like(advantage)), target

    monkeypatch.setattr(returns, "gae", wrong)
    assert learned(identity, MAPPOConfig(**FAST), MLP, 25, end=0.0)[0] < 2.0


# --------------------------------------------------------------------------------------- real tasks


def trained(
    directory: Path, task: Task, frames: int, model: Perceptron | None = None, **config: Any
) -> tuple[float, float]:
    """Mean greedy returns before and after."""
    settings = Settings(
        total_frames=frames, num_envs=32, steps=100, evaluation_interval=frames,
        evaluation_episodes=32, progress=False,
    )  # fmt: skip
    run = Experiment(
        task, MAPPOConfig(**config), model or Perceptron(), settings=settings, directory=directory
    )
    returns: list[float] = []
    run.log.sinks.append(Remember(returns))
    run.run()
    run.close()
    return returns[0], returns[-1]


class Remember:
    def __init__(self, returns: list[float]):
        self.returns = returns

    def log(self, kind: str, record: Any) -> None:
        if kind == "evaluations":
            (values,) = record["returns"].values()
            self.returns.append(sum(values) / len(values))

    def close(self) -> None: ...


@pytest.mark.slow
def test_vmas_navigation(tmp_path: Path) -> None:
    """Measured 1.8 from 0.0; with advantages of zero it stays at 0.0."""
    task = Task("vmas/navigation", kwargs={"n_agents": 2})
    options = {"minibatch_size": 800, "gamma": 0.9, "gae_lambda": 0.9, "entropy": 0.0, "epochs": 5}
    before, after = trained(tmp_path / "run", task, 128_000, **options)
    assert before < 0.5 and after > 1.2


@pytest.mark.slow
def test_mpe_simple(tmp_path: Path) -> None:
    """Measured -9 from -164; with advantages of zero it reaches -71."""
    task = Task("mpe2/simple_v3", max_steps=25)
    before, after = trained(tmp_path / "run", task, 64_000, minibatch_size=800, epochs=5)
    assert before < -60 and after > -20


@pytest.mark.slow
def test_target_with_graphs(tmp_path: Path) -> None:
    """Two agents and one obstacle. Measured 41 from -39; with advantages of zero -29."""
    options = {"N": 2, "num_obstacles": 1, "information": "local"}
    task = Task("navigation/target", kwargs=options)
    model = InforMARL([64], layer_norm=True, input_norm=True)
    config = {"minibatch_size": 800, "epochs": 5, "reward": "team_sum", "actor_lr": 1e-3}
    before, after = trained(tmp_path / "run", task, 96_000, model, critic_lr=1e-3, **config)
    assert before < -20 and after > 20
