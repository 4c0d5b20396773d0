"""MAPPO and IPPO: proximal policy optimisation with a critic of any scope (Yu et al. 2022).

The loss, per agent i with ratio r = pi(a|o) / pi_old(a|o)::

    actor   -min(r A, clip(r, 1-eps, 1+eps) A) - c H(pi)          averaged over live agents
    critic  max(huber(V - R), huber(clip(V, V_old +- eps) - R))   in normalised values

plus the policy's auxiliary losses (``marl.learning.auxiliary``). A comes from generalised advantage
estimation over denormalised values, and R = A + V. IPPO (de Witt et al. 2020) is the same with a
critic of scope ``agent`` and the agents' own rewards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from marl.algorithm import Context, StackedAlgorithm
from marl.critics.inputs import SCOPES
from marl.critics.value import value_critic
from marl.learning import losses, on_policy
from marl.learning.auxiliary import Auxiliaries, evaluate, graph_auxiliaries
from marl.learning.losses import mean_stats
from marl.learning.on_policy import Batch, Memory, minibatch
from marl.learning.optimizer import Optimizer
from marl.learning.rewards import REWARDS, concat_groups
from marl.learning.value_learner import ValueLearner
from marl.networks.observation_norm import observe
from marl.policies.base import DifferentiablePolicy
from marl.policies.bayesian import team_policy
from marl.policies.dag import BayesianNetworkConfig
from marl.types import Carry, Metrics, Noise, Observation, PolicyStep, Rollout, Stats
from marl.utils import distributed
from marl.utils.compilation import compile_function
from marl.utils.programs import learning_step
from marl.utils.validation import check_range, check_word

# The attributes whose states make up a checkpoint.
PARTS = ("policy", "auxiliaries", "critic", "value_norm", "optimizer")


@dataclass
class MAPPOConfig:
    """Hyperparameters of MAPPO.

    The defaults are those of the authors' code (marlbenchmark/on-policy) on MPE, whose learning
    rates there are 7e-4 and whose epochs are 10 or 15; a minibatch is the whole rollout, as the
    paper advises.
    """

    #: What the critic reads: each ``agent``'s own observation, the observations of the ``team`` or
    #: of ``all`` teams, or the environment's ``state``.
    critic: str = "team"
    #: What a return sums: each agent's ``own`` rewards, or the team's ``team_sum`` or
    #: ``team_mean``.
    reward: str = "team_mean"
    #: Learning rate of the actor; usual 5e-5 to 1e-3.
    actor_lr: float = 5e-4
    #: Learning rate of the critic; usual 5e-5 to 1e-3.
    critic_lr: float = 5e-4
    #: Whether both learning rates fall linearly to 0 over the run.
    anneal_lr: bool = False
    #: Added to the root of Adam's second moment; usual 1e-8 to 1e-5.
    adam_eps: float = 1e-5
    #: Norm to which the actor's and the critic's gradients are clipped, each by itself; usual 0.5
    #: to 10.
    max_grad_norm: float = 10.0
    #: Discount of future rewards, per step; usual 0.9 to 0.999.
    gamma: float = 0.99
    #: Decay of the advantage estimate's trace: 0 is the one-step error, 1 the whole return; usual
    #: 0.9 to 0.97.
    gae_lambda: float = 0.95
    #: Largest distance of the probability ratio from 1 that still earns; usual 0.05 to 0.2, null
    #: for no clipping.
    clip: float | None = 0.2
    #: Largest change of a value since the rollout that still reduces its loss, in normalised
    #: values; usual 0.2, null for no clipping.
    value_clip: float | None = 0.2
    #: Error beyond which the value loss grows linearly, in normalised values; usual 1 to 10, null
    #: for the squared error.
    huber: float | None = 10.0
    #: Weight of the entropy bonus; usual 0 to 0.02.
    entropy: float = 0.01
    #: Passes over each rollout; usual 5 to 15, up to 45 with small learning rates.
    epochs: int = 10
    #: Frames of one minibatch (a step of one environment, all agents); 0 for the whole rollout.
    #: Must divide over the ranks.
    minibatch_size: int = 0
    #: Steps that gradients flow back through a recurrent network; must divide ``steps``. Usual 8 to
    #: 20; without a recurrent network it is not read.
    chunk_length: int = 10
    #: Whether advantages are shifted and scaled to mean 0 and deviation 1 over each rollout.
    normalize_advantage: bool = True
    #: Whether the critic learns values normalised by the running mean and deviation of the targets.
    normalize_value: bool = True
    #: Ends a rollout's epochs when the policy's KL divergence from the one that acted exceeds 1.5
    #: times this; usual 0.01 to 0.05, null to run all epochs. Waits for the device after each.
    target_kl: float | None = None
    #: Whether each minibatch's step is compiled into one graph: a minute at the start, faster
    #: afterwards.
    compile: bool = False
    #: The Bayesian network of the team's policies: which agents know which others' actions.
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
        """Returns the policy's auxiliary losses, added to the actor's."""
        return graph_auxiliaries(self.joint, context.device)

    def build(self, context: Context) -> MAPPO:
        return MAPPO(self, context)


@dataclass
class IPPOConfig(MAPPOConfig):
    """Hyperparameters of IPPO, independent PPO (de Witt et al. 2020).

    Each agent learns from its own reward, with a critic of its own observation; all else is
    MAPPO's.
    """

    #: What the critic reads, ``agent``, ``team``, ``all`` or ``state``; ``agent`` is what makes the
    #: learners independent.
    critic: str = "agent"
    #: What a return sums: each agent's ``own`` rewards, or the team's ``team_sum`` or
    #: ``team_mean``.
    reward: str = "own"


class MAPPO:
    """Multi-agent PPO, and IPPO by its configuration.

    Source: Yu et al. 2022, "The Surprising Effectiveness of PPO in Cooperative, Multi-Agent Games".
    A variant overrides ``surrogate`` or ``_step``.

    Differences from the authors' code (marlbenchmark/on-policy):

    - Time limits are truncations and bootstrapped through; there they are terminal.
    - Under a team reward the critic has one value for the whole team, not a value for each agent.
    - When the value normaliser moves, the critic's last layer follows (PopArt, van Hasselt et al.
      2016), so that its values keep their meaning.
    - The policy may be joint, along a Bayesian network (``joint``).

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm.

    Raises:
        UserError: ``chunk_length`` does not divide the rollout's steps with a recurrent network,
            the ranks do not divide ``minibatch_size``, or the critic cannot read what its scope
            asks for.
    """

    def __init__(self, config: MAPPOConfig, context: Context):
        self.config, self.context, self.team = config, context, context.team
        scheme, self.scope = REWARDS[config.reward], SCOPES[config.critic]
        self.policy, self.auxiliaries = config.policy(context), config.auxiliaries(context)
        critic = value_critic(
            self.scope, team=self.team, everyone=context.everyone, state_size=context.state_size,
            heads=scheme.heads(self.team), model=context.critic_model,
        )  # fmt: skip
        self.execution = "compiled" if config.compile else context.execution
        self.values = ValueLearner(
            critic, team=self.team, scheme=scheme, options=config, device=context.device,
            shares=context.execution == "compiled",
        )  # fmt: skip
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
        self.step = learning_step(self.execution, self._step, lambda: self.optimizer.tensors())
        self.compiles = self.execution == "compiled"
        self.policy_act = compile_function(self.policy.act) if self.compiles else self.policy.act

    @torch.no_grad()
    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep:
        """Acts for one step of all environments.

        Args:
            obs: what every agent observes, ``[B, N, *O]`` by group.
            carry: the policies' memories, ``[B, N, H]`` by group; empty without memory.
            start: where an episode begins and memories are zeroed, ``[B]``.
            generator: source of all random numbers of the step.
            explore: whether actions are sampled; greedy if not.

        Returns:
            Actions ``[B, N, *A]`` and log-probabilities ``[B, N]`` by group, the new memories, and
            what ``evaluate`` needs beside the action.
        """
        if not explore:
            return self.policy.act(obs, carry, start, None)
        return self.policy_act(obs, carry, start, self.acting_noise(len(start), generator))

    def acting_noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        """Draws the random numbers of one step's actions, as ``Policy.noise``."""
        return self.policy.noise(num_envs, generator)

    def acting_noise_ahead(
        self, steps: int, num_envs: int, generator: torch.Generator
    ) -> Noise | None:
        """Draws the random numbers of several steps, as ``NetworkPolicy.noise_ahead``."""
        ahead = getattr(self.policy, "noise_ahead", None)
        return ahead and ahead(steps, num_envs, generator)

    def decide(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise) -> PolicyStep:
        """Chooses the actions of one step by noise, as ``Policy.act``; a pure function."""
        return self.policy.act(obs, carry, start, noise)

    def update(self, rollout: Rollout) -> Metrics:
        """Estimates advantages, then takes epochs of minibatch steps (Yu et al. 2022, algorithm 1).

        Args:
            rollout: T steps of B environments, ``[T, B]``.

        Returns:
            The means of the steps' statistics.
        """
        self.schedule()
        batch, memory, self.critic_carry = self.prepare(rollout, self.critic_carry)
        stats = self._epochs(self.step, batch, memory, self.config.epochs)
        observe([self.policy, self.critic], rollout.obs)
        return stats

    def _epochs(
        self, step: Callable[..., Stats], batch: Batch, memory: Memory, count: int
    ) -> Stats:
        """Takes ``count`` epochs of steps, fewer if the policy moves too far; returns mean
        statistics."""
        epochs: list[Stats] = []
        frames, random = self.minibatch_frames, self.context.generator
        for _ in range(count):
            order = on_policy.shuffled_chunks(batch, self.chunk, frames, random)
            epochs.append(mean_stats([step(batch, memory, chunks) for chunks in order]))
            if self._moved_too_far(epochs[-1]):
                break
        return mean_stats(epochs)

    def _step(self, batch: Batch, memory: Memory, chunks: Tensor) -> Stats:
        """Takes one gradient step of the actor and of the critic, which share no parameter."""
        loss, stats = self.loss(batch, memory, chunks)
        norms = self.optimizer.step(loss)
        return {**stats, **{f"{part}_grad_norm": norm for part, norm in norms.items()}}

    def loss(self, batch: Batch, memory: Memory, chunks: Tensor) -> tuple[Tensor, Stats]:
        """Computes the loss of the actor and of the critic on a minibatch, with gradient.

        Args:
            batch: the rollout, ``[T, B, ...]``.
            memory: memories at the start of all chunks.
            chunks: numbers of the minibatch's chunks, ``[M]``.

        Returns:
            The sum of both, a scalar, and statistics.
        """
        batch, memory = minibatch(batch, memory, chunks, self.chunk, self.recurrent)
        log_prob, entropy, features = evaluate(self.policy, batch, memory.actor, self.auxiliaries)
        log_ratio = log_prob - batch.log_prob
        surrogate = self.surrogate(log_ratio, batch.advantage)
        actor_loss, stats = self._actor_loss(surrogate, entropy, log_ratio, batch.alive)
        auxiliary_loss, auxiliary_stats = self.auxiliaries.loss(batch, features)
        value_loss = self.values.loss(batch, memory.critic)
        return actor_loss + auxiliary_loss + value_loss, {
            "policy_loss": stats["policy_loss"],
            "value_loss": value_loss.detach(),
            **stats,
            **auxiliary_stats,
        }

    def surrogate(self, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        """Computes the actor's loss of each agent and frame (Schulman et al. 2017, eq. 7).

        Args:
            log_ratio: ``log pi - log pi_old`` of the actions taken, ``[..., N]``.
            advantage: A, ``[..., N]``, or ``[..., 1]`` where all agents share one.

        Returns:
            The loss, ``[..., N]``.
        """
        return losses.clipped_surrogate(log_ratio, advantage, self.config.clip)

    def _actor_loss(
        self, surrogate: Tensor, entropy: Tensor, log_ratio: Tensor, alive: Tensor | None
    ) -> tuple[Tensor, Stats]:
        """Returns the mean over live agents minus the entropy bonus, and statistics; all arguments
        are ``[..., N]``."""
        loss = losses.masked_mean(surrogate, alive)
        mean_entropy = losses.masked_mean(entropy, alive)
        stats = {"policy_loss": loss.detach(), "entropy": mean_entropy.detach()}
        stats |= losses.ratio_stats(log_ratio, self.config.clip, alive)
        weight = self.config.entropy
        return loss - weight * mean_entropy if weight else loss, stats

    def prepare(self, rollout: Rollout, critic_carry: Carry) -> tuple[Batch, Memory, Carry]:
        """Computes what a rollout's minibatches are gathered from, and moves the units of values.

        Args:
            rollout: T steps of B environments, ``[T, B]``.
            critic_carry: the critic's memories before the first step, ``[B, N, H]`` by group.

        Returns:
            The rollout with its advantages and targets, the memories that its chunks start from,
            and the critic's memories after the last step.
        """
        estimates, critic_memory, critic_carry = self.values.estimate(
            rollout, critic_carry, self.chunk, self.minibatch_frames
        )
        batch = Batch(
            obs=self.scope.observation(rollout.obs, self.team, self.context.everyone),
            action={name: rollout.action[name] for name in self.team},
            aux={name: rollout.aux[name] for name in self.team},
            start=rollout.start,
            log_prob=concat_groups(rollout.log_prob, self.team),
            **vars(estimates),
        )
        actor_memory = on_policy.rollout_carries(self.policy, rollout, self.chunk)
        return batch, Memory(actor_memory, critic_memory), critic_carry

    @staticmethod
    def stack(seeds: Sequence[MAPPO]) -> StackedAlgorithm:
        """Returns what several seeds learn by in one process (``marl.algorithm.Stackable``)."""
        from marl.algorithms.stacked_mappo import StackedMAPPO

        return StackedMAPPO(seeds)

    def schedule(self) -> None:
        """Sets what changes over the run, and counts the iteration."""
        progress = self.iteration / self.context.iterations
        self.optimizer.scale_lr(1 - progress if self.config.anneal_lr else 1.0)
        self.auxiliaries.schedule(progress)
        self.iteration += 1

    def _moved_too_far(self, stats: Stats) -> bool:
        """Returns whether to stop the epochs; waits for the device where a target is set."""
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
