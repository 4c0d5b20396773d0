"""HADDPG and HATD3: MADDPG and MATD3 with actors updated one after the other (Zhong et al. 2024).

In a random order every actor descends, against the new actions of those before it::

    -Q_1(s, a_1 .. mu_i(o_i) .. a_n) + c mean(output^2)

under the team's critic (``marl.learning.sequential``). Targets and critics are MADDPG's.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from marl.algorithms.maddpg import MADDPG, MADDPGConfig
from marl.critics.incremental import FirstLayer
from marl.critics.joint_actions import Actions
from marl.learning.recurrent import params_of
from marl.learning.replay import ReplayBatch
from marl.types import Noise, Stats


@dataclass
class HADDPGConfig(MADDPGConfig):
    """Hyperparameters of HADDPG: MADDPG's, with the authors' (HARL) on MPE where they differ.

    Every agent's policy has weights of its own, whatever ``model.sharing`` says.
    """

    #: What the critics read: the observations and actions of the ``team`` or of ``all`` teams, or
    #: the environment's ``state`` with the actions of all teams.
    critic: str = "team"
    #: What a return sums: each agent's ``own`` rewards, or the team's ``team_sum`` or
    #: ``team_mean``.
    reward: str = "team_mean"
    #: Whether the agents' policies are updated one after the other; true is what makes it HADDPG.
    sequential: bool = True
    #: The other agents' actions in an actor's loss; must be ``current`` with ``sequential``.
    others: str = "current"
    #: Share of the new weights that a target network takes over at each of its updates; usual
    #: 0.005.
    tau: float = 0.005
    #: Learning rate of the critics; usual 5e-4 to 1e-3.
    critic_lr: float = 1e-3


@dataclass
class HATD3Config(HADDPGConfig):
    """Hyperparameters of HATD3: HADDPG's, with what MATD3 adds to MADDPG."""

    #: K, the number of critics, whose smallest value is the target's; 2 in TD3.
    critics: int = 2
    #: Standard deviation of the noise on the target's continuous actions, in half ranges; 0.2 in
    #: TD3.
    target_noise: float = 0.2
    #: Critic updates for each update of the actors and the target networks; 2 in TD3.
    actor_interval: int = 2


class HADDPG(MADDPG):
    """Heterogeneous-agent DDPG: MADDPG with actors updated one after the other; HATD3 too.

    Source: Zhong et al. 2024, "Heterogeneous-Agent Reinforcement Learning". Unlike the authors'
    code (HARL) it penalises the networks' outputs, as MADDPG's authors do (``output_penalty``).

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm; with a replay.
    """

    def update_actors(self, batch: ReplayBatch, noise: list[Noise]) -> Stats:
        """Updates one actor after the other by ``loss_of_agent``.

        Args:
            batch: M transitions.
            noise: noise of the actions in the losses, and of those that the other agents observe.

        Returns:
            ``policy_loss``, the mean over the agents.
        """
        loss, _ = self.step_in_turn(batch, *map(self.loss_noise, noise))
        return {"policy_loss": loss}

    def loss_of_agent(
        self,
        agent: int,
        batch: ReplayBatch,
        noise: Noise,
        action: Actions,
        first: FirstLayer | None = None,
        params: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Computes ``-Q_1(s, a_1 .. mu_i(o_i) .. a_n) + c mean(output^2)``.

        Arguments and results as in ``ActorCritic``.
        """
        policy = self.agent_policies[agent]
        outputs = params_of(policy, batch) if params is None else params
        fresh, log_prob = policy.rsample(batch.obs, noise, outputs)
        q = self.q_of_agent(batch, agent, fresh, action, first)[0]
        cost = self.config.output_penalty * outputs.square().mean((-2, -1)) - q
        return self.agent_cost(cost, agent, batch.obs), log_prob.squeeze(-1)
