"""Hyperparameters of value decomposition, which IQL, VDN, QMIX, QPLEX and weighted QMIX extend."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from marl.algorithm import Context
from marl.algorithms.off_policy import ReplayConfig
from marl.errors import UserError
from marl.learning.optimizer import OPTIMIZERS
from marl.learning.rewards import REWARDS
from marl.policies.greedy import GreedyPolicy
from marl.utils.usual import USUAL_EPS
from marl.utils.validation import check_range, check_word

if TYPE_CHECKING:
    from marl.algorithms.value_decomposition import ValueDecomposition


@dataclass
class ValueDecompositionConfig(ReplayConfig):
    """Hyperparameters of value decomposition.

    Learning rate, Adam and clipping are those of EPyMARL (Papoudakis et al. 2021), batches of 32
    sequences of 25 steps and exploration those of PyMARL (Samvelyan et al. 2019).
    """

    #: Learning rate; usual 1e-4 to 1e-3.
    lr: float = 5e-4
    #: Optimizer: ``adam`` as in EPyMARL, or ``rmsprop`` as in PyMARL.
    optimizer: str = "adam"
    #: Added to the root of the optimizer's second moment; null for its usual value, 1e-8 for
    #: ``adam`` and 1e-5 for ``rmsprop``. Usual 1e-8 to 1e-5.
    adam_eps: float | None = None
    #: Share of the new weights that target networks take over at each of their updates; 1 copies
    #: them. Usual 0.01 with ``target_interval`` 1, or 1 with 200.
    tau: float = 0.01
    #: Gradient steps for each update of the target networks; usual 1, or 25 to 200 with ``tau`` 1.
    target_interval: int = 1
    #: Whether online networks choose the successors' actions and target networks value them;
    #: false lets target networks do both, which overestimates.
    double: bool = True
    #: Lambda of the targets' returns: 0 for one step, 1 for discounted sums of rewards up to the
    #: sequence's end; usual 0 to 0.8.
    td_lambda: float = 0.0
    #: Whether rewards are standardised by their running mean and deviation, which also changes what
    #: ending early is worth.
    standardise_rewards: bool = False
    #: Probability of a random action at the run's start.
    epsilon: float = 1.0
    #: Probability of a random action from ``epsilon_frames`` on; usual 0.01 to 0.05.
    last_epsilon: float = 0.05
    #: Frames over which the probability falls linearly; usual 50,000 to 500,000.
    epsilon_frames: int = 50_000
    #: Values for each dimension of Continuous actions, evenly spaced between its bounds; usual 3.
    bins: int = 3
    #: Transitions of one gradient step, in whole sequences, at least one; must divide over the
    #: ranks. Usual 800 (32 episodes of 25 steps) with memory, 128 to 512 without.
    batch_size: int = 800
    #: Frames for each gradient step, of utilities and mixer together: a frame is one step of one
    #: environment, and those of all copies and ranks count. Usual the length of an episode (25 to
    #: 100), or of eight (200 to 800) where many environments run side by side.
    frames_per_update: float = 50.0
    #: Frames of uniformly random actions before the first gradient step; usual 1,000 to 10,000.
    warmup: int = 2_000
    #: Steps of each sequence that is learned from, of which a batch has ``batch_size`` in all;
    #: usual the length of an episode. Read where networks have a memory, or with ``td_lambda``.
    sequence_length: int = 25
    #: Steps before each sequence, from which memories build up without gradient; usual 0 with
    #: ``stored_carries``, and else the length of an episode. Read where networks have a memory.
    burn_in: int = 0
    #: Whether the replay stores the memories that agents acted with, from which sequences begin;
    #: false lets them begin from zeros, and ``burn_in`` build memories up. Read where networks
    #: have a memory.
    stored_carries: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_word("optimizer", self.optimizer, OPTIMIZERS)
        check_range(
            self, lr=(0, 1), adam_eps=(0, 1), target_interval=(1, math.inf), td_lambda=(0, 1),
            epsilon=(0, 1), last_epsilon=(0, 1), epsilon_frames=(0, math.inf), bins=(2, 1000),
        )  # fmt: skip

    @property
    def eps(self) -> float:
        """What is added to the root of the optimizer's second moment."""
        return USUAL_EPS[self.optimizer] if self.adam_eps is None else self.adam_eps

    def policy(self, context: Context) -> GreedyPolicy:
        policy = GreedyPolicy(
            context.team, context.model, bins=self.bins, store_carry=self.stored_carries
        )
        return policy.to(context.device)

    def build(self, context: Context) -> ValueDecomposition[Any]:
        raise NotImplementedError


def check_team_reward(reward: str) -> None:
    """Raises UserError where agents have rewards of their own, which no mixer can value."""
    if REWARDS[reward].per_agent:
        raise UserError(
            f"reward={reward!r}: a mixer values the team's one return; set reward=team_mean or "
            "team_sum, or take algorithm=iql"
        )
