"""Base of off-policy actor-critics: K critics of the joint action, and actors below them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from marl.algorithm import Context
from marl.algorithms.off_policy import OffPolicyConfig, ReplayLearner
from marl.critics.action_value import q_critics
from marl.critics.incremental import FirstLayer, IncrementalQ, is_incremental
from marl.critics.inputs import SCOPES
from marl.critics.joint_actions import Actions, joint_actions, replace_action
from marl.errors import UserError
from marl.learning.losses import masked_mean
from marl.learning.optimizer import Optimizer
from marl.learning.recurrent import (
    SequenceBatch,
    carry_before,
    next_policy_carry,
    params_of,
    q_of_stored,
    sequence_batch,
)
from marl.learning.replay import ReplayBatch
from marl.learning.sequential import update_order
from marl.learning.target_networks import TargetNetwork, target_copy
from marl.policies.agent import AgentPolicy, agent_policies
from marl.policies.base import DifferentiablePolicy, Policy
from marl.policies.encoding import encode, encoded_actions
from marl.policies.kinds import recurrent_policy
from marl.types import Noise, Observation, Stats, tree_tensors
from marl.utils.compilation import compile_function
from marl.utils.programs import learning_step

#: Number of agents from which a sequence of them computes critics' first layers incrementally. For
#: smaller teams less is saved, and their numbers stay those of all versions before.
LARGE_TEAM = 5


class ActorCritic(ReplayLearner[OffPolicyConfig, tuple[ReplayBatch, list[Noise]]]):
    """K critics of the joint action with target networks, and actors below them.

    Actors are updated together or, with ``sequential``, one after the other
    (``marl.learning.sequential``).

    A subclass implements ``update``, ``target``, and the actors' losses: ``loss_simultaneous`` and
    ``loss_of_agent``.

    To critics an absent agent's action is all zeros, stored or fresh, and its log-probability is 0.
    The actors' losses are means over the agents alive in ``obs``; so is the critics' loss under the
    agents' own rewards, while a team's return continues after a death.

    H counts the returns that critics estimate: the team's N agents under their own rewards, else 1.

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm; with a replay.
        policy: the team's.
        k: K, the number of critics.

    Raises:
        UserError: the policy has a memory and is no ``RecurrentPolicy``; or ``sequential`` is set
            and its agents cannot be updated one after the other.
    """

    #: How many times the policy's noise is drawn for each batch.
    noise_draws = 2
    #: Names of the statistics that ``update_actors`` returns, in the order of checkpoints.
    actor_stat_names: tuple[str, ...] = ("policy_loss",)

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
        self.recurrent = bool(policy.initial_carry(1) or tree_tensors(critic.initial_carry(1)))
        if self.recurrent:
            self._require_sequences()
        self.incremental: IncrementalQ | None = None
        if len(self.agent_policies) >= LARGE_TEAM and is_incremental(critic):
            self.incremental = IncrementalQ(critic, self.agents)
        # For the target, the losses and, in sequence, the actions that the other agents observe.
        self.noise_draws = 3 if self.agent_policies else 2
        actors = [agent.parameters for agent in self.agent_policies] or [list(policy.parameters())]
        self.actor_optimizers = [self.optimizer(part, config.actor_lr) for part in actors]
        zero = torch.zeros((), device=context.device)
        self.actor_stats: Stats = dict.fromkeys(self.actor_stat_names, zero)  # of the last update
        self._make_steps()

    def _require_sequences(self) -> None:
        """Raises UserError where memories cannot be computed for sequences of the replay."""
        self.require_steps(self.config.burn_in + self.config.sequence_length)
        if self.policy.initial_carry(1) and recurrent_policy(self.policy) is None:
            raise UserError(
                f"a {type(self.policy).__name__} has no memory off policy; set model.gru=0, or "
                "take an independent policy (algorithm.joint.graph=none)"
            )

    def optimizer(self, parameters: Iterable[Tensor], lr: float) -> Optimizer:
        """Returns an optimizer with the configuration's epsilon and gradient clipping.

        Args:
            parameters: what it updates.
            lr: learning rate.
        """
        config = self.config
        return Optimizer({"": parameters}, {"": lr}, config.adam_eps, config.max_grad_norm)

    def _make_steps(self) -> None:
        """Compiles or captures the critics' step, the step of all or of each actor, and what they
        read."""
        word, actors = self.execution, self.actor_optimizers
        self.update_critic = learning_step(word, self.update_critic, self.critic_optimizer.tensors)
        if not self.agent_policies:
            self.update_actors = learning_step(word, self.update_actors, self.actor_tensors)
        self.sample_current = learning_step(word, self.sample_current)
        if self.recurrent:
            self.remember = learning_step(word, self.remember)
        if word == "compiled":  # captured, it would copy the replay's successors
            self.read = compile_function(self.read)
        self.step_of_agent = [
            self._prepared_step(agent, actors[agent]) for agent in range(len(self.agent_policies))
        ]

    def _prepared_step(self, agent: int, optimizer: Optimizer) -> Callable[..., Any]:
        """Returns the step of one actor, which is compiled or captured for itself."""
        if self.execution != "captured":
            return partial(learning_step(self.execution, self._step_of_agent), agent)
        return learning_step("captured", partial(self._step_of_agent, agent), optimizer.tensors)

    def actor_tensors(self) -> list[Tensor]:
        """Returns all tensors that ``update_actors`` changes in place."""
        return [x for optimizer in self.actor_optimizers for x in optimizer.tensors()]

    def networks(self) -> list[nn.Module]:
        return [self.policy, self.critic]

    # -------------------------------------------------------------------------------------- batches

    def next_batch(self) -> tuple[ReplayBatch, list[Noise]]:
        """Samples transitions of the replay, and ``noise_draws`` times the noise of their actions.
        Counts one update."""
        config, generator = self.config, self.context.generator
        if self.recurrent:
            index = self.draw_sequences(config.sequence_length, config.burn_in)
        else:
            index = self.replay.draw(self.batch_size, generator)
        batch = self.read(index, self.replay.successors.rows)
        stored = {f"{n}/{k}": value for n, aux in batch.aux.items() for k, value in aux.items()}
        self.updates += 1
        return batch, [
            {**self.policy.noise(len(batch.reward), generator), **stored}
            for _ in range(self.noise_draws)
        ]

    def read(self, index: Tensor, rows: Observation | None = None) -> ReplayBatch:
        """Returns the transitions that begin at frames ``index``, with encoded actions.

        Args:
            index: frames of the replay, ``[M]``; with memory those of S sequences, ``[b + L, S]``.
            rows: the stored successors, as in ``Replay.transitions``.

        Returns:
            Transitions of ``n_step`` steps, with actions as critics read them, ``[M, N, A]``; a
            ``SequenceBatch`` with memory.
        """
        config, everyone = self.config, self.context.everyone
        if index.dim() == 2:
            sequences = self.replay.sequences(index, self.team, self.scheme, rows)
            action = encode(everyone, sequences.action, sequences.obs)
            sequences = replace(sequences, action=action)
            return sequence_batch(sequences, config.burn_in, config.n_step, config.gamma)
        batch = self.replay.transitions(
            index, config.n_step, config.gamma, self.team, self.scheme, rows
        )
        return replace(batch, action=encode(everyone, batch.action, batch.obs))

    def remember(self, batch: ReplayBatch) -> ReplayBatch:
        """Returns the batch with the critics' memories before each transition, if they have one."""
        if not isinstance(batch, SequenceBatch):
            return batch
        return replace(batch, critic_carry=carry_before(self.critic, batch))

    # -------------------------------------------------------------------------------------- critics

    def target(self, batch: ReplayBatch, noise: Noise, opponents: Actions) -> Tensor:
        """Computes y, the value that the critics are fitted to, without gradient.

        Args:
            batch: M transitions.
            noise: noise of the team's actions in the successors.
            opponents: actions of other teams in the successors, ``[M, N, A]`` by group; empty where
                critics do not read them.

        Returns:
            y, ``[M, H]``.
        """
        raise NotImplementedError

    def update_critic(self, batch: ReplayBatch, noise: Noise, opponents: Actions) -> Stats:
        """Takes a gradient step on ``sum_k (Q_k(s, a) - y)^2``.

        Under the agents' own rewards the loss and the mean value are over the agents alive.

        Args:
            batch: M transitions.
            noise: noise of the team's actions in the successors.
            opponents: actions of other teams in the successors, as in ``target``.

        Returns:
            ``critic_loss``, and ``q``, the mean value.
        """
        y = self.target(batch, noise, opponents)
        q = q_of_stored(self.critic, batch)  # [K, M, H]
        mask = self.scheme.mask(self.alive(batch.obs))
        loss = masked_mean((q - y).square().sum(0), mask)
        self.critic_optimizer.step(loss)
        return {"critic_loss": loss.detach(), "q": masked_mean(q.detach().mean(0), mask)}

    def opponent_actions(self, batch: ReplayBatch) -> Actions:
        """Samples the other teams' actions in the successors.

        Args:
            batch: M transitions.

        Returns:
            ``[M, N, A]`` by group; empty where critics do not read them.
        """
        if not self.scope.reads_actions_of_others:
            return {}
        others = {n: p for n, p in self.opponent_policies().items() if p is not self.policy}
        carry = {n: next_policy_carry(p, batch) for n, p in others.items()}
        return encoded_actions(others, batch.next_obs, self.context.generator, carry)

    def opponent_policies(self) -> Mapping[str, Policy]:
        """Returns the policies that targets assume of other teams, by team."""
        return self.context.policies

    # --------------------------------------------------------------------------------------- actors

    @property
    def actors_are_due(self) -> bool:
        """Whether this update moves actors and target networks too (``actor_interval``)."""
        return self.updates % self.config.actor_interval == 0

    def loss_simultaneous(self, batch: ReplayBatch, noise: Noise) -> tuple[Tensor, Tensor]:
        """Computes the loss of all actors together.

        Args:
            batch: M transitions.
            noise: noise of the actions in the loss.

        Returns:
            The loss, and the log-probabilities of the actions, ``[M, N]``.
        """
        raise NotImplementedError

    def loss_of_agent(
        self,
        agent: int,
        batch: ReplayBatch,
        noise: Noise,
        action: Actions,
        first: FirstLayer | None = None,
        params: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Computes the loss of one actor.

        Args:
            agent: its index in the team.
            batch: M transitions.
            noise: noise of the actions in the loss.
            action: the team's current actions, ``[M, N, A]`` by group.
            first: the critics' first layers for these actions; None to compute them.
            params: the parameters of its action distribution, with gradient, ``[M, 1, P]``; None to
                compute them.

        Returns:
            The loss, and the log-probabilities of the agent's actions, ``[M]``.
        """
        raise NotImplementedError

    def update_actors(self, batch: ReplayBatch, noise: list[Noise]) -> Stats:
        """Takes a gradient step of every actor.

        Args:
            batch: M transitions.
            noise: noise of the actions in the losses and, in sequence, of those that the other
                agents observe.

        Returns:
            The statistics of ``actor_stat_names``.
        """
        raise NotImplementedError

    def step_in_turn(
        self, batch: ReplayBatch, noise: Noise, peer_noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """Updates one agent after the other by ``loss_of_agent``, in a new random order.

        Each loss holds the new actions of the agents before it and the old actions of those after.

        Args:
            batch: M transitions.
            noise: noise of the actions in the losses.
            peer_noise: noise of the actions that the other agents' losses hold.

        Returns:
            The mean of the losses, and all log-probabilities ``[M, N]``.
        """
        params = self.params_in_turn(batch)
        action = self.sample_current(batch, peer_noise, *params)
        action = {name: values.clone() for name, values in action.items()}
        first, loss, log_prob = self.first_layer(batch, action), {}, {}
        order = update_order(len(self.agents), self.context.generator)
        for agent in order:
            last = agent == order[-1] and self.execution == "eager"  # else of one structure always
            loss[agent], log_prob[agent], new = self.step_of_agent[agent](
                batch, noise, None if last else peer_noise, action, first, *params[agent:agent + 1]
            )  # fmt: skip
            if first is not None and new is not None and self.incremental is not None:
                first = self.incremental.replace(first, agent, new, action)
            if new is not None:
                name, row = self.agents[agent]
                action[name][:, row : row + 1] = new
        log_probs = torch.stack([log_prob[agent] for agent in range(len(self.agents))], dim=-1)
        return torch.stack(list(loss.values())).mean(), log_probs

    def params_in_turn(self, batch: ReplayBatch) -> list[Tensor]:
        """Computes the parameters of all agents' action distributions before the first step, which
        serve each agent's loss and the actions that the others' losses hold.

        Args:
            batch: M transitions.

        Returns:
            ``[M, 1, P]`` of each agent, with gradient. Empty where every step computes its own: in
            small teams (``LARGE_TEAM``), compiled and captured.
        """
        if self.incremental is None or self.execution != "eager":
            return []
        return [params_of(policy, batch) for policy in self.agent_policies]

    @torch.no_grad()
    def sample_current(self, batch: ReplayBatch, noise: Noise, *params: Tensor) -> Actions:
        """Samples the current policies' actions in ``batch.obs``, ``[M, N, A]`` by group.

        Args:
            batch: M transitions.
            noise: noise of the actions.
            params: what ``params_in_turn`` returned.
        """
        if not params:
            return self.policy.rsample(batch.obs, noise, params_of(self.policy, batch, noise))[0]
        by_group: dict[str, list[Tensor]] = {name: [] for name in self.team}
        for (name, _), agent_params in zip(self.agents, params, strict=True):
            by_group[name].append(agent_params)
        together = {name: torch.cat(parts, dim=-2) for name, parts in by_group.items()}
        return self.policy.rsample(batch.obs, noise, together)[0]

    def _step_of_agent(
        self,
        agent: int,
        batch: ReplayBatch,
        noise: Noise,
        peer_noise: Noise | None,
        action: Actions,
        first: FirstLayer | None = None,
        params: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Updates one actor; returns its loss, log-probabilities ``[M]`` and, with ``peer_noise``,
        its new actions ``[M, 1, A]``."""
        loss, log_prob = self.loss_of_agent(agent, batch, noise, action, first, params)
        self.actor_optimizers[agent].step(loss)
        if peer_noise is None:
            return loss.detach(), log_prob.detach(), None
        with torch.no_grad():
            policy = self.agent_policies[agent]
            new = policy.encoded(batch.obs, peer_noise, params_of(policy, batch))
        return loss.detach(), log_prob.detach(), new

    # ------------------------------------------------------------------- values and costs of agents

    def q_of_fresh(self, batch: ReplayBatch, fresh: Actions, others: Actions) -> Tensor:
        """Computes the critics' values of each agent's fresh action beside the others' actions.

        Args:
            batch: M transitions.
            fresh: the team's actions that gradients flow through, ``[M, N, A]`` by group.
            others: the team's actions that stand in the other agents' places, ``[M, N, A]`` by
                group; ``fresh`` itself for those.

        Returns:
            Q, ``[K, M, N]``; ``[K, M, 1]`` where one value serves all agents at once.
        """
        if self.scope.local or (self.critic.heads == 1 and others is fresh):
            return self.q_of_joint(batch, {**batch.action, **fresh})
        base = {**batch.action, **{n: a.detach() for n, a in others.items()}}
        return self.q_of_joint(batch, joint_actions(fresh, base), each=True)

    def q_of_joint(self, batch: ReplayBatch, action: Actions, each: bool = False) -> Tensor:
        """Computes the critics' values of joint actions that were not taken.

        Critics with a memory have read what was observed and done before, of the ``batch`` that
        ``remember`` returned.

        Args:
            batch: M transitions.
            action: joint actions, as ``QCritic`` reads them with ``each``.
            each: True if ``action`` has one joint action for each head.

        Returns:
            Q, ``[K, M, H]``; as in ``QCritic`` with ``each`` or one more axis.
        """
        carry = batch.critic_carry if isinstance(batch, SequenceBatch) else ()
        return self.critic(batch.obs, action, each, carry)

    def first_layer(self, batch: ReplayBatch, action: Actions) -> FirstLayer | None:
        """Computes the critics' first layers for the team's current actions, without gradient.

        Args:
            batch: M transitions.
            action: the team's current actions, ``[M, N, A]`` by group.

        Returns:
            None where the critics are evaluated as a whole for each agent.
        """
        if self.incremental is None:
            return None
        return self.incremental.first_layer(batch.obs, {**batch.action, **action})

    def q_of_agent(
        self,
        batch: ReplayBatch,
        agent: int,
        fresh: Tensor,
        action: Actions,
        first: FirstLayer | None = None,
    ) -> Tensor:
        """Computes the critics' values of one agent's fresh action.

        Args:
            batch: M transitions.
            agent: its index in the team.
            fresh: its action that gradients flow through, ``[M, 1, A]``.
            action: the team's current actions, ``[M, N, A]`` by group.
            first: the critics' first layers for these actions; None to compute them.

        Returns:
            Q of that agent, ``[K, M]``.
        """
        if self.incremental is not None and first is not None:
            return self.incremental.value(first, agent, fresh, action).squeeze(-1)
        joint = {**batch.action, **replace_action(action, *self.agents[agent], fresh)}
        return self.q_of_joint(batch, joint)[..., agent if self.critic.heads > 1 else 0]

    def q_per_agent(self, q: Tensor, alive: Tensor | None) -> Tensor:
        """Returns each agent's share of the value, such that the shares of the agents alive sum up
        to a value of all.

        Args:
            q: one critic's values, ``[M, N]`` or ``[M, 1]``.
            alive: 1.0 where an agent is alive, ``[M, N]``; None where all are.

        Returns:
            ``q`` itself where it has a value for each agent, else an equal part of it ``[M, 1]``.
        """
        if q.shape[-1] == len(self.agents):
            return q
        return q / (len(self.agents) if alive is None else alive.sum(-1, keepdim=True).clamp_min(1))

    def team_cost(self, cost: Tensor, alive: Tensor | None) -> Tensor:
        """Returns N times the mean cost over the agents alive.

        Args:
            cost: of each agent, ``[M, N]``.
            alive: 1.0 where an agent is alive, ``[M, N]``; None where all are.
        """
        return cost.shape[-1] * masked_mean(cost, alive)

    def agent_cost(self, cost: Tensor, agent: int, obs: Observation) -> Tensor:
        """Returns the mean of one agent's cost over the steps in which it is alive.

        Args:
            cost: ``[M]``.
            agent: its index in the team.
            obs: observations of the steps, ``[M, ...]``.
        """
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
