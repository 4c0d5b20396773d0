"""MADDPG, IDDPG and MATD3: deterministic policies under critics of the joint action.

With target networks Q' and mu' of critics and policies::

    critics   (Q_k(o, a) - y)^2,   y = G + discount min_k Q'_k(o', mu'(o') + noise)
    actor i   -Q_1(o, a_1 .. mu_i(o_i) .. a_n) + c mean(output^2)

Discrete actions are sampled by the Gumbel-softmax trick, soft or straight through, in targets and
losses alike. Sources: Lowe et al. 2017, "Multi-Agent Actor-Critic for Mixed Cooperative-Competitive
Environments"; Fujimoto et al. 2018 for MATD3, which has two critics, noise on the target's actions
and delayed actors. IDDPG's critics read one agent each. Actors that are updated one after the other
are in ``marl.algorithms.haddpg``; policy ensembles and opponent models in
``marl.algorithms.maddpg_full``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from marl.algorithm import Context
from marl.algorithms.actor_critic import ActorCritic
from marl.algorithms.off_policy import OffPolicyConfig
from marl.critics.inputs import SCOPES
from marl.critics.joint_actions import Actions
from marl.errors import UserError
from marl.learning.losses import mean_stats
from marl.learning.recurrent import next_carry, next_params_of, params_of
from marl.learning.replay import ReplayBatch
from marl.learning.target_networks import TargetNetwork, target_copy
from marl.policies.base import DifferentiablePolicy, Policy
from marl.policies.bayesian import team_policy
from marl.policies.deterministic import deterministic
from marl.policies.distributions import Distribution
from marl.types import ActionSpec, Continuous, Metrics, Noise, Rollout, Stats
from marl.utils import distributed
from marl.utils.validation import check_range, check_word

OTHERS = ("buffer", "current")
GUMBEL = ("hard", "soft")


@dataclass
class MADDPGConfig(OffPolicyConfig):
    """Hyperparameters of MADDPG.

    ``critic``, ``reward``, ``tau``, ``others`` and ``output_penalty`` are those of the authors'
    code (openai/maddpg); all its numbers are the command line's ``algorithm=maddpg_lowe``. The rest
    are HARL's, as for every off-policy algorithm.
    """

    #: What the critics read: the observations and actions of each ``agent`` alone, of the ``team``,
    #: of ``all`` teams, or the environment's ``state`` with the actions of all teams.
    critic: str = "all"
    #: What a return sums: each agent's ``own`` rewards, or the team's ``team_sum`` or
    #: ``team_mean``.
    reward: str = "own"
    #: Share of the new weights that a target network takes over at each of its updates; usual 0.005
    #: to 0.01.
    tau: float = 0.01
    #: The other agents' actions in an actor's loss: those of the ``buffer``, as stored, or those of
    #: the ``current`` policies.
    others: str = "buffer"
    #: Discrete actions in losses: one-hot with straight-through gradients (``hard``), or relaxed
    #: (``soft``, as in the authors' code), which takes Discrete actions only.
    gumbel: str = "hard"
    #: Standard deviation of the exploration noise at the run's start, in half ranges of the action;
    #: usual 0.1 to 0.3. Only continuous actions read it.
    noise: float = 0.1
    #: Standard deviation of the exploration noise at the run's end, in half ranges of the action;
    #: linear in between.
    last_noise: float = 0.1
    #: c, the weight of the mean squared output of the policies' networks; usual 1e-3.
    output_penalty: float = 1e-3
    #: K, the number of critics, whose smallest value is the target's; 1, or 2 for MATD3.
    critics: int = 1
    #: Standard deviation of the noise on the target's continuous actions, in half ranges; 0, or 0.2
    #: for MATD3.
    target_noise: float = 0.0
    #: Largest size of that noise, in half ranges; usual 0.5.
    target_noise_clip: float = 0.5
    #: Whether targets use fitted models of the other agents in place of their policies (section
    #: 4.2); only with ``critic`` all or team and ``others=buffer``.
    inference: bool = False
    #: Weight of the entropy in the models' loss; usual 1e-3. Only with ``inference``.
    inference_entropy: float = 1e-3
    #: Learning rate of the models; null for ``actor_lr``. Only with ``inference``.
    inference_lr: float | None = None
    #: Sub-policies of each agent, which plays one of them an episode (section 4.3); usual 1 to 3.
    #: Only with ``sequential=false``, without ``joint.graph`` and without memory.
    ensemble: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("others", self.others, OTHERS)
        check_word("gumbel", self.gumbel, GUMBEL)
        check_range(
            self, noise=(0, 10), last_noise=(0, 10), output_penalty=(0, math.inf), critics=(1, 10),
            target_noise=(0, 10), target_noise_clip=(0, 10), inference_entropy=(0, math.inf),
            inference_lr=(0, 1), ensemble=(1, 100),
        )  # fmt: skip
        self._check_combinations()

    def _check_combinations(self) -> None:
        """Raises UserError where two options exclude each other."""
        scope = SCOPES[self.critic]
        if self.inference and (scope.local or scope.reads_state or self.others == "current"):
            raise UserError(
                f"inference=true with critic={self.critic}, others={self.others}: it needs critics "
                "that read the others' observations and actions as they were stored; set "
                "critic=all or team, and others=buffer"
            )
        if self.joint.graph != "none" and (self.ensemble > 1 or self.inference):
            raise UserError(
                f"joint.graph={self.joint.graph}: a joint policy takes neither ensemble nor "
                "inference; set ensemble=1 and inference=false"
            )
        if self.sequential and self.ensemble > 1:
            raise UserError(
                f"ensemble={self.ensemble} works only with actors that are updated together; set "
                "sequential=false, or ensemble=1"
            )
        if self.sequential and self.others != "current":
            raise UserError(
                f"others={self.others!r}: actors that are updated one after the other read the new "
                "actions of those before them; set others=current"
            )

    def policy(self, context: Context) -> DifferentiablePolicy:
        if self.ensemble > 1:
            from marl.algorithms.maddpg_full import ensemble

            return ensemble(self, context)
        model = self.model(context)
        return team_policy(context.team, model, self.joint, self.distribution).to(context.device)

    def distribution(self, spec: ActionSpec) -> Distribution:
        """Returns the deterministic policies' distribution over ``spec``."""
        return deterministic(spec, soft=self.gumbel == "soft")

    def build(self, context: Context) -> MADDPG:
        # Imported here, for the variants extend this module's class.
        if self.sequential:
            from marl.algorithms.haddpg import HADDPG

            return HADDPG(self, context)
        if self.inference:
            from marl.algorithms.maddpg_full import OpponentModellingMADDPG

            return OpponentModellingMADDPG(self, context)
        return MADDPG(self, context)


@dataclass
class IDDPGConfig(MADDPGConfig):
    """Hyperparameters of IDDPG, independent DDPG: MADDPG's, with local critics."""

    #: What the critics read, ``agent``, ``team``, ``all`` or ``state``; ``agent`` is what makes the
    #: learners independent.
    critic: str = "agent"


@dataclass
class MATD3Config(MADDPGConfig):
    """Hyperparameters of MATD3: MADDPG's, with what Fujimoto et al. 2018 add to DDPG (TD3)."""

    #: Share of the new weights that a target network takes over at each of its updates; usual
    #: 0.005.
    tau: float = 0.005
    #: K, the number of critics, whose smallest value is the target's; 2 in TD3.
    critics: int = 2
    #: Standard deviation of the noise on the target's continuous actions, in half ranges; 0.2 in
    #: TD3.
    target_noise: float = 0.2
    #: Critic updates for each update of the actors and the target networks; 2 in TD3.
    actor_interval: int = 2


class MADDPG(ActorCritic):
    """Multi-agent DDPG, and IDDPG and MATD3 by its configuration.

    Source: Lowe et al. 2017, "Multi-Agent Actor-Critic for Mixed Cooperative-Competitive
    Environments", algorithm 1.

    Differences from the authors' code (openai/maddpg):

    - Agents of a group may share weights (``model.sharing``); there each has its own.
    - Discrete actions are straight-through Gumbel samples by default, in targets too;
      ``gumbel=soft`` is theirs.
    - Continuous actions are the tanh of the network's output plus Gaussian noise in play.
    - Gradients are clipped to one norm for each optimizer, not for each variable.
    - Truncated episodes bootstrap, and the dead are masked in every loss.

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm; with a replay.

    Raises:
        UserError: as for ``ActorCritic``.
    """

    def __init__(self, config: MADDPGConfig, context: Context):
        super().__init__(config, context, config.policy(context), config.critics)
        self.config: MADDPGConfig = config
        self.target_policy = target_copy(self.policy)
        self.target_networks.append(TargetNetwork(self.target_policy, self.policy))
        self.target_opponents: dict[str, Policy] | None = None
        groups = self.team.items()
        self.continuous_groups = {n for n, g in groups if isinstance(g.action, Continuous)}

    def update(self, rollout: Rollout) -> Metrics:
        """Takes the gradient steps that are due (Lowe et al. 2017, algorithm 1).

        Args:
            rollout: the newest frames, ``[T, B]``, which the replay holds already.

        Returns:
            The means of the steps' statistics; empty where no step was due.
        """
        steps: list[Stats] = []
        for batch, (noise, *others) in self.batches(rollout):
            critic = self.update_critic(batch, noise, self.opponent_actions(batch))
            if self.actors_are_due:
                self.actor_stats = self.update_actors(self.remember(batch), others)
                self.update_targets()
            steps.append({**critic, **self.actor_stats})
        return mean_stats(steps)

    # -------------------------------------------------------------------------------------- critics

    @torch.no_grad()
    def target(self, batch: ReplayBatch, noise: Noise, opponents: Actions) -> Tensor:
        """Computes ``y = G + discount min_k Q'_k(o', mu'(o') + noise)``, ``[M, H]``.

        Continuous actions get clipped noise, discrete ones are sampled. Arguments as in
        ``ActorCritic.target``.
        """
        noise = self.smoothing_noise(noise)
        params = next_params_of(self.target_policy, batch, noise)
        action, _ = self.target_policy.rsample(batch.next_obs, noise, params)
        carry = next_carry(self.target_critic, batch)
        q = self.target_critic(batch.next_obs, {**opponents, **action}, carry=carry).amin(0)
        return batch.reward + batch.discount * q

    def smoothing_noise(self, noise: Noise) -> Noise:
        """Returns the noise on the target's actions: scaled and clipped, unchanged if discrete."""
        scale, limit = self.config.target_noise, self.config.target_noise_clip
        continuous = self.continuous_groups
        return {
            n: (scale * x).clamp(-limit, limit) if n in continuous else x for n, x in noise.items()
        }

    def opponent_policies(self) -> Mapping[str, Policy]:
        """Returns target networks of other teams' policies, by team; made at the first call, when
        all teams exist."""
        if self.target_opponents is None:
            self.target_opponents = {}
            for name, policy in self.context.policies.items():
                if policy is not self.policy:
                    self.target_opponents[name] = self._target_opponent(policy)
        return self.target_opponents

    def _target_opponent(self, policy: Policy) -> Policy:
        if not isinstance(policy, nn.Module):
            return policy
        copy = target_copy(policy)
        self.target_networks.append(TargetNetwork(copy, policy))
        return copy

    # --------------------------------------------------------------------------------------- actors

    def exploration_noise(self, noise: Noise) -> Noise:
        """Returns the noise in play, whose deviation changes linearly over the run."""
        config, context = self.config, self.context
        frames = context.iterations * context.steps * context.num_envs * distributed.size()
        progress = min(1.0, self.frames / max(1, frames))
        scale = config.noise + progress * (config.last_noise - config.noise)
        return {n: scale * x if n in self.continuous_groups else x for n, x in noise.items()}

    def loss_noise(self, noise: Noise) -> Noise:
        """Returns the noise of actions in losses: none for continuous groups."""
        return {n: x for n, x in noise.items() if n not in self.continuous_groups}

    def update_actors(self, batch: ReplayBatch, noise: list[Noise]) -> Stats:
        """Takes one gradient step of all actors by ``loss_simultaneous``.

        Args:
            batch: M transitions.
            noise: noise of the actions in the loss.

        Returns:
            ``policy_loss``.
        """
        loss, _ = self.loss_simultaneous(batch, *map(self.loss_noise, noise))
        self.actor_optimizers[0].step(loss)
        return {"policy_loss": loss.detach()}

    def loss_simultaneous(self, batch: ReplayBatch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Computes ``sum_i -Q_1(o, a_1 .. mu_i(o_i) .. a_n) + c mean(output^2)``.

        Arguments and results as in ``ActorCritic``.
        """
        outputs, alive = params_of(self.policy, batch, noise), self.alive(batch.obs)
        fresh, log_prob = self.policy.rsample(batch.obs, noise, outputs)
        stored = {n: batch.action[n] for n in self.team}
        others = fresh if self.config.others == "current" else stored
        q = self.q_per_agent(self.q_of_fresh(batch, fresh, others)[0], alive)  # [M, N]
        penalty = torch.cat([x.square().mean(-1) for x in outputs.values()], dim=-1)
        loss = self.team_cost(self.config.output_penalty * penalty - q, alive)
        return loss, torch.cat([log_prob[n] for n in self.team], dim=-1)

    # ---------------------------------------------------------------------------------------- state

    def parts(self) -> dict[str, Any]:
        parts = {**super().parts(), "target_policy": self.target_policy}
        if self.scope.reads_actions_of_others:
            opponents = self.opponent_policies().items()
            parts |= {f"rival_{n}": p for n, p in opponents if isinstance(p, nn.Module)}
        return parts
