"""HASAC, MASAC and ISAC: soft actor-critics for teams (Liu et al. 2024; Haarnoja et al. 2018).

With twin critics Q_1, Q_2 of the joint action, their averaged copies Q', and temperatures alpha_i
of every agent and alpha_c of the team:

    critics   (Q_k(s, a) - y)^2
              y = G + discount (min_k Q'_k(s', a') - alpha_c sum_i log pi_i(a'_i|o'_i))
    actor i   E[alpha_i log pi_i(a_i|o_i) - min_k Q_k(s, a_1 .. a_n)]
    alpha_i   -log alpha_i (log pi_i(a_i|o_i) + H_i)

Sums over agents are over the living, and means of one agent over the steps it lives to see.
G is the n-step sum of rewards and a' comes from the current policies. HASAC's actors move one after
the other in a random order, each against the actions that those before it take now (its algorithm
1); MASAC's move together; ISAC's critics see one agent each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from marl.algorithm import Context
from marl.algorithms.actor_critic import ActorCritic
from marl.algorithms.off_policy import OffPolicyConfig
from marl.critics.action_value import Actions
from marl.errors import UserError
from marl.learning.losses import masked_mean, masked_means, mean_stats
from marl.learning.optimizer import Optimizer
from marl.learning.replay import ReplayBatch
from marl.policies.base import DifferentiablePolicy
from marl.policies.bayesian import team_policy
from marl.policies.distributions import masked_log_softmax
from marl.types import (
    ActionSpec,
    Continuous,
    Discrete,
    Metrics,
    MultiDiscrete,
    Noise,
    Rollout,
    Stats,
)
from marl.utils.validation import check_range

MOST = math.log(2)  # nats that one dimension in [-1, 1] can have


@dataclass
class HASACConfig(OffPolicyConfig):
    """Hyperparameters of HASAC. Every agent has weights of its own, whatever model.sharing says."""

    sequential: bool = True
    alpha_lr: float = 3e-4
    temperature: float | None = None  # a fixed one for all; null to learn them
    entropy_target: float = 0.2  # H_i of choices, as a share of log(number of them)
    entropy_per_dimension: float = -1.0  # H_i of vectors, nats for each dimension in [-1, 1]
    exact: bool = False  # the expectation over an agent's own choices, not a sample of it

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(
            self, alpha_lr=(0, 1), temperature=(0, math.inf), entropy_target=(0, 1),
            entropy_per_dimension=(-100, MOST),
        )  # fmt: skip
        if self.exact and self.joint.graph != "none":
            raise UserError("exact=true is of independent policies; set joint.graph=none")

    def policy(self, context: Context) -> DifferentiablePolicy:
        return team_policy(context.team, self.model(context), self.joint).to(context.device)

    def build(self, context: Context) -> HASAC:
        return HASAC(self, context)


@dataclass
class MASACConfig(HASACConfig):
    """HASAC whose actors move together."""

    sequential: bool = False


@dataclass
class ISACConfig(MASACConfig):
    """Independent soft actor-critics: every agent's critics see what it sees and does."""

    critic: str = "agent"
    reward: str = "own"


class HASAC(ActorCritic):
    actor_stat_names = ("policy_loss", "entropy", "temperature")

    def __init__(self, config: HASACConfig, context: Context):
        super().__init__(config, context, config.policy(context), k=2)
        self.config: HASACConfig = config
        specs = [self.team[name].action for name, _ in self.agents]
        if config.exact and not all(isinstance(spec, Discrete) for spec in specs):
            raise UserError("exact=true needs agents that have one choice each (Discrete actions)")
        targets = [
            entropy_target(spec, config.entropy_target, config.entropy_per_dimension)
            for spec in specs
        ]
        self.entropy_target = torch.tensor(targets, device=context.device)  # [N]
        first = math.log(config.temperature) if config.temperature else 0.0
        self.log_alpha = torch.full((len(specs) + 1,), first, device=context.device)
        self.alpha_optimizer = Optimizer(
            {"": [self.log_alpha.requires_grad_()]},
            {"": config.alpha_lr},
            config.adam_eps,
            math.inf,
        )

    @property
    def alpha(self) -> Tensor:
        """Temperatures ``[N + 1]``: every agent's, and last the team's."""
        return self.log_alpha.detach().exp()

    def update(self, rollout: Rollout) -> Metrics:
        """Takes the gradient steps that are due (Liu et al. 2024, algorithm 1)."""
        steps: list[Stats] = []
        for batch, (noise, *others) in self.batches(rollout):
            critic = self.update_critic(batch, noise, self.opponent_actions(batch))
            if self.actors_are_due:
                self.actor_stats = self.update_actors(batch, others)
                self.update_targets()
            steps.append({**critic, **self.actor_stats})
        return mean_stats(steps)

    @torch.no_grad()
    def target(self, batch: ReplayBatch, noise: Noise, opponents: Actions) -> Tensor:
        """y; the entropy counts where the critic is asked, not along the n steps. Log-probabilities
        of the absent are 0."""
        action, log_prob = self.policy.rsample(batch.next_obs, noise)
        q = self.target_critic(batch.next_obs, {**opponents, **action}).amin(0)  # [M, H]
        each = self._joined(log_prob)
        if self.critic.heads == 1:
            bonus = self.alpha[-1] * each.sum(-1, keepdim=True)
        else:
            bonus = self.alpha[:-1] * each
        return batch.reward + batch.discount * (q - bonus)

    def update_actors(self, batch: ReplayBatch, noise: list[Noise]) -> Stats:
        """Moves the actors, in turn by ``loss_of_agent`` or together by ``loss_simultaneous``, and
        then the temperatures."""
        if self.agent_policies:
            loss, log_prob = self.step_in_turn(batch, *noise)
        else:
            loss, log_prob = self.loss_simultaneous(batch, *noise)
            self.actor_optimizers[0].step(loss)
        temperature = self.update_temperature(log_prob.detach(), self.alive(batch.obs))
        return {"policy_loss": loss.detach(), **temperature}

    def loss_simultaneous(self, batch: ReplayBatch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Each against what the others do now."""
        if self.config.exact:
            return self._exact_losses(batch, noise)
        action, log_prob = self.policy.rsample(batch.obs, noise)
        each, alive = self._joined(log_prob), self.alive(batch.obs)
        q = self.by_agent(self.q_of_fresh(batch, action, action).amin(0), alive)
        return self.of_team(self.alpha[:-1] * each - q, alive), each

    def loss_of_agent(
        self, agent: int, batch: ReplayBatch, noise: Noise, action: Actions
    ) -> tuple[Tensor, Tensor]:
        policy = self.agent_policies[agent]
        if self.config.exact:
            logits = policy.distribution_params(batch.obs).squeeze(-2)
            cost, log_prob = self._exact_cost(agent, logits, batch, action)
        else:
            own, log_prob = policy.rsample(batch.obs, noise)
            q = self.q_of_one(batch, agent, own, action).amin(0)
            log_prob = log_prob.squeeze(-1)
            cost = self.alpha[agent] * log_prob - q
        return self.of_one(cost, agent, batch.obs), log_prob

    def _exact_losses(self, batch: ReplayBatch, noise: Noise) -> tuple[Tensor, Tensor]:
        outputs = self.policy.distribution_params(batch.obs)
        action, _ = self.policy.rsample(batch.obs, noise, outputs)
        pairs = [
            self._exact_cost(agent, outputs[name][:, row], batch, action)
            for agent, (name, row) in enumerate(self.agents)
        ]
        cost, log_prob = (torch.stack(each, dim=-1) for each in zip(*pairs, strict=True))
        return self.of_team(cost, self.alive(batch.obs)), log_prob

    def _exact_cost(
        self, agent: int, logits: Tensor, batch: ReplayBatch, action: Actions
    ) -> tuple[Tensor, Tensor]:
        """E over the agent's own choices: ``sum_a pi(a) (alpha log pi(a) - min_k Q_k(s, a, ..))``,
        ``[M]``. Also returns ``sum_a pi(a) log pi(a)``, ``[M]``."""
        name, row = self.agents[agent]
        mask = batch.obs.groups[name].action_mask
        log_probs = masked_log_softmax(logits, None if mask is None else mask[:, row])
        choices = torch.eye(log_probs.shape[-1], device=log_probs.device)
        every = {n: a.detach().unsqueeze(1).expand(-1, len(choices), *a.shape[1:]) for n, a in
                 {**batch.action, **action}.items()}  # fmt: skip
        own = choices.expand(len(log_probs), -1, -1).unsqueeze(-2)  # [M, A, 1, A]
        team = every[name]
        every[name] = torch.cat([team[:, :, :row], own, team[:, :, row + 1 :]], dim=2)
        q = self.critic(batch.obs, every)[..., agent if self.critic.heads > 1 else 0].amin(0)
        probs = log_probs.exp()
        cost = (probs * (self.alpha[agent] * log_probs - q.detach())).sum(-1)
        return cost, (probs * log_probs).sum(-1)

    def update_temperature(self, log_prob: Tensor, alive: Tensor | None = None) -> Stats:
        """Moves the temperatures by all actors' ``log_prob [M, N]``. They are read by the next
        update only: one step does for all."""
        if self.config.temperature is None:
            error = log_prob + self.entropy_target  # [M, N]
            team = error if alive is None else error * alive  # of all who live in a step, together
            error = torch.cat([masked_means(error, alive), team.sum(-1).mean(0, keepdim=True)])
            self.alpha_optimizer.step(-(self.log_alpha * error).sum())
        return {"entropy": -masked_mean(log_prob, alive), "temperature": self.alpha[:-1].mean()}

    def _joined(self, log_prob: Mapping[str, Tensor]) -> Tensor:
        """``[M, N]`` over the team's agents."""
        return torch.cat([log_prob[name] for name in self.team], dim=-1)

    def parts(self) -> dict[str, Any]:
        return {**super().parts(), "alpha_optimizer": self.alpha_optimizer}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "log_alpha": self.log_alpha.detach()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])


def entropy_target(spec: ActionSpec, share: float, each: float = -1.0) -> float:
    """Returns H of one agent, in nats: ``each`` for every dimension that its bounds leave free (of
    actions in [-1, 1]; -1 is Haarnoja et al.'s), or a ``share`` of the most that choices have."""
    match spec:
        case Continuous():
            return each * sum(spec.free)
        case Discrete():
            return share * math.log(spec.n)
        case MultiDiscrete():
            return share * sum(math.log(n) for n in spec.nvec)
