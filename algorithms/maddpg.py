"""MADDPG, IDDPG and MATD3: deterministic policies under critics of the joint action (Lowe et al.
2017; twin and delayed by Fujimoto et al. 2018).

With averaged copies Q' and mu' of critics and policies:

    critics   (Q_k(o, a) - y)^2,   y = G + discount min_k Q'_k(o', mu'(o') + noise)
    actor i   -Q_1(o, a_1 .. mu_i(o_i) .. a_n) + c mean(output^2)

Choices are drawn by the Gumbel-softmax trick, soft or straight through, in target and actor alike.
IDDPG's critics see one agent each; MATD3 has two of them, noise on the target's actions and slower
actors. Agents that move one after the other stand in ``marl.algorithms.haddpg``; policy ensembles
and models of opponents, in ``marl.algorithms.maddpg_full``.
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
from marl.critics.action_value import Actions
from marl.critics.inputs import SCOPES
from marl.errors import UserError
from marl.learning.losses import mean_stats
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
    """Hyperparameters of MADDPG."""

    critic: str = "all"
    reward: str = "own"
    tau: float = 0.01
    others: str = "buffer"  # what the others do in an actor's loss: as stored, or as they do now
    gumbel: str = "hard"  # choices in losses: straight through (hard), or relaxed (soft)
    noise: float = 0.1  # exploration's standard deviation at first, in half ranges of the action
    last_noise: float = 0.1  # and at the end; in between on a line
    output_penalty: float = 1e-3  # c, on the networks' outputs
    critics: int = 1  # K; their smallest value is the target's
    target_noise: float = 0.0  # on the target's actions, in half ranges
    target_noise_clip: float = 0.5
    inference: bool = False  # targets by models of the others, not by their policies
    inference_entropy: float = 1e-3  # c of the models
    inference_lr: float | None = None  # of the models; None: actor_lr
    ensemble: int = 1  # sub-policies of each agent, of which it plays one an episode

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("others", self.others, OTHERS)
        check_word("gumbel", self.gumbel, GUMBEL)
        check_range(
            self, noise=(0, 10), last_noise=(0, 10), output_penalty=(0, math.inf), critics=(1, 10),
            target_noise=(0, 10), target_noise_clip=(0, 10), inference_entropy=(0, math.inf),
            inference_lr=(0, 1), ensemble=(1, 100),
        )  # fmt: skip
        scope = SCOPES[self.critic]
        if self.inference and (scope.local or scope.reads_state or self.others == "current"):
            raise UserError(
                "inference=true is for critics that read the others' observations and actions, as "
                "they were stored; set critic=all or team, and others=buffer"
            )
        if self.joint.graph != "none" and (self.ensemble > 1 or self.inference):
            raise UserError("a joint policy takes neither ensemble nor inference; leave them out")
        if self.sequential and self.ensemble > 1:
            raise UserError("ensemble is for agents that move together; set sequential=false")
        if self.sequential and self.others != "current":
            raise UserError(
                f"others={self.others!r}: actors that move one after the other see what those "
                "before them do now; set others=current"
            )

    def policy(self, context: Context) -> DifferentiablePolicy:
        if self.ensemble > 1:
            from marl.algorithms.maddpg_full import ensemble

            return ensemble(self, context)
        model = self.model(context)
        return team_policy(context.team, model, self.joint, self.distribution).to(context.device)

    def distribution(self, spec: ActionSpec) -> Distribution:
        """Returns how the policies act in ``spec``."""
        return deterministic(spec, soft=self.gumbel == "soft")

    def build(self, context: Context) -> MADDPG:
        """Returns the class that these fields ask for; those are imported here, for they build on
        this module's."""
        if self.sequential:
            from marl.algorithms.haddpg import HADDPG

            return HADDPG(self, context)
        if self.inference:
            from marl.algorithms.maddpg_full import OpponentModellingMADDPG

            return OpponentModellingMADDPG(self, context)
        return MADDPG(self, context)


@dataclass
class IDDPGConfig(MADDPGConfig):
    """Independent DDPG: every agent's critic sees what it sees and does."""

    critic: str = "agent"


@dataclass
class MATD3Config(MADDPGConfig):
    """MADDPG with twin critics, noise on the target's actions and delayed actors."""

    tau: float = 0.005
    critics: int = 2
    target_noise: float = 0.2
    actor_interval: int = 2


class MADDPG(ActorCritic):
    def __init__(self, config: MADDPGConfig, context: Context):
        super().__init__(config, context, config.policy(context), config.critics)
        self.config: MADDPGConfig = config
        self.target_policy = target_copy(self.policy)
        self.target_networks.append(TargetNetwork(self.target_policy, self.policy))
        self.target_opponents: dict[str, Policy] | None = None
        groups = self.team.items()
        self.continuous_groups = {n for n, g in groups if isinstance(g.action, Continuous)}

    def update(self, rollout: Rollout) -> Metrics:
        """Takes the gradient steps that are due (Lowe et al. 2017, algorithm 1)."""
        steps: list[Stats] = []
        for batch, (noise, *others) in self.batches(rollout):
            critic = self.update_critic(batch, noise, self.opponent_actions(batch))
            if self.actors_are_due:
                self.actor_stats = self.update_actors(batch, others)
                self.update_targets()
            steps.append({**critic, **self.actor_stats})
        return mean_stats(steps)

    # -------------------------------------------------------------------------------------- critics

    @torch.no_grad()
    def target(self, batch: ReplayBatch, noise: Noise, opponents: Actions) -> Tensor:
        """y: vectors are smoothed by clipped noise, choices drawn."""
        action, _ = self.target_policy.rsample(batch.next_obs, self.smoothing_noise(noise))
        q = self.target_critic(batch.next_obs, {**opponents, **action}).amin(0)
        return batch.reward + batch.discount * q

    def smoothing_noise(self, noise: Noise) -> Noise:
        """Returns the noise on the target's actions; what choices are drawn with stays."""
        scale, most = self.config.target_noise, self.config.target_noise_clip
        continuous = self.continuous_groups
        return {
            n: (scale * x).clamp(-most, most) if n in continuous else x for n, x in noise.items()
        }

    def opponent_policies(self) -> Mapping[str, Policy]:
        """Returns averaged copies of other teams' policies, made when they are all there."""
        if self.target_opponents is None:
            self.target_opponents = {}
            for name, policy in self.context.policies.items():
                if policy is not self.policy:
                    self.target_opponents[name] = self._target_opponent(policy)
        return self.target_opponents

    def _target_opponent(self, policy: Policy) -> Policy:
        if not isinstance(policy, nn.Module):
            return policy
        copied = target_copy(policy)
        self.target_networks.append(TargetNetwork(copied, policy))
        return copied

    # --------------------------------------------------------------------------------------- actors

    def exploration_noise(self, noise: Noise) -> Noise:
        """Returns the noise on actions, whose deviation falls on a line over the run."""
        config, context = self.config, self.context
        frames = context.iterations * context.steps * context.num_envs * distributed.size()
        progress = min(1.0, self.frames / max(1, frames))
        scale = config.noise + progress * (config.last_noise - config.noise)
        return {n: scale * x if n in self.continuous_groups else x for n, x in noise.items()}

    def loss_noise(self, noise: Noise) -> Noise:
        """Returns what actions in losses are drawn with: vectors are as the policy gives them."""
        return {n: x for n, x in noise.items() if n not in self.continuous_groups}

    def update_actors(self, batch: ReplayBatch, noise: list[Noise]) -> Stats:
        """Moves all actors at once, by ``loss_simultaneous``."""
        loss, _ = self.loss_simultaneous(batch, *map(self.loss_noise, noise))
        self.actor_optimizers[0].step(loss)
        return {"policy_loss": loss.detach()}

    def loss_simultaneous(self, batch: ReplayBatch, noise: Noise) -> tuple[Tensor, Tensor]:
        """The others do what they did, or what they do now."""
        outputs, alive = self.policy.distribution_params(batch.obs, noise), self.alive(batch.obs)
        fresh, log_prob = self.policy.rsample(batch.obs, noise, outputs)
        stored = {n: batch.action[n] for n in self.team}
        others = fresh if self.config.others == "current" else stored
        q = self.by_agent(self.q_of_fresh(batch, fresh, others)[0], alive)  # [M, N]
        penalty = torch.cat([x.square().mean(-1) for x in outputs.values()], dim=-1)
        loss = self.of_team(self.config.output_penalty * penalty - q, alive)
        return loss, torch.cat([log_prob[n] for n in self.team], dim=-1)

    # ---------------------------------------------------------------------------------------- state

    def parts(self) -> dict[str, Any]:
        parts = {**super().parts(), "target_policy": self.target_policy}
        if self.scope.reads_actions_of_others:
            others = self.opponent_policies().items()
            parts |= {f"rival_{n}": one for n, one in others if isinstance(one, nn.Module)}
        return parts
