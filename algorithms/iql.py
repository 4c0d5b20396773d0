"""IQL, independent Q-learning: every agent learns the value of its own choices (Tan 1993)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from marl.algorithm import Context
from marl.algorithms.value_decomposition import ValueDecomposition
from marl.algorithms.value_decomposition_config import ValueDecompositionConfig
from marl.learning.replay import Sequences
from marl.types import Observation


@dataclass
class IQLConfig(ValueDecompositionConfig):
    """Hyperparameters of IQL: those of value decomposition."""

    #: What an agent's return sums: its ``own`` rewards, or the team's ``team_sum`` or
    #: ``team_mean``, which then is every agent's.
    reward: str = "team_mean"

    def build(self, context: Context) -> IQL:
        return IQL(self, context)


class IQL(ValueDecomposition[IQLConfig]):
    """Independent Q-learning: deep Q-learning of each agent, as if the others were environment.

    Sources: Tan 1993, "Multi-Agent Reinforcement Learning: Independent vs. Cooperative Agents";
    Mnih et al. 2015 for target networks and replay. Under a team's reward an agent's return goes on
    after its death, but its own value then is 0.

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm; with a replay.
    """

    def __init__(self, config: IQLConfig, context: Context):
        super().__init__(config, context, Unmixed())

    def mask(self, batch: Sequences) -> Tensor | None:
        return self.alive(batch.obs)


class Unmixed(nn.Module):
    """No mixer: the values are the agents' own, ``[..., N]``."""

    reads_choices = False

    def forward(self, obs: Observation, q: Tensor, best: Tensor, action: Tensor) -> Tensor:
        return q
