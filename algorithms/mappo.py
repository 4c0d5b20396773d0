"""MAPPO and IPPO: proximal policy optimisation with a critic of any scope (Yu et al. 2022).

The loss, per agent i with ratio r = pi(a|o) / pi_old(a|o):

    actor   -min(r A, clip(r, 1-eps, 1+eps) A) - c H(pi)          averaged over live agents
    critic  max(huber(V - R), huber(clip(V, V_old +- eps) - R))   in normalised values

and, of a joint policy whose graph is annealed, c_d |density - wanted density|
(``marl.policies.dag``), with A by generalised advantage estimation from denormalised
values, R = A + V. IPPO is the same with a critic of scope ``agent`` and the agents' own rewards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from marl.algorithm import Context
from marl.critics.inputs import SCOPES
from marl.critics.value import value_critic
from marl.learning import losses
from marl.learning.on_policy import (
    Batch,
    Memory,
    chunk_length,
    mean_stats,
    minibatch,
    rollout_carries,
    shuffled_chunks,
)
from marl.learning.optimizer import Optimizer
from marl.learning.rewards import REWARDS, joined
from marl.learning.value_learner import ValueLearner
from marl.networks.observation_norm import observe
from marl.policies.base import DifferentiablePolicy
from marl.policies.bayesian import JointPolicy, team_policy
from marl.policies.dag import BayesianNetworkConfig, density
from marl.types import Carry, Metrics, Observation, PolicyStep, Rollout, Stats
from marl.utils import distributed
from marl.utils.compilation import compiled
from marl.utils.validation import check_range, check_word


@dataclass
class MAPPOConfig:
    """Hyperparameters of MAPPO."""

    critic: str = "team"  # what the critic sees: agent, team, all (every team), or state
    reward: str = "team_mean"  # own, team_sum or team_mean
    actor_lr: float = 5e-4
    critic_lr: float = 5e-4
    anneal_lr: bool = False  # linearly to 0 over the run
    adam_eps: float = 1e-5
    max_grad_norm: float = 10.0
    gamma: float = 0.99  # discount
    gae_lambda: float = 0.95
    clip: float | None = 0.2  # of the ratio; null for none
    value_clip: float | None = 0.2  # of the value, in normalised units; null for none
    huber: float | None = 10.0  # error beyond which the value loss grows linearly; null for never
    entropy: float = 0.01  # weight of the entropy bonus
    epochs: int = 10  # passes over each rollout
    minibatch_size: int = 0  # frames (environment steps, all agents); 0 for the whole rollout
    chunk_length: int = 10  # steps backpropagated through, with a recurrent network
    normalize_advantage: bool = True
    normalize_value: bool = True
    target_kl: float | None = None  # stop the epochs above 1.5 times this; null for never
    compile: bool = False  # each minibatch's step into one graph (a minute, at the first)
    joint: BayesianNetworkConfig = field(
        default_factory=BayesianNetworkConfig
    )  # the Bayesian network of the team's policies

    def __post_init__(self) -> None:
        check_word("critic", self.critic, SCOPES)
        check_word("reward", self.reward, REWARDS)
        check_range(
            self, actor_lr=(0, 1), critic_lr=(0, 1), gamma=(0, 1), gae_lambda=(0, 1), clip=(0, 10),
            value_clip=(0, math.inf), huber=(0, math.inf), entropy=(0, math.inf), epochs=(1, 1000),
            minibatch_size=(0, math.inf), chunk_length=(1, math.inf), max_grad_norm=(0, math.inf),
            target_kl=(0, math.inf),
        )  # fmt: skip

    def policy(self, context: Context) -> DifferentiablePolicy:
        return team_policy(context.team, context.model, self.joint).to(context.device)

    def build(self, context: Context) -> MAPPO:
        return MAPPO(self, context)


@dataclass
class IPPOConfig(MAPPOConfig):
    """Independent PPO (de Witt et al. 2020): every agent's critic sees its own observation only."""

    critic: str = "agent"
    reward: str = "own"


class MAPPO:
    def __init__(self, config: MAPPOConfig, context: Context):
        self.config, self.context, self.team = config, context, context.team
        scheme, self.scope = REWARDS[config.reward], SCOPES[config.critic]
        self.policy = config.policy(context)
        critic = value_critic(
            self.scope, team=self.team, everyone=context.everyone, state_size=context.state_size,
            heads=scheme.heads(self.team), model=context.critic_model,
        )  # fmt: skip
        self.values = ValueLearner(
            critic, team=self.team, scheme=scheme, options=config, device=context.device
        )
        self.critic, self.value_norm = self.values.critic, self.values.norm
        self.optimizer = Optimizer(
            {"actor": self.policy.parameters(), "critic": self.critic.parameters()},
            {"actor": config.actor_lr, "critic": config.critic_lr},
            config.adam_eps,
            config.max_grad_norm,
        )
        # Weight and aim of the graph's density; a tensor, so that compiled code sees it move.
        self.density = torch.zeros(2, device=context.device)
        self.critic_carry: Carry = self.critic.initial_carry(context.num_envs)
        self.iteration = 0
        self.recurrent = bool(self.critic_carry or self.policy.initial_carry(1))
        self.chunk = chunk_length(config.chunk_length, context.steps, self.recurrent)
        distributed.part("minibatch_size", config.minibatch_size)  # fails early where there is none
        compiler = compiled if config.compile else lambda function: function
        self.step, self.explore = compiler(self._step), compiler(self.policy.act)

    @torch.no_grad()
    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep:
        if not explore:
            return self.policy.act(obs, carry, start, None)
        return self.explore(obs, carry, start, self.policy.noise(len(start), generator))

    # ------------------------------------------------------------------------------------- learning

    def update(self, rollout: Rollout) -> Metrics:
        """Advantages first, then epochs of minibatches (Yu et al. 2022, algorithm 1)."""
        self._schedule()
        batch, memory = self._prepare(rollout)
        stats = self._epochs(self.step, batch, memory, self.config.epochs)
        observe([self.policy, self.critic], rollout.obs)
        return stats

    def _epochs(
        self, step: Callable[..., Stats], batch: Batch, memory: Memory, count: int
    ) -> Stats:
        """Passes over the rollout, a ``step`` for every minibatch, until the policy has moved too
        far; the mean statistics."""
        epochs: list[Stats] = []
        for _ in range(count):
            order = shuffled_chunks(
                batch, self.chunk, self.minibatch_frames, self.context.generator
            )
            epochs.append(mean_stats([step(batch, memory, chunks) for chunks in order]))
            if self._moved_too_far(epochs[-1]):
                break
        return mean_stats(epochs)

    def _step(self, batch: Batch, memory: Memory, chunks: Tensor) -> Stats:
        """One gradient step on these chunks: of the actor and of the critic, which share no
        parameter."""
        batch, memory = minibatch(batch, memory, chunks, self.chunk, self.recurrent)
        played, graph = (batch.obs, batch.action, memory.actor, batch.start, batch.aux), None
        if isinstance(self.policy, JointPolicy):
            graph = self.policy.graph(batch.obs, batch.aux[self.policy.first])
            log_probs, entropies = self.policy.along(graph, *played)
        else:
            log_probs, entropies = self.policy.evaluate(*played)
        log_prob, entropy = joined(log_probs, self.team), joined(entropies, self.team)
        log_ratio = log_prob - batch.log_prob
        surrogate = self.surrogate(log_ratio, batch.advantage)
        actor_loss, stats = self._actor_loss(surrogate, entropy, log_ratio, batch.alive)
        if graph is not None:
            weight, target = self.density.unbind()
            share = density(graph)
            actor_loss = actor_loss + weight * (share - target).abs().mean()
            stats["density"] = share.detach().mean()
        value_loss = self.values.loss(batch, memory.critic)
        norms = self.optimizer.step(actor_loss + value_loss)
        return {
            "policy_loss": stats["policy_loss"],
            "value_loss": value_loss.detach(),
            **stats,
            "actor_grad_norm": norms["actor"],
            "critic_grad_norm": norms["critic"],
        }

    def surrogate(self, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        """What the actor minimises, per agent and frame; the place for a variant.

        Args:
            log_ratio: ``log pi - log pi_old`` of the actions taken, ``[..., N]``.
            advantage: A, ``[..., N]``, or ``[..., 1]`` where one is all agents'.
        """
        return losses.clipped_surrogate(log_ratio, advantage, self.config.clip)

    def _actor_loss(
        self, surrogate: Tensor, entropy: Tensor, log_ratio: Tensor, alive: Tensor | None
    ) -> tuple[Tensor, Stats]:
        """The mean over live agents with the entropy bonus, and statistics; all of ``[..., N]``."""
        loss = losses.masked_mean(surrogate, alive)
        mean_entropy = losses.masked_mean(entropy, alive)
        stats = {"policy_loss": loss.detach(), "entropy": mean_entropy.detach()}
        stats |= losses.ratio_stats(log_ratio, self.config.clip, alive)
        weight = self.config.entropy
        return loss - weight * mean_entropy if weight else loss, stats

    # ---------------------------------------------------------------------------- before the epochs

    def _prepare(self, rollout: Rollout) -> tuple[Batch, Memory]:
        """The rollout with its advantages and targets, and the memories its chunks start from."""
        estimates, critic_memory, self.critic_carry = self.values.estimate(
            rollout, self.critic_carry, self.chunk, self.minibatch_frames
        )
        batch = Batch(
            obs=self._learning_obs(rollout.obs),
            action={name: rollout.action[name] for name in self.team},
            aux={name: rollout.aux[name] for name in self.team},
            start=rollout.start,
            log_prob=joined(rollout.log_prob, self.team),
            **vars(estimates),
        )
        return batch, Memory(rollout_carries(self.policy, rollout, self.chunk), critic_memory)

    def _learning_obs(self, obs: Observation) -> Observation:
        """What the policy and the critic read of ``obs``."""
        groups = self.scope.groups(self.team, self.context.everyone)
        state = obs.state if self.scope.reads_state else None
        return Observation({name: obs.groups[name] for name in groups}, state, obs.graph)

    @property
    def minibatch_frames(self) -> int:
        """The frames that each gradient step reads on this rank."""
        whole = self.context.steps * self.context.num_envs
        return distributed.part("minibatch_size", self.config.minibatch_size) or whole

    # ---------------------------------------------------------------------------------------- state

    def _schedule(self) -> None:
        left = 1 - self.iteration / self.context.iterations if self.config.anneal_lr else 1.0
        self.optimizer.scale_lr(left)
        progress = self.iteration / self.context.iterations
        for number, value in zip(self.density, self.config.joint.schedule(progress), strict=True):
            number.fill_(value)  # unlike a copy, nothing to wait for
        self.iteration += 1

    def _moved_too_far(self, stats: Stats) -> bool:
        """Whether to stop the epochs: waits for the device, so only where a target is set."""
        target = self.config.target_kl
        if target is None or "kl" not in stats:
            return False
        return distributed.average(stats["kl"]).item() > 1.5 * target

    def state_dict(self) -> dict[str, Any]:
        return {
            "policy": self.policy.state_dict(),
            "critic": self.critic.state_dict(),
            "value_norm": self.value_norm.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critic_carry": dict(self.critic_carry),
            "generator": self.context.generator.get_state(),
            "iteration": self.iteration,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in ("policy", "critic", "value_norm", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.critic_carry = state["critic_carry"]
        self.context.generator.set_state(state["generator"].cpu())
        self.iteration = state["iteration"]
