"""VDN: the team's value is the sum of its agents' utilities (Sunehag et al. 2018).

With ``mean`` and ``ensemble`` it is DecQN (Seyde et al. 2023) and REValueD (Ireland and Montana
2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from marl.algorithm import Context
from marl.algorithms.value_decomposition import Choice, ValueDecomposition
from marl.algorithms.value_decomposition_config import (
    ValueDecompositionConfig,
    check_team_reward,
)
from marl.critics.mixers import Mixer, Sum
from marl.policies.greedy import GreedyPolicy
from marl.types import Observation
from marl.utils.validation import check_range


@dataclass
class VDNConfig(ValueDecompositionConfig):
    """Hyperparameters of VDN: those of value decomposition, and of DecQN and REValueD."""

    #: What the return sums: the ``team_sum`` or the ``team_mean`` of the agents' rewards.
    reward: str = "team_mean"
    #: Whether the team's value is the mean of utilities, as in DecQN, in place of their sum.
    mean: bool = False
    #: E, networks of each agent, whose mean utility is played and is the target of each, as in
    #: REValueD; 1, or 10 there.
    ensemble: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_team_reward(self.reward)
        check_range(self, ensemble=(1, 100))

    def policy(self, context: Context) -> GreedyPolicy:
        policy = GreedyPolicy(
            context.team,
            context.model,
            members=self.ensemble,
            bins=self.bins,
            mean=self.mean,
            store_carry=self.stored_carries,
        )
        return policy.to(context.device)

    def build(self, context: Context) -> VDN:
        return VDN(self, context)


class VDN(ValueDecomposition[VDNConfig]):
    """Value-decomposition networks: Q_tot = sum_i q_i.

    Source: Sunehag et al. 2018, "Value-Decomposition Networks For Cooperative Multi-Agent
    Learning". An ensemble is that of Ireland & Montana 2024, "REValueD", without its regulariser;
    its agents explore by epsilon alone, and not by a random member.

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm; with a replay.
    """

    def __init__(self, config: VDNConfig, context: Context):
        super().__init__(config, context, Sum(config.mean))

    def mix(self, mixer: Mixer, obs: Observation, choice: Choice) -> Tensor:
        """Returns the value of each member, ``[..., E]``; of targets their mean, ``[..., 1]``."""
        columns = zip(choice.q.unbind(-1), choice.best.unbind(-1), strict=True)
        values = torch.cat([mixer(obs, q, best, choice.action) for q, best in columns], dim=-1)
        return values.mean(-1, keepdim=True) if mixer is self.target_mixer else values
