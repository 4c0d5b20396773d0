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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from marl.algorithm import Setting, check_range, check_word
from marl.deterministic import deterministic
from marl.errors import UserError
from marl.offpolicy import Follower, OffPolicy, OffPolicyConfig, averaged, opponents_actions
from marl.policies import IndependentPolicy, Policy
from marl.qcritics import Actions
from marl.replay import ReplayBatch
from marl.sequence import update_order
from marl.types import Continuous, Noise

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
    actor_interval: int = 1  # critic steps for each of the actors' and the averaged copies'

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("others", self.others, OTHERS)
        check_word("gumbel", self.gumbel, GUMBEL)
        check_range(
            self, noise=(0, 10), last_noise=(0, 10), output_penalty=(0, math.inf), critics=(1, 10),
            target_noise=(0, 10), target_noise_clip=(0, 10), actor_interval=(1, 1000),
        )  # fmt: skip
        if self.sequential and self.others != "current":
            raise UserError(
                f"others={self.others!r}: actors that move one after the other see what those "
                "before them do now; set others=current"
            )

    def policy(self, setting: Setting) -> IndependentPolicy:
        def make(spec):
            return deterministic(spec, soft=self.gumbel == "soft")

        return IndependentPolicy(setting.team, self.model(setting), make).to(setting.device)

    def build(self, setting: Setting) -> MADDPG:
        return MADDPG(self, setting)


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
    names = ("critic_loss", "q", "policy_loss")

    def __init__(self, config: MADDPGConfig, setting: Setting):
        super().__init__(config, setting, config.policy(setting), config.critics)
        self.config: MADDPGConfig = config
        self.target_policy: IndependentPolicy = averaged(self.policy)
        self.followers.append(Follower(self.target_policy, self.policy))
        self.rivals: dict[str, Policy] | None = None  # copies of other teams' policies
        self.policy_loss = torch.zeros((), device=setting.device)  # the last one
        compiler = self._compiler()
        self.improve_critics = compiler(self._improve_critics)
        self.improve_together = compiler(self._improve_together)
        self.improve_one = [compiler(self._one(agent)) for agent in range(len(self.members))]

    def _exploration(self, noise: Noise) -> Noise:
        done = min(1.0, self.frames / max(1, self._all_frames))
        scale = self.config.noise + done * (self.config.last_noise - self.config.noise)
        numbers = {n for n, g in self.team.items() if isinstance(g.action, Continuous)}
        return {n: scale * drawn if n in numbers else drawn for n, drawn in noise.items()}

    @property
    def _all_frames(self) -> int:
        return self.setting.iterations * self.setting.steps * self.setting.num_envs

    def _step(self, batch: ReplayBatch, noise: Sequence[Noise]) -> Tensor:
        """One update (Lowe et al. 2017, algorithm 1; Fujimoto et al. 2018, algorithm 1)."""
        critic = self.improve_critics(batch, noise[0], self._opponents(batch))
        if self.updates % self.config.actor_interval == 0:
            self.policy_loss = (
                self._in_sequence(batch, noise)
                if self.members
                else self.improve_together(batch, noise[1])
            )
            self.follow()
        return torch.cat([critic, self.policy_loss.reshape(1)])

    # -------------------------------------------------------------------------------------- critics

    def _improve_critics(self, batch: ReplayBatch, noise: Noise, rivals: Actions) -> Tensor:
        loss, q = self.critic_loss(batch, self.target(batch, noise, rivals))
        self.critic_optimizer.step(loss)
        return torch.stack([loss.detach(), q])

    @torch.no_grad()
    def target(self, batch: ReplayBatch, noise: Noise, rivals: Actions) -> Tensor:
        """y ``[M, H]``: numbers are smoothed by clipped noise, choices drawn."""
        smoothed = {
            n: self._smoothing(noise[n]) if isinstance(g.action, Continuous) else noise[n]
            for n, g in self.team.items()
        }
        action, _ = self.target_policy.sample(batch.next_obs, smoothed)
        q = self.target_critic(batch.next_obs, {**rivals, **action}).amin(0)
        return batch.reward + batch.discount * q

    def _smoothing(self, noise: Tensor) -> Tensor:
        config = self.config
        return (config.target_noise * noise).clamp(
            -config.target_noise_clip, config.target_noise_clip
        )

    def _opponents(self, batch: ReplayBatch) -> Actions:
        """Other teams' actions in the successors, by averaged copies of their policies."""
        if self.config.critic not in ("all", "state"):
            return {}
        return opponents_actions(self._rivals(), self.setting, batch.next_obs)

    def _rivals(self) -> dict[str, Policy]:
        if self.rivals is None:
            self.rivals = {
                name: averaged(policy) if isinstance(policy, nn.Module) else policy
                for name, policy in self.setting.policies.items()
                if policy is not self.policy
            }
            for name, copied in self.rivals.items():
                if isinstance(copied, nn.Module):
                    original = self.setting.policies[name]
                    self.followers.append(Follower(copied, original))  # type: ignore[arg-type]  # a Module too
        return self.rivals

    # --------------------------------------------------------------------------------------- actors

    def _improve_together(self, batch: ReplayBatch, noise: Noise) -> Tensor:
        """All actors at once, the others doing what they did, or what they do now."""
        numbers = self.policy.numbers(batch.obs)
        fresh = self._played(numbers, batch, noise)
        now = self.config.others == "current"
        stored = self.encoded(batch.action)
        others = fresh if now else {n: stored[n] for n in self.team}
        q = self.q_of_fresh(batch, fresh, others)[0]  # [M, H]
        penalty = torch.cat([x.square().mean(-1) for x in numbers.values()], dim=-1).sum(-1)
        loss = self.config.output_penalty * penalty.mean() - q.sum(-1).mean()
        self.actor_optimizers[0].step(loss)
        return loss.detach()

    def _played(
        self, numbers: Mapping[str, Tensor], batch: ReplayBatch, noise: Noise
    ) -> dict[str, Tensor]:
        """Actions with gradient: numbers as they are, choices drawn."""
        played = {}
        for name, group in self.team.items():
            drawn = None if isinstance(group.action, Continuous) else noise[name]
            mask = batch.obs.groups[name].action_mask
            played[name] = self.policy.distributions[name].encoded(numbers[name], mask, drawn)[0]
        return played

    def _in_sequence(self, batch: ReplayBatch, noise: Sequence[Noise]) -> Tensor:
        """One actor after the other, each against what those before it do now."""
        with torch.no_grad():
            action = self._played(self.policy.numbers(batch.obs), batch, noise[2])
        action = {name: chosen.contiguous() for name, chosen in action.items()}
        losses = []
        for agent in update_order(len(self.agents), self.setting.generator):
            loss, own = self.improve_one[agent](batch, noise[1], noise[2], action)
            action = self.exchanged(agent, own, action)
            losses.append(loss)
        return torch.stack(losses).mean()

    def _one(self, agent: int) -> Any:
        """The step of one actor: its loss, and what it does afterwards ``[M, 1, A]``."""
        member, optimizer = self.members[agent], self.actor_optimizers[agent]
        is_number = isinstance(self.team[member.group].action, Continuous)

        def improve(
            batch: ReplayBatch, noise: Noise, later: Noise, action: Actions
        ) -> tuple[Tensor, Tensor]:
            own, _ = member.sample(batch.obs, None if is_number else noise)
            q = self.q_of_one(batch, agent, own, action)[0]
            penalty = member.numbers(batch.obs).square().mean()
            loss = self.config.output_penalty * penalty - q.mean()
            optimizer.step(loss)
            with torch.no_grad():
                return loss.detach(), member.sample(batch.obs, None if is_number else later)[0]

        return improve

    # ---------------------------------------------------------------------------------------- state

    def _kept(self) -> dict[str, Any]:
        rivals = self._rivals() if self.config.critic in ("all", "state") else {}
        copies = {f"rival_{n}": r for n, r in rivals.items() if isinstance(r, nn.Module)}
        return {**super()._kept(), "target_policy": self.target_policy, **copies}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "policy_loss": self.policy_loss}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.policy_loss = state["policy_loss"]
