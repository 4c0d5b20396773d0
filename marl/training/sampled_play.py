"""Teams that sample their actions as in training, for evaluations and games against past selves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from marl.algorithm import Algorithm
from marl.policies.fixed import Scripted
from marl.types import Carry, Observation, PolicyStep
from marl.utils.capabilities import learns


class Sampling(Scripted):
    """A team with the policy and the exploration noise of another, without its random warm-up.

    Args:
        team: the other team, which does not change.
    """

    def __init__(self, team: Algorithm):
        super().__init__(team.policy, True)
        self.scaled: Any = getattr(team, "exploration_noise", lambda noise: noise)

    @torch.no_grad()
    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep:
        noise = self.scaled(self.policy.noise(start.shape[0], generator))
        return self.policy.act(obs, carry, start, noise)


def sampling(teams: Mapping[str, Algorithm]) -> dict[str, Algorithm]:
    """Returns teams with sampled actions for those that learn; others are as they are.

    So are algorithms of users whose policies draw their own noise, in ``act`` with ``explore``.
    """
    return {
        name: Sampling(team) if learns(team) and hasattr(team.policy, "noise") else team
        for name, team in teams.items()
    }
