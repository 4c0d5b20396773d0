"""MAPPO and IPPO: proximal policy optimisation with a critic of any scope (Yu et al. 2022).

The loss, per agent i with ratio r = pi(a|o) / pi_old(a|o):

    actor   -min(r A, clip(r, 1-eps, 1+eps) A) - c H(pi)          averaged over live agents
    critic  max(huber(V - R), huber(clip(V, V_old +- eps) - R))   in normalised values

and the policy's auxiliary losses (``marl.learning.auxiliary``), with A by generalised advantage
estimation from denormalised values, R = A + V. IPPO is the same with a critic of scope ``agent``
and the agents' own rewards.
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
from marl.learning import losses, on_policy
from marl.learning.auxiliary import Auxiliaries, evaluate, graph_auxiliaries
from marl.learning.losses import mean_stats
from marl.learning.on_policy import Batch, Memory, minibatch
from marl.learning.optimizer import Optimizer
from marl.learning.rewards import REWARDS, joined
from marl.learning.value_learner import ValueLearner
from marl.networks.observation_norm import observe
from marl.policies.base import DifferentiablePolicy
from marl.policies.bayesian import team_policy
from marl.policies.dag import BayesianNetworkConfig
from marl.types import Carry, Metrics, Observation, PolicyStep, Rollout, Stats
from marl.utils import distributed
from marl.utils.compilation import compile_function
from marl.utils.validation import check_range, check_word

PARTS = (
    "policy",
    "auxiliaries",
    "critic",
    "value_norm",
    "optimizer",
)  # of an algorithm's state, by name


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
    # The Bayesian network of the team's policies.
    joint: BayesianNetworkConfig = field(default_factory=BayesianNetworkConfig)

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

    def auxiliaries(self, context: Context) -> Auxiliaries:
        """Returns the losses that the policy learns by beside the algorithm's."""
        return graph_auxiliaries(self.joint, context.device)

    def build(self, context: Context) -> MAPPO:
        return MAPPO(self, context)


@dataclass
class IPPOConfig(MAPPOConfig):
    """Independent PPO (de Witt et al. 2020): every agent's critic sees its own observation only."""

    critic: str = "agent"
    reward: str = "own"


class MAPPO:
    """Learns a team's policy and its critic. A variant overrides ``surrogate``, or ``_step``."""

    def __init__(self, config: MAPPOConfig, context: Context):
        self.config, self.context, self.team = config, context, context.team
        scheme, self.scope = REWARDS[config.reward], SCOPES[config.critic]
        self.policy, self.auxiliaries = config.policy(context), config.auxiliaries(context)
        critic = value_critic(
            self.scope, team=self.team, everyone=context.everyone, state_size=context.state_size,
            heads=scheme.heads(self.team), model=context.critic_model,
        )  # fmt: skip
        self.values = ValueLearner(
            critic, team=self.team, scheme=scheme, options=config, device=context.device
        )
        self.critic, self.value_norm = self.values.critic, self.values.norm
        actor = [*self.policy.parameters(), *self.auxiliaries.parameters()]
        parts = {"actor": actor, "critic": self.critic.parameters()}
        lr = {"actor": config.actor_lr, "critic": config.critic_lr}
        self.optimizer = Optimizer(parts, lr, config.adam_eps, config.max_grad_norm)
        self.critic_carry: Carry = self.critic.initial_carry(context.num_envs)
        self.iteration = 0
        self.recurrent = bool(self.critic_carry or self.policy.initial_carry(1))
        self.chunk = on_policy.chunk_length(config.chunk_length, context.steps, self.recurrent)
        frames = distributed.share("minibatch_size", config.minibatch_size)
        self.minibatch_frames = frames or context.steps * context.num_envs  # on this rank
        compiler = compile_function if config.compile else lambda function: function
        self.step, self.policy_act = compiler(self._step), compiler(self.policy.act)

    @torch.no_grad()
    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep:
        """One step over ``[B, N]``, greedy unless it explores."""
        if not explore:
            return self.policy.act(obs, carry, start, None)
        return self.policy_act(obs, carry, start, self.policy.noise(len(start), generator))

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
        """Passes over the rollout's minibatches until the policy moved too far; mean statistics."""
        epochs: list[Stats] = []
        frames, random = self.minibatch_frames, self.context.generator
        for _ in range(count):
            order = on_policy.shuffled_chunks(batch, self.chunk, frames, random)
            epochs.append(mean_stats([step(batch, memory, chunks) for chunks in order]))
            if self._moved_too_far(epochs[-1]):
                break
        return mean_stats(epochs)

    def _step(self, batch: Batch, memory: Memory, chunks: Tensor) -> Stats:
        """One gradient step of the actor and of the critic, which share no parameter."""
        batch, memory = minibatch(batch, memory, chunks, self.chunk, self.recurrent)
        log_prob, entropy, features = evaluate(self.policy, batch, memory.actor, self.auxiliaries)
        log_ratio = log_prob - batch.log_prob
        surrogate = self.surrogate(log_ratio, batch.advantage)
        actor_loss, stats = self._actor_loss(surrogate, entropy, log_ratio, batch.alive)
        auxiliary_loss, auxiliary_stats = self.auxiliaries.loss(batch, features)
        value_loss = self.values.loss(batch, memory.critic)
        norms = self.optimizer.step(actor_loss + auxiliary_loss + value_loss)
        return {
            "policy_loss": stats["policy_loss"],
            "value_loss": value_loss.detach(),
            **stats,
            **auxiliary_stats,
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

    def _prepare(self, rollout: Rollout) -> tuple[Batch, Memory]:
        """The rollout with its advantages and targets, and the memories its chunks start from."""
        estimates, critic_memory, self.critic_carry = self.values.estimate(
            rollout, self.critic_carry, self.chunk, self.minibatch_frames
        )
        batch = Batch(
            obs=self.scope.observation(rollout.obs, self.team, self.context.everyone),
            action={name: rollout.action[name] for name in self.team},
            aux={name: rollout.aux[name] for name in self.team},
            start=rollout.start,
            log_prob=joined(rollout.log_prob, self.team),
            **vars(estimates),
        )
        actor_memory = on_policy.rollout_carries(self.policy, rollout, self.chunk)
        return batch, Memory(actor_memory, critic_memory)

    def _schedule(self) -> None:
        progress = self.iteration / self.context.iterations
        self.optimizer.scale_lr(1 - progress if self.config.anneal_lr else 1.0)
        self.auxiliaries.schedule(progress)
        self.iteration += 1

    def _moved_too_far(self, stats: Stats) -> bool:
        """Whether to stop the epochs: waits for the device, so only where a target is set."""
        target = self.config.target_kl if "kl" in stats else None
        return target is not None and distributed.average(stats["kl"]).item() > 1.5 * target

    def state_dict(self) -> dict[str, Any]:
        return {
            **{name: getattr(self, name).state_dict() for name in PARTS},
            "critic_carry": dict(self.critic_carry),
            "generator": self.context.generator.get_state(),
            "iteration": self.iteration,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.critic_carry = state["critic_carry"]
        self.context.generator.set_state(state["generator"].cpu())
        self.iteration = state["iteration"]
