"""HADDPG and HATD3: MADDPG and MATD3 whose agents move one after the other (Zhong et al. 2024).

In a random order every agent descends, against what those before it do now,

    -Q_1(s, a_1 .. mu_i(o_i) .. a_n) + c mean(output^2)

under the critic of the team (``marl.learning.sequential``). Targets and critics are MADDPG's.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from marl.algorithms.maddpg import MADDPG, MADDPGConfig
from marl.critics.action_value import Actions
from marl.learning.replay import ReplayBatch
from marl.types import Noise, Stats


@dataclass
class HADDPGConfig(MADDPGConfig):
    """MADDPG whose actors move one after the other, under the team's critic. Every agent has
    weights of its own, whatever model.sharing says."""

    critic: str = "team"
    reward: str = "team_mean"
    sequential: bool = True
    others: str = "current"
    tau: float = 0.005
    critic_lr: float = 1e-3


@dataclass
class HATD3Config(HADDPGConfig):
    """HADDPG with what MATD3 adds to MADDPG."""

    critics: int = 2
    target_noise: float = 0.2
    actor_interval: int = 2


class HADDPG(MADDPG):
    def update_actors(self, batch: ReplayBatch, noise: list[Noise]) -> Stats:
        """Moves one actor after the other, each by ``loss_of_agent``."""
        loss, _ = self.step_in_turn(batch, *map(self.loss_noise, noise))
        return {"policy_loss": loss}

    def loss_of_agent(
        self, agent: int, batch: ReplayBatch, noise: Noise, action: Actions
    ) -> tuple[Tensor, Tensor]:
        policy = self.agent_policies[agent]
        outputs = policy.distribution_params(batch.obs)
        own, log_prob = policy.rsample(batch.obs, noise, outputs)
        q = self.q_of_one(batch, agent, own, action)[0]
        cost = self.config.output_penalty * outputs.square().mean((-2, -1)) - q
        return self.of_one(cost, agent, batch.obs), log_prob.squeeze(-1)
