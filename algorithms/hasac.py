"""HASAC, MASAC and ISAC: soft actor-critics for teams (Liu et al. 2024; Haarnoja et al. 2018).

With twin critics Q_1, Q_2 of the joint action, their averaged copies Q', and temperatures alpha_i
of every agent and alpha_c of the team:

    critics   (Q_k(s, a) - y)^2
              y = G + discount (min_k Q'_k(s', a') - alpha_c sum_i log pi_i(a'_i|o'_i))
    actor i   E[alpha_i log pi_i(a_i|o_i) - min_k Q_k(s, a_1 .. a_n)]
    alpha_i   -log alpha_i (log pi_i(a_i|o_i) + H_i)

G is the n-step sum of rewards and a' comes from the current policies. HASAC's actors move one after
the other in a random order, each against the actions that those before it take now (its algorithm
1); MASAC's move together; ISAC's critics see one agent each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from marl.algorithm import Setting, check_range
from marl.distributions import masked_log_softmax
from marl.errors import UserError
from marl.offpolicy import OffPolicy, OffPolicyConfig, opponents_actions
from marl.optimizer import Optimizer
from marl.policies import IndependentPolicy
from marl.qcritics import Actions
from marl.replay import ReplayBatch
from marl.sequence import update_order
from marl.types import ActionSpec, Continuous, Discrete, MultiDiscrete, Noise


@dataclass
class HASACConfig(OffPolicyConfig):
    """Hyperparameters of HASAC. Every agent has weights of its own, whatever model.sharing says."""

    sequential: bool = True
    alpha_lr: float = 3e-4
    temperature: float | None = None  # a fixed one for all; null to learn them
    entropy_target: float = 0.2  # H_i of choices, as a share of log(number of them)
    exact: bool = False  # the expectation over an agent's own choices, not a sample of it

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, alpha_lr=(0, 1), temperature=(0, math.inf), entropy_target=(0, 1))

    def policy(self, setting: Setting) -> IndependentPolicy:
        return IndependentPolicy(setting.team, self.model(setting)).to(setting.device)

    def build(self, setting: Setting) -> HASAC:
        return HASAC(self, setting)


@dataclass
class MASACConfig(HASACConfig):
    """HASAC whose actors move together."""

    sequential: bool = False


@dataclass
class ISACConfig(MASACConfig):
    """Independent soft actor-critics: every agent's critics see what it sees and does."""

    critic: str = "agent"
    reward: str = "own"


class HASAC(OffPolicy):
    names = ("critic_loss", "q", "policy_loss", "entropy", "temperature")

    def __init__(self, config: HASACConfig, setting: Setting):
        super().__init__(config, setting, config.policy(setting), k=2)
        self.config: HASACConfig = config
        specs = [self.team[name].action for name, _ in self.agents]
        if config.exact and not all(isinstance(spec, Discrete) for spec in specs):
            raise UserError("exact=true needs agents that have one choice each (Discrete actions)")
        targets = [entropy_target(spec, config.entropy_target) for spec in specs]
        device = setting.device
        self.entropy_target = torch.tensor(targets, device=device)  # [N]
        first = math.log(config.temperature) if config.temperature else 0.0
        self.log_alpha = torch.full((len(specs),), first, device=device)  # [N]
        self.log_alpha_team = torch.full((1,), first, device=device, requires_grad=True)
        self.log_alphas = [self.log_alpha[i : i + 1].requires_grad_() for i in range(len(specs))]
        self.alpha_optimizers = [
            Optimizer({"": [one]}, {"": config.alpha_lr}, config.adam_eps, math.inf)
            for one in (*self.log_alphas, self.log_alpha_team)
        ]
        compiler = self._compiler()
        self.improve_critics = compiler(self._improve_critics)
        self.improve_together = compiler(self._improve_together)
        self.improve_one = [compiler(self._one(agent)) for agent in range(len(self.members))]

    def _step(self, batch: ReplayBatch, noise: Sequence[Noise]) -> Tensor:
        """One update (Liu et al. 2024, algorithm 1)."""
        rivals = self._opponents(batch)
        critic = self.improve_critics(batch, noise[0], rivals)
        actor = self._in_sequence(batch, noise) if self.members else self.improve_together(
            batch, noise[1]
        )  # fmt: skip
        self.follow()
        return torch.cat([critic, actor, self.log_alpha.exp().mean().reshape(1)])

    # -------------------------------------------------------------------------------------- critics

    def _improve_critics(self, batch: ReplayBatch, noise: Noise, rivals: Actions) -> Tensor:
        loss, q = self.critic_loss(batch, self.target(batch, noise, rivals))
        self.critic_optimizer.step(loss)
        return torch.stack([loss.detach(), q])

    @torch.no_grad()
    def target(self, batch: ReplayBatch, noise: Noise, rivals: Actions) -> Tensor:
        """y ``[M, H]``; the entropy counts where the critic is asked, not along the n steps."""
        action, log_prob = self.policy.sample(batch.next_obs, noise)
        q = self.target_critic(batch.next_obs, {**rivals, **action}).amin(0)  # [M, H]
        each = torch.cat([log_prob[name] for name in self.team], dim=-1)  # [M, N]
        if self.critic.heads == 1:
            bonus = self.log_alpha_team.exp() * each.sum(-1, keepdim=True)
        else:
            bonus = self.log_alpha.exp() * each
        return batch.reward + batch.discount * (q - bonus)

    def _opponents(self, batch: ReplayBatch) -> Actions:
        """Other teams' actions in the successors, where the critics read them."""
        if self.config.critic not in ("all", "state"):
            return {}
        return opponents_actions(self.setting.policies, self.setting, batch.next_obs)

    # --------------------------------------------------------------------------------------- actors

    def _improve_together(self, batch: ReplayBatch, noise: Noise) -> Tensor:
        """All actors at once, each against what the others do now."""
        action, log_prob = self.policy.sample(batch.obs, noise)
        each = torch.cat([log_prob[name] for name in self.team], dim=-1)  # [M, N]
        q = self.q_of_fresh(batch, action, action).amin(0)
        cost = (self.log_alpha.exp() * each).sum(-1, keepdim=True) - q.sum(-1, keepdim=True)
        loss = cost.mean()
        self.actor_optimizers[0].step(loss)
        for agent in range(len(self.agents)):
            self._temper(agent, each[:, agent].detach())
        self._temper_team(each.detach())
        return torch.stack([loss.detach(), -each.detach().mean()])

    def _in_sequence(self, batch: ReplayBatch, noise: Sequence[Noise]) -> Tensor:
        """One actor after the other, each against what those before it do now."""
        with torch.no_grad():
            action, log_prob = self.policy.sample(batch.obs, noise[2])
        action = {name: chosen.contiguous() for name, chosen in action.items()}
        each = torch.cat([log_prob[name] for name in self.team], dim=-1)
        losses = []
        for agent in update_order(len(self.agents), self.setting.generator):
            loss, own = self.improve_one[agent](batch, noise[1], noise[2], action)
            action = self.exchanged(agent, own, action)
            losses.append(loss)
        self._temper_team(each)
        return torch.stack([torch.stack(losses).mean(), -each.mean()])

    def _one(self, agent: int) -> Any:
        """The step of one actor: its loss, and what it does afterwards ``[M, 1, A]``."""
        member, optimizer = self.members[agent], self.actor_optimizers[agent]

        def improve(
            batch: ReplayBatch, noise: Noise, later: Noise, action: Actions
        ) -> tuple[Tensor, Tensor]:
            if self.config.exact:
                loss, log_prob = self._exact_loss(batch, agent, action)
            else:
                own, log_prob = member.sample(batch.obs, noise)
                q = self.q_of_one(batch, agent, own, action).amin(0)
                loss = (self.log_alpha[agent].exp() * log_prob.squeeze(-1) - q).mean()
            optimizer.step(loss)
            self._temper(agent, log_prob.detach())
            with torch.no_grad():
                return loss.detach(), member.sample(batch.obs, later)[0]

        return improve

    def _exact_loss(self, batch: ReplayBatch, agent: int, action: Actions) -> tuple[Tensor, Tensor]:
        """E over the agent's own choices: ``sum_a pi(a) (alpha log pi(a) - min_k Q_k(s, a, ..))``.
        Also returns ``sum_a pi(a) log pi(a)``, ``[M]``."""
        member, (name, row) = self.members[agent], self.agents[agent]
        mask = batch.obs.groups[name].action_mask
        mask = None if mask is None else mask[:, row]
        log_probs = masked_log_softmax(member.numbers(batch.obs).squeeze(-2), mask)  # [M, A]
        choices = torch.eye(log_probs.shape[-1], device=log_probs.device)
        every = {n: a.unsqueeze(1).expand(-1, len(choices), *a.shape[1:]) for n, a in
                 {**self.encoded(batch.action), **action}.items()}  # fmt: skip
        own = choices.expand(len(log_probs), -1, -1).unsqueeze(-2)  # [M, A, 1, A]
        team = every[name]
        every[name] = torch.cat([team[:, :, :row], own, team[:, :, row + 1 :]], dim=2)
        q = self.critic(batch.obs, every)[..., agent if self.critic.heads > 1 else 0].amin(0)
        alpha, probs = self.log_alpha[agent].exp(), log_probs.exp()
        loss = (probs * (alpha * log_probs - q.detach())).sum(-1).mean()
        return loss, (probs * log_probs).sum(-1)

    # --------------------------------------------------------------------------------- temperatures

    def _temper(self, agent: int, log_prob: Tensor) -> None:
        if self.config.temperature is None:
            error = log_prob.mean() + self.entropy_target[agent]
            self.alpha_optimizers[agent].step(-(self.log_alphas[agent] * error).sum())

    def _temper_team(self, each: Tensor) -> None:
        if self.config.temperature is None:
            error = each.sum(-1).mean() + self.entropy_target.sum()
            self.alpha_optimizers[-1].step(-(self.log_alpha_team * error).sum())

    def _kept(self) -> dict[str, Any]:
        optimizers = {f"alpha_{i}": one for i, one in enumerate(self.alpha_optimizers)}
        return {**super()._kept(), **optimizers}

    def state_dict(self) -> dict[str, Any]:
        alphas = {"log_alpha": self.log_alpha, "log_alpha_team": self.log_alpha_team.detach()}
        return {**super().state_dict(), **alphas}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.log_alpha.copy_(state["log_alpha"])
        with torch.no_grad():
            self.log_alpha_team.copy_(state["log_alpha_team"])


def entropy_target(spec: ActionSpec, share: float) -> float:
    """H of one agent: minus the number of dimensions, or a share of the most that choices have."""
    match spec:
        case Continuous():
            return -float(len(spec.low))
        case Discrete():
            return share * math.log(spec.n)
        case MultiDiscrete():
            return share * sum(math.log(n) for n in spec.nvec)
