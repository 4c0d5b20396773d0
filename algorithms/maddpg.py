"""MADDPG and its siblings: deterministic policies under critics of the joint action (Lowe et al.
2017; twin and delayed by Fujimoto et al. 2018; one after the other by Zhong et al. 2024).

With averaged copies Q' and mu' of critics and policies:

    critics   (Q_k(o, a) - y)^2,   y = G + discount min_k Q'_k(o', mu'(o') + noise)
    actor i   -Q_1(o, a_1 .. mu_i(o_i) .. a_n) + c mean(output^2)

Choices are drawn by the Gumbel-softmax trick, soft or straight through, in target and actor alike.
IDDPG's critics see one agent each; MATD3 has two of them, noise on the target's actions and slower
actors; HADDPG and HATD3 move one agent after the other in a random order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from marl.algorithm import Context
from marl.algorithms.off_policy import OffPolicy, OffPolicyConfig
from marl.critics.action_value import Actions, joint_actions
from marl.critics.inputs import SCOPES
from marl.errors import UserError
from marl.learning.opponent_models import Inference
from marl.learning.replay import ReplayBatch
from marl.learning.target_networks import TargetNetwork, averaged
from marl.networks.observation_norm import observe
from marl.policies.base import DifferentiablePolicy, Policy
from marl.policies.bayesian import team_policy
from marl.policies.deterministic import deterministic
from marl.policies.ensemble import EnsemblePolicy
from marl.types import Continuous, Metrics, Noise, Observation, Rollout
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
    inference: bool = False  # targets from what agents believe of each other, not from the truth
    inference_entropy: float = 1e-3  # c of the beliefs
    inference_lr: float | None = None  # of the beliefs; None: actor_lr
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
        def make(spec):
            return deterministic(spec, soft=self.gumbel == "soft")

        if self.ensemble > 1:
            found = EnsemblePolicy(context.team, context.model, make, self.ensemble)
        else:
            found = team_policy(context.team, self.model(context), self.joint, make)
        return found.to(context.device)

    def build(self, context: Context) -> MADDPG:
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


class MADDPG(OffPolicy):
    def __init__(self, config: MADDPGConfig, context: Context):
        super().__init__(config, context, config.policy(context), config.critics)
        self.config: MADDPGConfig = config
        self.target_policy: DifferentiablePolicy = averaged(self.policy)
        self.target_networks.append(TargetNetwork(self.target_policy, self.policy))
        self.copies: dict[str, Policy] | None = None  # of other teams' policies
        self.inference = self._inference() if config.inference else None
        self.continuous_groups = {
            n for n, g in self.team.items() if isinstance(g.action, Continuous)
        }

    def _inference(self) -> Inference:
        config, context = self.config, self.context
        found = Inference(
            self.agents if self.critic.heads > 1 else [None],
            self.team,
            self.scope.groups(self.team, context.everyone),
            context.model,
            config.actor_lr if config.inference_lr is None else config.inference_lr,
            config.inference_entropy,
            context.device,
        )
        if not found.believed_of:
            raise UserError(
                f"inference=true has nobody to infer: with critic={config.critic}, reward="
                f"{config.reward} the team is one, and reads no other; set reward=own or critic=all"
            )
        self.target_networks.append(found.target_network)
        return found

    def update(self, rollout: Rollout) -> Metrics:
        metrics = super().update(rollout)
        if self.inference is None or not metrics:
            return metrics
        seen = self.replay.take(self.replay.latest(self.batch_size))
        gap = self.inference.divergence(self.context.policies, seen.obs)
        return metrics if gap is None else {**metrics, "inference_kl": gap}

    def observe(self, obs: Observation) -> None:
        if self.inference is not None:
            observe([self.inference.believed], obs)
        super().observe(obs)

    def _learn(self) -> Tensor:
        if self.inference is not None:
            newest = self.replay.take(self.replay.latest(self.batch_size))
            self.inference.fit(newest.obs, newest.action)
        return super()._learn()

    def _exploration(self, noise: Noise) -> Noise:
        done = min(1.0, self.frames / max(1, self._all_frames))
        scale = self.config.noise + done * (self.config.last_noise - self.config.noise)
        return {
            n: scale * drawn if n in self.continuous_groups else drawn for n, drawn in noise.items()
        }

    @property
    def _all_frames(self) -> int:
        context = self.context
        return context.iterations * context.steps * context.num_envs * distributed.SIZE

    # -------------------------------------------------------------------------------------- critics

    @torch.no_grad()
    def target(self, batch: ReplayBatch, noise: Noise, rivals: Actions) -> Tensor:
        """y: numbers are smoothed by clipped noise, choices drawn."""
        smoothed = {
            n: self._smoothing(x) if n in self.continuous_groups else x for n, x in noise.items()
        }
        action, _ = self.target_policy.rsample(batch.next_obs, smoothed)
        if self.inference is None or self.critic.heads == 1:
            q = self.target_critic(batch.next_obs, {**rivals, **action}).amin(0)
        else:  # what each agent believes that the others do
            joint = joint_actions(action, rivals)
            q = self.target_critic(batch.next_obs, joint, each=True).amin(0)
        return batch.reward + batch.discount * q

    def _smoothing(self, noise: Tensor) -> Tensor:
        most = self.config.target_noise_clip
        return (self.config.target_noise * noise).clamp(-most, most)

    def _opponents(self, batch: ReplayBatch) -> Actions:
        if self.inference is None:
            return super()._opponents(batch)
        noise = self.inference.noise(self.batch_size, self.context.generator)
        believed = self.inference.actions(batch.next_obs, noise)
        return believed if self.critic.heads > 1 else {n: a[:, 0] for n, a in believed.items()}

    def rivals(self) -> Mapping[str, Policy]:
        """Averaged copies of other teams' policies, made when they are all there."""
        if self.copies is None:
            self.copies = {}
            for name, policy in self.context.policies.items():
                if policy is self.policy:
                    continue
                self.copies[name] = policy
                if isinstance(policy, nn.Module):
                    self.copies[name] = averaged(policy)
                    self.target_networks.append(TargetNetwork(self.copies[name], policy))  # type: ignore[arg-type]  # a Module too
        return self.copies

    # --------------------------------------------------------------------------------------- actors

    def _losses_noise(self, noise: Noise) -> Noise:
        """Numbers are as the policy gives them, choices drawn."""
        return {n: drawn for n, drawn in noise.items() if n not in self.continuous_groups}

    def actors_loss(self, batch: ReplayBatch, noise: Noise) -> tuple[Tensor, Tensor]:
        """The others do what they did, or what they do now."""
        outputs, alive = self.policy.distribution_params(batch.obs, noise), self.alive(batch.obs)
        fresh, log_prob = self.policy.rsample(batch.obs, noise, outputs)
        stored = {n: batch.action[n] for n in self.team}
        others = fresh if self.config.others == "current" else stored
        q = self.by_agent(self.q_of_fresh(batch, fresh, others)[0], alive)  # [M, N]
        penalty = torch.cat([x.square().mean(-1) for x in outputs.values()], dim=-1)
        loss = self.of_team(self.config.output_penalty * penalty - q, alive)
        return loss, torch.cat([log_prob[n] for n in self.team], dim=-1)

    def actor_loss(
        self, agent: int, batch: ReplayBatch, noise: Noise, action: Actions
    ) -> tuple[Tensor, Tensor]:
        member = self.agent_policies[agent]
        outputs = member.distribution_params(batch.obs)
        own, log_prob = member.rsample(batch.obs, noise, outputs)
        q = self.q_of_one(batch, agent, own, action)[0]
        cost = self.config.output_penalty * outputs.square().mean((-2, -1)) - q
        return self.of_one(cost, agent, batch.obs), log_prob.squeeze(-1)

    def _kept(self) -> dict[str, Any]:
        kept = {**super()._kept(), "target_policy": self.target_policy}
        if self.inference is not None:
            kept["believed"], kept["believed_target"] = (
                self.inference.believed,
                self.inference.target,
            )
            kept["inference_optimizer"] = self.inference.optimizer
        elif self.scope.reads_actions_of_others:
            rivals = self.rivals().items()
            kept |= {f"rival_{n}": one for n, one in rivals if isinstance(one, nn.Module)}
        return kept
