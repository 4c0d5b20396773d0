"""What the off-policy algorithms share: acting with a warm-up, drawing from the run's replay,
critics with averaged copies, and actors that move together or one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from marl.algorithm import Context
from marl.critics.action_value import Actions, exchanged, joint_actions, q_critics
from marl.critics.inputs import SCOPES
from marl.errors import UserError
from marl.learning.losses import masked_mean
from marl.learning.optimizer import Optimizer
from marl.learning.replay import ReplayBatch
from marl.learning.rewards import REWARDS, team_alive
from marl.learning.sequential import update_order
from marl.learning.target_networks import TargetNetwork, averaged
from marl.networks.base import Model, per_agent
from marl.networks.observation_norm import observe
from marl.policies.agent import AgentPolicy, agent_policies
from marl.policies.base import DifferentiablePolicy, Policy, act, encode, encoded_actions
from marl.policies.dag import BayesianNetworkConfig
from marl.policies.random import RandomPolicy
from marl.types import Carry, Metrics, Noise, Observation, PolicyStep, Rollout
from marl.utils import distributed
from marl.utils.compilation import compiled
from marl.utils.validation import check_range, check_word


@dataclass
class OffPolicyConfig:
    """Hyperparameters of every off-policy algorithm."""

    replays: ClassVar[bool] = True  # needs the run's replay
    critic: str = "team"  # what the critics see: agent, team, all (every team), or state
    reward: str = "team_mean"  # own, team_sum or team_mean
    sequential: bool = False  # agents move one after the other, and see those before them moved
    actor_lr: float = 5e-4
    critic_lr: float = 5e-4
    adam_eps: float = 1e-8
    max_grad_norm: float = 10.0
    gamma: float = 0.99  # discount
    n_step: int = 1  # rewards summed before the critic is asked
    tau: float = 0.005  # share of the new weights in each averaged copy
    actor_interval: int = 1  # critic steps for each of the actors' and the averaged copies'
    batch_size: int = 256  # transitions of a gradient step
    frames_per_update: float = 20.0  # frames collected for each gradient step
    warmup: int = 10_000  # frames of uniformly random actions before the first
    compile: bool = False  # reading, the critics' and each actor's step into one graph each
    joint: BayesianNetworkConfig = field(
        default_factory=BayesianNetworkConfig
    )  # the Bayesian network of the team's policies

    def __post_init__(self) -> None:
        check_word("critic", self.critic, SCOPES)
        check_word("reward", self.reward, REWARDS)
        check_range(
            self, actor_lr=(0, 1), critic_lr=(0, 1), adam_eps=(0, 1), max_grad_norm=(0, math.inf),
            gamma=(0, 1), n_step=(1, 1000), tau=(0, 1), actor_interval=(1, 1000),
            batch_size=(1, math.inf), frames_per_update=(1e-3, math.inf), warmup=(0, math.inf),
        )  # fmt: skip
        if self.joint.graph != "none" and self.sequential:
            raise UserError("agents of a joint policy do not move one by one: set sequential=false")
        if self.joint.anneal:
            raise UserError("joint.anneal is of on-policy algorithms; take algorithm=mappo")
        if SCOPES[self.critic].local and not REWARDS[self.reward].per_agent:
            raise UserError(
                f"critic 'agent' with reward {self.reward!r}: every agent's own critic needs its "
                "own reward; set reward=own"
            )

    def first_update(self) -> int:
        """Returns the frames after which the first gradient step is due."""
        return math.ceil(self.warmup + self.frames_per_update)

    def model(self, context: Context) -> Model:
        """The policies' network: of each agent's own weights where they move one by one."""
        return per_agent(context.model) if self.sequential else context.model


class OffPolicy:
    """The base of all. A subclass tells the critics' ``target`` and what actors minimise.

    With ``sequential`` the update is heterogeneous-agent mirror learning
    (``marl.learning.sequential``).

    An absent agent's action is all zeros to critics, be it stored or fresh, and its log-probability
    0; what actors minimise is of those alive in ``obs``, and so is what critics do under ``own``
    rewards. A team's return goes on without the dead.
    """

    names: tuple[str, ...] = ("policy_loss",)  # of what ``_finish`` returns

    def __init__(
        self, config: OffPolicyConfig, context: Context, policy: DifferentiablePolicy, k: int
    ):
        assert context.replay is not None, "an off-policy algorithm needs the run's replay"
        self.config, self.context, self.team = config, context, context.team
        self.replay, self.policy = context.replay, policy
        self.replay.store_aux(self.team, policy.aux_keys)
        self.uniform = RandomPolicy(self.team)
        self.agents = [(name, row) for name, g in self.team.items() for row in range(g.size)]
        self.scheme, self.scope = REWARDS[config.reward], SCOPES[config.critic]
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
        self.target_critic = averaged(self.critic)
        self.target_networks = [TargetNetwork(self.target_critic, self.critic)]
        self.critic_optimizer = self._optimizer(self.critic.parameters(), config.critic_lr)
        self.agent_policies: list[AgentPolicy] = agent_policies(policy) if config.sequential else []
        parts = [m.parameters for m in self.agent_policies] or [list(policy.parameters())]
        self.actor_optimizers = [self._optimizer(part, config.actor_lr) for part in parts]
        self.batch_size = distributed.part("batch_size", config.batch_size)  # of this rank
        self.frames = self.updates = 0  # of all ranks together
        self.told = torch.zeros(len(self.names), device=context.device)  # of the actors' last step
        if policy.initial_carry(1):
            raise UserError("off-policy actors have no memory yet; leave model.gru=0")
        compiler = compiled if config.compile else lambda function: function
        self.read, self.sample = compiler(self._read), compiler(policy.rsample)
        self.improve_critics = compiler(self._improve_critics)
        self.improve_together = compiler(self._improve_together)
        each = range(len(self.agent_policies))
        self.improve_one = [partial(compiler(self._improve_one), agent) for agent in each]

    def _optimizer(self, parameters: Any, lr: float) -> Optimizer:
        config = self.config
        return Optimizer({"": parameters}, {"": lr}, config.adam_eps, config.max_grad_norm)

    # --------------------------------------------------------------------------------------- acting

    @torch.no_grad()
    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep:
        noise = self._exploration(self.policy.noise(len(start), generator)) if explore else None
        step = self.policy.act(obs, carry, start, noise)
        aux = {n: {key: step.aux[n][key] for key in self.policy.aux_keys} for n in self.team}
        if explore and self.frames < self.config.warmup:
            random = act(self.uniform, obs, {}, start, generator, explore)
            return replace(step, action=random.action, aux=aux)
        return replace(step, aux=aux)

    def _exploration(self, noise: Noise) -> Noise:
        """What actions are drawn with when acting."""
        return noise

    # ------------------------------------------------------------------------------------- learning

    def update(self, rollout: Rollout) -> Metrics:
        """As many gradient steps as the frames collected so far are due."""
        config = self.config
        self.frames += rollout.frames * distributed.SIZE
        self.observe(rollout.obs)
        due = int((self.frames - config.warmup) / config.frames_per_update) - self.updates
        stats = [self._learn() for _ in range(due)]
        if not stats:
            return {}
        names = ("critic_loss", "q", *self.names)
        return dict(zip(names, torch.stack(stats).mean(0).unbind(), strict=True))

    def observe(self, obs: Observation) -> None:
        """Moves the running moments of observations, of averaged copies too."""
        observe([self.policy, self.critic], obs)
        for target_network in self.target_networks:
            target_network.copy_buffers()

    def _learn(self) -> Tensor:
        """One step of the critics, and of the actors when it is their turn; the statistics."""
        config, random = self.config, self.context.generator
        index = self.replay.draw(self.batch_size, random)
        batch = self.read(index, self.replay.successors.rows)
        draws = 3 if self.agent_policies else 2  # for target, gradient, and followers
        acted = {f"{n}/{k}": v for n, aux in batch.aux.items() for k, v in aux.items()}
        first, *others = [
            {**self.policy.noise(self.batch_size, random), **acted} for _ in range(draws)
        ]
        self.updates += 1
        stats = self.improve_critics(batch, first, self._opponents(batch))
        if self.updates % config.actor_interval == 0:
            self.told = self._improve_actors(batch, [self._losses_noise(n) for n in others])
            self.follow()
        return torch.cat([stats, self.told])

    def _read(self, index: Tensor, rows: Observation | None = None) -> ReplayBatch:
        """What follows the frames of ``index``, with actions as critics read them; ``rows`` as in
        ``Replay.transitions``."""
        config = self.config
        batch = self.replay.transitions(
            index, config.n_step, config.gamma, self.team, self.scheme, rows
        )
        return replace(batch, action=encode(self.context.everyone, batch.action, batch.obs))

    def alive(self, obs: Observation) -> Tensor | None:
        """1.0 where an agent of the team is there, ``[M, N]``; None where all always are."""
        return team_alive(obs, self.team)

    def follow(self) -> None:
        """Moves all averaged copies."""
        for target_network in self.target_networks:
            target_network.update(self.config.tau)

    # -------------------------------------------------------------------------------------- critics

    def target(self, batch: ReplayBatch, noise: Noise, rivals: Actions) -> Tensor:
        """What the critics should give, ``[M, H]``, without gradient. ``rivals`` are the actions of
        other teams in the successors, where critics read them."""
        raise NotImplementedError

    def _improve_critics(self, batch: ReplayBatch, noise: Noise, rivals: Actions) -> Tensor:
        """Descends the mean squared errors of all critics, summed; returns that and the mean
        value. Under own rewards both are of the living."""
        target = self.target(batch, noise, rivals)
        q = self.critic(batch.obs, batch.action)  # [K, M, H]
        mask = self.scheme.mask(self.alive(batch.obs))
        loss = masked_mean((q - target).square().sum(0), mask)
        self.critic_optimizer.step(loss)
        return torch.stack([loss.detach(), masked_mean(q.detach().mean(0), mask)])

    def _opponents(self, batch: ReplayBatch) -> Actions:
        if not self.scope.reads_actions_of_others:
            return {}
        others = {n: p for n, p in self.rivals().items() if p is not self.policy}
        return encoded_actions(others, batch.next_obs, self.context.generator)

    def rivals(self) -> Mapping[str, Policy]:
        """The policies that other teams are expected to follow, by team."""
        return self.context.policies

    # --------------------------------------------------------------------------------------- actors

    def actors_loss(self, batch: ReplayBatch, noise: Noise) -> tuple[Tensor, Tensor]:
        """What all actors minimise when they move together, and their actions' log-probabilities
        ``[M, N]``."""
        raise NotImplementedError

    def actor_loss(
        self, agent: int, batch: ReplayBatch, noise: Noise, action: Actions
    ) -> tuple[Tensor, Tensor]:
        """What one actor minimises while its team plays ``action``, and its log-probabilities
        ``[M]``."""
        raise NotImplementedError

    def _losses_noise(self, noise: Noise) -> Noise:
        """What actions are drawn with in the actors' losses."""
        return noise

    def _improve_actors(self, batch: ReplayBatch, noise: Sequence[Noise]) -> Tensor:
        if not self.agent_policies:
            return self.improve_together(batch, noise[0])
        with torch.no_grad():
            action, _ = self.sample(batch.obs, noise[1])
        action = {name: chosen.contiguous() for name, chosen in action.items()}
        loss, log_prob = {}, {}
        for agent in update_order(len(self.agents), self.context.generator):
            loss[agent], log_prob[agent], own = self.improve_one[agent](batch, *noise, action)
            action = exchanged(action, *self.agents[agent], own)
        each = torch.stack([log_prob[agent] for agent in range(len(self.agents))], dim=-1)
        return self._finish(torch.stack(list(loss.values())).mean(), each, self.alive(batch.obs))

    def _improve_together(self, batch: ReplayBatch, noise: Noise) -> Tensor:
        loss, log_prob = self.actors_loss(batch, noise)
        self.actor_optimizers[0].step(loss)
        return self._finish(loss.detach(), log_prob.detach(), self.alive(batch.obs))

    def _improve_one(
        self, agent: int, batch: ReplayBatch, noise: Noise, later: Noise, action: Actions
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One actor's step: its loss, log-probabilities, and what it does now ``[M, 1, A]``."""
        loss, log_prob = self.actor_loss(agent, batch, noise, action)
        self.actor_optimizers[agent].step(loss)
        with torch.no_grad():
            own, _ = self.agent_policies[agent].rsample(batch.obs, later)
        return loss.detach(), log_prob.detach(), own

    def _finish(self, loss: Tensor, log_prob: Tensor, alive: Tensor | None) -> Tensor:
        """After all actors' step, with its mean loss and ``[M, N]``: the statistics ``names``."""
        return loss.reshape(1)

    def of_team(self, cost: Tensor, alive: Tensor | None) -> Tensor:
        """What a team of the living costs in the mean, of every agent's ``cost [M, N]``."""
        return cost.shape[-1] * masked_mean(cost, alive)

    def of_one(self, cost: Tensor, agent: int, obs: Observation) -> Tensor:
        """The mean of one agent's ``cost [M]`` where it is alive."""
        alive = self.alive(obs)
        return masked_mean(cost, None if alive is None else alive[:, agent])

    def by_agent(self, q: Tensor, alive: Tensor | None) -> Tensor:
        """Q ``[M, H]`` for each agent; where one value is that of all, an equal part of it,
        ``[M, 1]``, so that over the living it sums up."""
        if q.shape[-1] == len(self.agents):
            return q
        return q / (len(self.agents) if alive is None else alive.sum(-1, keepdim=True).clamp_min(1))

    def q_of_fresh(self, batch: ReplayBatch, fresh: Actions, others: Actions) -> Tensor:
        """Q ``[K, M, H]`` of every agent's ``fresh`` action while the ``others`` play theirs; H is
        1 where one value moves all of them at once."""
        heads = self.critic.heads
        if self.scope.local or (heads == 1 and others is fresh):
            return self.critic(batch.obs, {**batch.action, **fresh})
        base = {**batch.action, **{n: a.detach() for n, a in others.items()}}
        return self.critic(batch.obs, joint_actions(fresh, base), each=True)

    def q_of_one(self, batch: ReplayBatch, agent: int, own: Tensor, actions: Actions) -> Tensor:
        """Q ``[K, M]`` of the agent's ``own [M, 1, A]`` while its team plays ``actions``."""
        joint = {**batch.action, **exchanged(actions, *self.agents[agent], own)}
        return self.critic(batch.obs, joint)[..., agent if self.critic.heads > 1 else 0]

    # ---------------------------------------------------------------------------------------- state

    def _kept(self) -> dict[str, Any]:
        """Everything with a state of its own."""
        actors = {f"actor_{i}": optimizer for i, optimizer in enumerate(self.actor_optimizers)}
        return {
            "policy": self.policy,
            "critic": self.critic,
            "target_critic": self.target_critic,
            "critic_optimizer": self.critic_optimizer,
            **actors,
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            **{name: part.state_dict() for name, part in self._kept().items()},
            "generator": self.context.generator.get_state(),
            "frames": self.frames,
            "updates": self.updates,
            "actor_stats": self.told,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self._kept().items():
            part.load_state_dict(state[name])
        self.context.generator.set_state(state["generator"].cpu())
        self.frames, self.updates = state["frames"], state["updates"]
        self.told = state["actor_stats"]
