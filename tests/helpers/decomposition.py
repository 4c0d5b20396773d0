"""Learners of value decomposition on matrix games, with every joint action once in each batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from marl.algorithms.registry import ALGORITHMS
from marl.envs.games.tasks import make
from marl.learning.replay import Replay, Sequences
from marl.networks.perceptron import Perceptron
from marl.types import tree_map
from tests.helpers.builders import CPU, context
from tests.helpers.decomposition_oracle import error
from tests.helpers.games import everything

MODEL = Perceptron([32], activation="relu", agent_id=True)


class ExactPlay:
    """A learner of a matrix game, whose batch is the exact uniform data.

    Args:
        name: of the algorithm.
        payoff: ``payoff[a_0, a_1]``.
        seed: of the weights.
        config: hyperparameters.
    """

    def __init__(self, name: str, payoff: np.ndarray, seed: int = 0, **config: Any):
        self.payoff = payoff
        self.env: Any = make("games/matrix", payoff.size, payoff=payoff.tolist())
        torch.manual_seed(seed)
        given = replace(context(self.env, MODEL), replay=Replay(10, payoff.size, CPU))
        self.learner: Any = ALGORITHMS[name](**config).build(given)
        self.batch = self._batch()

    def _batch(self) -> Sequences:
        obs = tree_map(lambda x: x.unsqueeze(0), self.env.reset(0))
        reward = torch.tensor(self.payoff, dtype=torch.float32).reshape(1, -1, 1)
        ends = torch.ones_like(reward, dtype=torch.bool)
        action = {"agent": everything(self.env).unsqueeze(0)}
        return Sequences(obs, obs, action, {}, reward, ends, ends, ends[..., 0], ends[..., 0])

    def learn(self, steps: int) -> None:
        for _ in range(steps):
            self.learner.updates += 1
            self.learner.update_utilities(self.batch)

    @torch.no_grad()
    def values(self, part: str = "") -> np.ndarray:
        """Q_tot of all joint actions, or another value of the learner: ``central``."""
        policy = getattr(self.learner, part or "policy")
        mixer = getattr(self.learner, f"{part}_mixer" if part else "mixer")
        utilities, _ = policy.unroll(self.batch.obs, {}, self.batch.start)
        value = self.learner.mix(mixer, self.batch.obs, self.learner.taken(utilities, self.batch))
        return value.reshape(self.payoff.shape).numpy()

    def error(self, part: str = "") -> float:
        """The squared error of ``values``, summed over the joint actions."""
        return error(self.values(part), self.payoff)
