"""Base of all off-policy algorithms: acting with a warm-up, and the batches of the run's replay
that are due. Actors under critics of the joint action are in ``marl.algorithms.actor_critic``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from marl.algorithm import Context
from marl.critics.inputs import SCOPES
from marl.errors import UserError
from marl.learning.rewards import REWARDS, team_alive
from marl.learning.target_networks import TargetNetwork
from marl.networks.base import Model, per_agent
from marl.networks.observation_norm import observe
from marl.policies.base import DifferentiablePolicy
from marl.policies.dag import BayesianNetworkConfig
from marl.policies.random import RandomPolicy
from marl.types import Carry, Metrics, Noise, Observation, PolicyStep, Rollout
from marl.utils import distributed
from marl.utils.validation import check_range, check_word

RANDOM = "random/"  # prefix of the noise of uniformly random actions
Config = TypeVar("Config", bound="ReplayConfig")
Batch = TypeVar("Batch")  # what one gradient step learns from
NO_MEMORY = "the networks have no memory; set model.gru=64, for instance, or leave it out"


@dataclass
class ReplayConfig:
    """Hyperparameters of every algorithm that learns from a replay.

    The defaults of ``gamma``, ``tau``, ``warmup`` and ``frames_per_update`` are those of HARL (Liu
    et al. 2024) on MPE, whose batches have 1,000 transitions and whose returns sum 20 steps.
    """

    #: True: the run allocates a replay, and ``Context.replay`` is it.
    needs_replay: ClassVar[bool] = True
    #: What a return sums: each agent's ``own`` rewards, or the team's ``team_sum`` or
    #: ``team_mean``.
    reward: str = "team_mean"
    #: Norm to which the gradient of every optimizer (critics, actors) is clipped; usual 0.5 to 10.
    max_grad_norm: float = 10.0
    #: Discount of future rewards, per step; usual 0.95 to 0.999.
    gamma: float = 0.99
    #: Share of the new weights that a target network takes over at each of its updates; usual 0.005
    #: to 0.01.
    tau: float = 0.005
    #: Transitions of one gradient step, in whole sequences where networks have a memory; must
    #: divide over the ranks. Usual 256 to 1,024.
    batch_size: int = 256
    #: Frames for each gradient step of the critics, of which every ``actor_interval``-th is
    #: followed by one of the actors: a frame is one step of one environment, and those of all
    #: copies and ranks count. Usual 1 (HASAC with few environments) to 100 (MADDPG), 20 in HARL.
    frames_per_update: float = 20.0
    #: Frames of uniformly random actions before the first gradient step; usual 10,000 to 25,600.
    warmup: int = 10_000
    #: Steps of each sequence that is learned from, of which a batch has ``batch_size`` in all;
    #: usual the length of an episode. Read where networks have a memory.
    sequence_length: int = 16
    #: Steps before each sequence, from which memories build up without gradient; usual 0 to the
    #: length of an episode, from which on memories are exact. Read where networks have a memory.
    burn_in: int = 16
    #: Whether reading a batch and each gradient step (of critics, of actors, of utilities) are
    #: compiled into one graph each: a minute at the start, several with memory, faster afterwards.
    compile: bool = False

    def __post_init__(self) -> None:
        check_word("reward", self.reward, REWARDS)
        check_range(
            self, max_grad_norm=(0, math.inf), gamma=(0, 1), tau=(0, 1),
            batch_size=(1, math.inf), frames_per_update=(1e-3, math.inf), warmup=(0, math.inf),
            sequence_length=(1, math.inf), burn_in=(0, math.inf),
        )  # fmt: skip

    def first_update(self) -> int:
        """Returns the frames after which the first gradient step is due."""
        return math.ceil(self.warmup + self.frames_per_update)


@dataclass
class OffPolicyConfig(ReplayConfig):
    """Hyperparameters of every off-policy actor-critic."""

    #: What the critics read: the observations and actions of each ``agent`` alone, of the ``team``,
    #: of ``all`` teams, or the environment's ``state`` with the actions of all teams.
    critic: str = "team"
    #: Whether the agents' policies are updated one after the other in a random order, each against
    #: the new policies of those before it; each agent then has weights of its own.
    sequential: bool = False
    #: Learning rate of the actors; usual 1e-4 to 1e-2, 5e-4 in HARL.
    actor_lr: float = 5e-4
    #: Learning rate of the critics; usual 1e-4 to 1e-2, 5e-4 in HARL.
    critic_lr: float = 5e-4
    #: Added to the root of Adam's second moment; usual 1e-8 to 1e-5.
    adam_eps: float = 1e-8
    #: Steps of rewards that a target sums before it adds the critic's value; usual 1 to 20.
    n_step: int = 1
    #: Critic updates for each update of the actors and the target networks; 1, or 2 for delayed
    #: actors (MATD3).
    actor_interval: int = 1
    #: The Bayesian network of the team's policies; only with ``sequential=false``.
    joint: BayesianNetworkConfig = field(default_factory=BayesianNetworkConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("critic", self.critic, SCOPES)
        check_range(
            self, actor_lr=(0, 1), critic_lr=(0, 1), adam_eps=(0, 1), n_step=(1, 1000),
            actor_interval=(1, 1000),
        )  # fmt: skip
        if self.joint.graph != "none" and self.sequential:
            raise UserError(
                f"joint.graph={self.joint.graph}: agents of a joint policy do not move one by one; "
                "set sequential=false, or joint.graph=none"
            )
        if self.joint.anneal:
            raise UserError(
                "joint.anneal=true works only with on-policy algorithms; take algorithm=mappo"
            )
        if SCOPES[self.critic].local and not REWARDS[self.reward].per_agent:
            raise UserError(
                f"critic 'agent' with reward {self.reward!r}: every agent's own critic needs its "
                "own reward; set reward=own"
            )

    def model(self, context: Context) -> Model:
        """Returns the policies' network; each agent has weights of its own where they are updated
        one after the other."""
        return per_agent(context.model) if self.sequential else context.model


class ReplayLearner(Generic[Config, Batch]):
    """Acts at random during the warm-up, then by its policy, and learns from the run's replay.

    A subclass reads its batches in ``next_batch``, takes one gradient step for each of the
    ``batches`` of a rollout in its ``update``, and extends ``parts`` by what has a state of its
    own.

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm; with a replay.
        policy: the team's.
    """

    def __init__(self, config: Config, context: Context, policy: DifferentiablePolicy):
        assert context.replay is not None, "an off-policy algorithm needs the run's replay"
        self.config, self.context, self.team = config, context, context.team
        self.replay, self.policy = context.replay, policy
        self.replay.store_aux(self.team, policy.aux_keys)
        self.scheme = REWARDS[config.reward]
        self.random_policy = RandomPolicy(self.team)
        self.agents = [(name, row) for name, g in self.team.items() for row in range(g.size)]
        self.target_networks: list[TargetNetwork] = []
        self.batch_size = distributed.share("batch_size", config.batch_size)  # of this rank
        #: How steps of learning run (``marl.utils.programs.learning_step``).
        self.execution = "compiled" if config.compile else context.execution
        self.warmup: float = config.warmup  # frames before the first update
        self.required_steps = 1  # of the replay, for a batch
        self.recurrent = False  # whether a network has a memory
        self.frames = self.updates = 0  # of all ranks together

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
        """Acts for one step of all environments; uniformly at random during the warm-up.

        Args:
            obs: what every agent observes, ``[B, N, *O]`` by group.
            carry: the policies' memories, ``[B, N, H]`` by group; empty without memory.
            start: where an episode begins and memories are zeroed, ``[B]``.
            generator: source of all random numbers of the step.
            explore: whether actions are sampled with exploration noise; greedy if not.

        Returns:
            Actions ``[B, N, *A]`` and log-probabilities ``[B, N]`` by group, the new memories, and
            what the replay stores beside them.
        """
        if explore:
            return self.decide(obs, carry, start, self.acting_noise(len(start), generator))
        return self._without_params(self.policy.act(obs, carry, start, None))

    def acting_noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        """Draws the random numbers of one step's actions: the policy's, and those of uniform ones
        during the warm-up."""
        noise = self.exploration_noise(self.policy.noise(num_envs, generator))
        if self.frames >= self.warmup:
            return noise
        random = self.random_policy.noise(num_envs, generator)
        return {**noise, **{RANDOM + name: value for name, value in random.items()}}

    def decide(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise) -> PolicyStep:
        """Chooses the actions of one step by noise, with exploration; a pure function."""
        own = {name: x for name, x in noise.items() if not name.startswith(RANDOM)}
        step = self._without_params(self.policy.act(obs, carry, start, own))
        random = {n.removeprefix(RANDOM): x for n, x in noise.items() if n.startswith(RANDOM)}
        if not random:
            return step
        return replace(step, action=self.random_policy.act(obs, {}, start, random).action)

    def _without_params(self, step: PolicyStep) -> PolicyStep:
        """Returns a step with those entries of ``aux`` that a replay stores."""
        aux = {n: {key: step.aux[n][key] for key in self.policy.aux_keys} for n in self.team}
        return replace(step, aux=aux)

    def exploration_noise(self, noise: Noise) -> Noise:
        """Returns the noise that actions are sampled with in play, given the policy's ``noise``."""
        return noise

    # ------------------------------------------------------------------------------------- learning

    def update(self, rollout: Rollout) -> Metrics:
        """Takes the gradient steps that are due.

        Args:
            rollout: the newest frames, ``[T, B]``, which the replay holds already.

        Returns:
            The means of the steps' statistics; empty where no step was due.
        """
        raise NotImplementedError

    def unread_settings(self) -> dict[str, str]:
        """Returns why nothing reads some settings in this run, and what to do, by their names."""
        names = () if self.recurrent else ("sequence_length", "burn_in", "stored_carries")
        return {f"algorithm.{name}": NO_MEMORY for name in names if hasattr(self.config, name)}

    def require_steps(self, steps: int) -> None:
        """Delays the first update until the replay holds some steps of every environment.

        Args:
            steps: those of one sequence.

        Raises:
            UserError: the replay is too small for them.
        """
        frames = steps * self.context.num_envs * distributed.size()
        if steps > self.replay.capacity:
            raise UserError(
                f"sequences of {steps} steps (algorithm.burn_in + sequence_length) do not fit into "
                f"a replay of {self.replay.capacity} steps of every environment; set "
                f"replay_size={frames} or more, or shorter sequences"
            )
        self.required_steps, self.warmup = steps, max(self.warmup, frames)

    def batches(self, rollout: Rollout) -> Iterator[Batch]:
        """Yields a batch for each gradient step that is due after the rollout.

        None is, until the replay holds ``required_steps``.
        """
        config = self.config
        self.frames += rollout.frames * distributed.size()
        self.observe(rollout.obs)
        due = int((self.frames - self.warmup) / config.frames_per_update) - self.updates
        for _ in range(due if self.replay.steps >= self.required_steps else 0):
            yield self.next_batch()

    def next_batch(self) -> Batch:
        """Reads the batch of the next gradient step from the replay, and counts one update."""
        raise NotImplementedError

    def draw_sequences(self, length: int, burn_in: int) -> Tensor:
        """Draws the sequences of one gradient step.

        Args:
            length: steps of each sequence to learn from.
            burn_in: steps before them.

        Returns:
            Indices of frames, ``[burn_in + length, M]``, of which M sequences have about
            ``batch_size`` frames to learn from.
        """
        count = max(1, self.batch_size // length)
        return self.replay.draw_windows(count, burn_in + length, self.context.generator)

    def alive(self, obs: Observation) -> Tensor | None:
        """Returns 1.0 where an agent of the team is alive, ``[M, N]``; None where all always
        are."""
        return team_alive(obs, self.team)

    def networks(self) -> list[nn.Module]:
        """Returns the networks whose running moments of observations follow the rollouts."""
        return [self.policy]

    def observe(self, obs: Observation) -> None:
        """Updates the running moments of observations, of target networks too."""
        observe(self.networks(), obs)
        for network in self.target_networks:
            network.copy_buffers()

    def update_targets(self) -> None:
        """Moves every target network towards its original by ``tau``."""
        for network in self.target_networks:
            network.update(self.config.tau)

    # ---------------------------------------------------------------------------------------- state

    def parts(self) -> dict[str, Any]:
        """Returns everything with a state of its own, by its name in checkpoints."""
        return {"policy": self.policy}

    def state_dict(self) -> dict[str, Any]:
        return {
            **{name: part.state_dict() for name, part in self.parts().items()},
            "generator": self.context.generator.get_state(),
            "frames": self.frames,
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.context.generator.set_state(state["generator"].cpu())
        self.frames, self.updates = state["frames"], state["updates"]
