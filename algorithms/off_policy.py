"""What every off-policy algorithm shares: acting with a warm-up, and batches of the run's replay,
as many as are due. Actors under critics of the joint action stand in
``marl.algorithms.actor_critic``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from marl.algorithm import Context
from marl.critics.inputs import SCOPES
from marl.errors import UserError
from marl.learning.replay import ReplayBatch
from marl.learning.rewards import REWARDS, team_alive
from marl.learning.target_networks import TargetNetwork
from marl.networks.base import Model, per_agent
from marl.networks.observation_norm import observe
from marl.policies.base import DifferentiablePolicy, act, encode
from marl.policies.dag import BayesianNetworkConfig
from marl.policies.random import RandomPolicy
from marl.types import Carry, Metrics, Noise, Observation, PolicyStep, Rollout
from marl.utils import distributed
from marl.utils.validation import check_range, check_word


@dataclass
class OffPolicyConfig:
    """Hyperparameters of every off-policy algorithm."""

    needs_replay: ClassVar[bool] = True  # needs the run's replay
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
    # The Bayesian network of the team's policies.
    joint: BayesianNetworkConfig = field(default_factory=BayesianNetworkConfig)

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


class ReplayLearner:
    """Acts at random during the warm-up, then by its policy, and learns from the run's replay.

    A subclass takes a gradient step for each of the ``batches`` that its ``update`` is given, and
    names what has a state of its own (``parts``).
    """

    draws = 2  # of noise for each batch

    def __init__(self, config: OffPolicyConfig, context: Context, policy: DifferentiablePolicy):
        assert context.replay is not None, "an off-policy algorithm needs the run's replay"
        self.config, self.context, self.team = config, context, context.team
        self.replay, self.policy = context.replay, policy
        self.replay.store_aux(self.team, policy.aux_keys)
        self.scheme = REWARDS[config.reward]
        self.uniform = RandomPolicy(self.team)
        self.agents = [(name, row) for name, g in self.team.items() for row in range(g.size)]
        self.target_networks: list[TargetNetwork] = []
        self.batch_size = distributed.share("batch_size", config.batch_size)  # of this rank
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
        """One step over ``[B, N]``; uniformly random while it explores before the warm-up's end."""
        noise = None
        if explore:
            noise = self.exploration_noise(self.policy.noise(len(start), generator))
        step = self.policy.act(obs, carry, start, noise)
        aux = {n: {key: step.aux[n][key] for key in self.policy.aux_keys} for n in self.team}
        if explore and self.frames < self.config.warmup:
            random = act(self.uniform, obs, {}, start, generator, explore)
            return replace(step, action=random.action, aux=aux)
        return replace(step, aux=aux)

    def exploration_noise(self, noise: Noise) -> Noise:
        """Returns what actions are drawn with when acting, from the policy's ``noise``."""
        return noise

    # ------------------------------------------------------------------------------------- learning

    def update(self, rollout: Rollout) -> Metrics:
        """Takes the gradient steps that are due; returns the means of their statistics."""
        raise NotImplementedError

    def batches(self, rollout: Rollout) -> Iterator[tuple[ReplayBatch, list[Noise]]]:
        """Counts the rollout, and yields a batch with its noise for each gradient step that all
        frames collected so far make due."""
        config = self.config
        self.frames += rollout.frames * distributed.size()
        self.observe(rollout.obs)
        due = int((self.frames - config.warmup) / config.frames_per_update) - self.updates
        for _ in range(due):
            yield self.next_batch()

    def next_batch(self) -> tuple[ReplayBatch, list[Noise]]:
        """Returns transitions drawn from the replay, and ``draws`` times what their actions are
        drawn with."""
        generator = self.context.generator
        index = self.replay.draw(self.batch_size, generator)
        batch = self.read(index, self.replay.successors.rows)
        acted = {f"{n}/{k}": value for n, aux in batch.aux.items() for k, value in aux.items()}
        self.updates += 1
        return batch, [
            {**self.policy.noise(self.batch_size, generator), **acted} for _ in range(self.draws)
        ]

    def read(self, index: Tensor, rows: Observation | None = None) -> ReplayBatch:
        """Returns what follows the frames of ``index``, with actions as critics read them; ``rows``
        as in ``Replay.transitions``."""
        config = self.config
        batch = self.replay.transitions(
            index, config.n_step, config.gamma, self.team, self.scheme, rows
        )
        return replace(batch, action=encode(self.context.everyone, batch.action, batch.obs))

    def alive(self, obs: Observation) -> Tensor | None:
        """1.0 where an agent of the team is there, ``[M, N]``; None where all always are."""
        return team_alive(obs, self.team)

    def networks(self) -> list[nn.Module]:
        """Returns those whose running moments of observations the rollouts move."""
        return [self.policy]

    def observe(self, obs: Observation) -> None:
        """Moves the running moments of observations, of target networks too."""
        observe(self.networks(), obs)
        for network in self.target_networks:
            network.copy_buffers()

    def update_targets(self) -> None:
        """Moves all target networks towards their originals."""
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
