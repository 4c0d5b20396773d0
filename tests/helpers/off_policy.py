"""Off-policy algorithms over the toys, with a replay that holds something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from marl.algorithms.actor_critic import ActorCritic
from marl.algorithms.registry import ALGORITHMS
from marl.algorithms.value_decomposition_config import ValueDecompositionConfig
from marl.learning.replay import Replay, ReplayBatch
from marl.networks.perceptron import Perceptron
from marl.training.build import build_teams
from marl.training.collector import Collector
from marl.training.evaluation import evaluate
from marl.training.teams import RunShape, Team, resolve_teams
from marl.types import Noise
from tests.helpers.builders import CPU
from tests.helpers.toy_envs import Game

MLP = Perceptron([32], activation="relu")
FAST: dict[str, Any] = {
    "actor_lr": 3e-3, "critic_lr": 3e-3, "gamma": 0.9, "tau": 0.02, "batch_size": 64,
    "frames_per_update": 16, "warmup": 256,
}  # fmt: skip
#: The same for value decomposition.
FAST_VALUE: dict[str, Any] = {
    "lr": 1e-2, "gamma": 0.9, "tau": 0.05, "batch_size": 64, "frames_per_update": 64,
    "warmup": 256, "epsilon_frames": 2000, "sequence_length": 4,
}  # fmt: skip
#: Names of the algorithms that decompose values.
VALUE = [
    name for name, config in ALGORITHMS.items() if issubclass(config, ValueDecompositionConfig)
]
NO_TEAMS: Mapping[str, Team] = {}


def gradient_step(algorithm: Any) -> dict[str, Tensor]:
    """One gradient step, whatever is due; its statistics."""
    with patch.object(algorithm, "batches", lambda rollout: [algorithm.next_batch()]):
        return dict(algorithm.update(None))


class Play:
    """Teams over a toy with one replay, as an experiment sets them up."""

    def __init__(
        self,
        make: Any,
        config: Any,
        model: Any = MLP,
        envs: int = 32,
        steps: int = 8,
        teams: Mapping[str, Team] = NO_TEAMS,
        frames: int = 20_000,
        word: str = "eager",
        **rules: Any,
    ):
        torch.manual_seed(0)
        self.make, self.rules = make, rules
        self.env: Game = make(envs, CPU, **rules)
        specs = resolve_teams(self.env, teams, Team(None, config, model))
        self.replay = Replay(frames, envs, CPU)
        shape = RunShape(envs, steps, 60, word)
        self.teams: Any = build_teams(self.env, specs, shape, 0, self.replay)
        generator = torch.Generator().manual_seed(0)
        self.collector = Collector(self.env, self.teams, steps, 0, generator)

    @property
    def first(self) -> ActorCritic:
        return next(iter(self.teams.values()))

    def iterate(self, times: int = 1, learn: bool = True) -> dict[str, Tensor]:
        """Collects, stores, learns; the last metrics of the first team."""
        metrics: dict[str, Tensor] = {}
        for _ in range(times):
            rollout, _ = self.collector.collect()
            self.replay.append(rollout)
            if learn:
                found = [team.update(rollout) for team in self.teams.values()]
                metrics = found[0]
        return metrics

    def returns(self) -> list[float]:
        """Every team's mean greedy return over 64 episodes."""
        found = evaluate(self.make(64, CPU, **self.rules), self.teams, 64, 1)["returns"]
        return [sum(values) / len(values) for values in found.values()]

    def batch(self, count: int = 16) -> tuple[ReplayBatch, list[Noise]]:
        """Transitions, and noise for three actions of everyone."""
        algorithm, generator = self.first, torch.Generator().manual_seed(5)
        drawn = algorithm.read(self.replay.draw(count, generator))
        return drawn, [algorithm.policy.noise(count, generator) for _ in range(3)]
