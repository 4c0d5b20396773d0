"""Actors under critics of the joint action, off policy: the base of soft and deterministic ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from marl.algorithm import Context
from marl.algorithms.off_policy import OffPolicyConfig, ReplayLearner
from marl.critics.action_value import Actions, exchanged, joint_actions, q_critics
from marl.critics.inputs import SCOPES
from marl.errors import UserError
from marl.learning.losses import masked_mean
from marl.learning.optimizer import Optimizer
from marl.learning.replay import ReplayBatch
from marl.learning.sequential import update_order
from marl.learning.target_networks import TargetNetwork, target_copy
from marl.policies.agent import AgentPolicy, agent_policies
from marl.policies.base import DifferentiablePolicy, Policy, encoded_actions
from marl.types import Noise, Observation, Stats
from marl.utils.compilation import compile_function


class ActorCritic(ReplayLearner):
    """K critics with target networks, and actors that move together or, with ``sequential``, one
    after the other (``marl.learning.sequential``).

    A subclass writes ``update``, ``target`` and what actors minimise: ``loss_simultaneous`` and
    ``loss_of_agent``.

    An absent agent's action is all zeros to critics, be it stored or fresh, and its log-probability
    0; what actors minimise is of those alive in ``obs``, and so is what critics do under the
    agents' own rewards. A team's return goes on without the dead.
    """

    actor_stat_names: tuple[str, ...] = ("policy_loss",)  # what ``update_actors`` returns

    def __init__(
        self, config: OffPolicyConfig, context: Context, policy: DifferentiablePolicy, k: int
    ):
        super().__init__(config, context, policy)
        self.scope = SCOPES[config.critic]
        critic = q_critics(
            k,
            self.scope,
            team=self.team,
            everyone=context.everyone,
            state_size=context.state_size,
            heads=self.scheme.heads(self.team),
            model=context.critic_model,
        )
        self.critic = critic.to(context.device)
        self.target_critic = target_copy(self.critic)
        self.target_networks.append(TargetNetwork(self.target_critic, self.critic))
        self.critic_optimizer = self.optimizer(self.critic.parameters(), config.critic_lr)
        self.agent_policies: list[AgentPolicy] = agent_policies(policy) if config.sequential else []
        if policy.initial_carry(1):
            raise UserError("off-policy actors have no memory yet; leave model.gru=0")
        self.draws = 3 if self.agent_policies else 2  # for target, losses, and what others see
        each = [agent.parameters for agent in self.agent_policies] or [list(policy.parameters())]
        self.actor_optimizers = [self.optimizer(part, config.actor_lr) for part in each]
        zero = torch.zeros((), device=context.device)
        self.actor_stats: Stats = dict.fromkeys(self.actor_stat_names, zero)  # of their last step
        self._make_steps(compile_function if config.compile else lambda function: function)

    def optimizer(self, parameters: Iterable[Tensor], lr: float) -> Optimizer:
        config = self.config
        return Optimizer({"": parameters}, {"": lr}, config.adam_eps, config.max_grad_norm)

    def _make_steps(self, compiler: Any) -> None:
        """Compiles reading, the critics' step, and that of all actors or of each."""
        self.read, self.update_critic = compiler(self.read), compiler(self.update_critic)
        if not self.agent_policies:
            self.update_actors = compiler(self.update_actors)
        self.rsample = compiler(self.policy.rsample)
        agents = range(len(self.agent_policies))
        self.step_of_agent = [partial(compiler(self._step_of_agent), agent) for agent in agents]

    def networks(self) -> list[nn.Module]:
        return [self.policy, self.critic]

    # -------------------------------------------------------------------------------------- critics

    def target(self, batch: ReplayBatch, noise: Noise, opponents: Actions) -> Tensor:
        """Returns y, what the critics should give, ``[M, H]``, without gradient. ``opponents`` are
        the actions of other teams in the successors, where critics read them."""
        raise NotImplementedError

    def update_critic(self, batch: ReplayBatch, noise: Noise, opponents: Actions) -> Stats:
        """Descends ``(Q_k(s, a) - y)^2``, summed over the critics. Under the agents' own rewards it
        is of the living, and so is the mean value."""
        y = self.target(batch, noise, opponents)
        q = self.critic(batch.obs, batch.action)  # [K, M, H]
        mask = self.scheme.mask(self.alive(batch.obs))
        loss = masked_mean((q - y).square().sum(0), mask)
        self.critic_optimizer.step(loss)
        return {"critic_loss": loss.detach(), "q": masked_mean(q.detach().mean(0), mask)}

    def opponent_actions(self, batch: ReplayBatch) -> Actions:
        """Returns what other teams do in the successors, as critics read it; none where they do not
        read it."""
        if not self.scope.reads_actions_of_others:
            return {}
        others = {n: p for n, p in self.opponent_policies().items() if p is not self.policy}
        return encoded_actions(others, batch.next_obs, self.context.generator)

    def opponent_policies(self) -> Mapping[str, Policy]:
        """Returns the policies that other teams are expected to follow, by team."""
        return self.context.policies

    # --------------------------------------------------------------------------------------- actors

    @property
    def actors_are_due(self) -> bool:
        return self.updates % self.config.actor_interval == 0

    def loss_simultaneous(self, batch: ReplayBatch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Returns what all actors minimise when they move together, and the log-probabilities of
        their actions, ``[M, N]``."""
        raise NotImplementedError

    def loss_of_agent(
        self, agent: int, batch: ReplayBatch, noise: Noise, action: Actions
    ) -> tuple[Tensor, Tensor]:
        """Returns what one actor minimises while its team plays ``action``, and its
        log-probabilities ``[M]``."""
        raise NotImplementedError

    def update_actors(self, batch: ReplayBatch, noise: list[Noise]) -> Stats:
        """Moves all actors; returns ``actor_stat_names``."""
        raise NotImplementedError

    def step_in_turn(self, batch: ReplayBatch, noise: Noise, seen: Noise) -> tuple[Tensor, Tensor]:
        """Moves one agent after the other in a fresh random order, each by ``loss_of_agent``
        against what those before it do now and those behind it did.

        Args:
            noise: behind the actions in the losses.
            seen: behind the actions that the others see.

        Returns:
            The mean of the losses, and all log-probabilities ``[M, N]``.
        """
        with torch.no_grad():
            action, _ = self.rsample(batch.obs, seen)
        action = {name: chosen.contiguous() for name, chosen in action.items()}
        loss, log_prob = {}, {}
        for agent in update_order(len(self.agents), self.context.generator):
            step = self.step_of_agent[agent]
            loss[agent], log_prob[agent], own = step(batch, noise, seen, action)
            action = exchanged(action, *self.agents[agent], own)
        each = torch.stack([log_prob[agent] for agent in range(len(self.agents))], dim=-1)
        return torch.stack(list(loss.values())).mean(), each

    def _step_of_agent(
        self, agent: int, batch: ReplayBatch, noise: Noise, seen: Noise, action: Actions
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Moves one actor; its loss, log-probabilities, and what it does now ``[M, 1, A]``."""
        loss, log_prob = self.loss_of_agent(agent, batch, noise, action)
        self.actor_optimizers[agent].step(loss)
        with torch.no_grad():
            own, _ = self.agent_policies[agent].rsample(batch.obs, seen)
        return loss.detach(), log_prob.detach(), own

    # ------------------------------------------------------------------- values and costs of agents

    def q_of_fresh(self, batch: ReplayBatch, fresh: Actions, others: Actions) -> Tensor:
        """Q ``[K, M, H]`` of every agent's ``fresh`` action while the ``others`` play theirs; H is
        1 where one value moves all of them at once."""
        if self.scope.local or (self.critic.heads == 1 and others is fresh):
            return self.critic(batch.obs, {**batch.action, **fresh})
        base = {**batch.action, **{n: a.detach() for n, a in others.items()}}
        return self.critic(batch.obs, joint_actions(fresh, base), each=True)

    def q_of_one(self, batch: ReplayBatch, agent: int, own: Tensor, actions: Actions) -> Tensor:
        """Q ``[K, M]`` of the agent's ``own [M, 1, A]`` while its team plays ``actions``."""
        joint = {**batch.action, **exchanged(actions, *self.agents[agent], own)}
        return self.critic(batch.obs, joint)[..., agent if self.critic.heads > 1 else 0]

    def by_agent(self, q: Tensor, alive: Tensor | None) -> Tensor:
        """Q ``[M, H]`` for each agent; where one value is that of all, an equal part of it,
        ``[M, 1]``, so that over the living it sums up."""
        if q.shape[-1] == len(self.agents):
            return q
        return q / (len(self.agents) if alive is None else alive.sum(-1, keepdim=True).clamp_min(1))

    def of_team(self, cost: Tensor, alive: Tensor | None) -> Tensor:
        """What a team of the living costs in the mean, of every agent's ``cost [M, N]``."""
        return cost.shape[-1] * masked_mean(cost, alive)

    def of_one(self, cost: Tensor, agent: int, obs: Observation) -> Tensor:
        """The mean of one agent's ``cost [M]`` where it is alive."""
        alive = self.alive(obs)
        return masked_mean(cost, None if alive is None else alive[:, agent])

    # ---------------------------------------------------------------------------------------- state

    def parts(self) -> dict[str, Any]:
        actors = {f"actor_{i}": optimizer for i, optimizer in enumerate(self.actor_optimizers)}
        return {
            **super().parts(),
            "critic": self.critic,
            "target_critic": self.target_critic,
            "critic_optimizer": self.critic_optimizer,
            **actors,
        }

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "actor_stats": torch.stack(list(self.actor_stats.values()))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        values = state["actor_stats"].unbind()
        self.actor_stats = dict(zip(self.actor_stat_names, values, strict=True))
