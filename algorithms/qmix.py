"""QMIX: the team's value rises with every agent's utility (Rashid et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

from marl.algorithm import Context
from marl.algorithms.value_decomposition import ValueDecomposition
from marl.algorithms.value_decomposition_config import (
    ValueDecompositionConfig,
    check_team_reward,
)
from marl.critics.inputs import SCOPES, JointObservation
from marl.critics.mixers import MonotonicMixer
from marl.utils.validation import check_range, check_word

#: What a mixer reads: every scope but an agent's own observation.
MIXER_SCOPES = {word: scope for word, scope in SCOPES.items() if not scope.local}


@dataclass
class MixerConfig(ValueDecompositionConfig):
    """Hyperparameters of value decomposition with a mixer that reads the joint observation."""

    #: What the return sums: the ``team_sum`` or the ``team_mean`` of the agents' rewards.
    reward: str = "team_mean"
    #: What the mixer reads: the observations of the ``team``, of ``all`` teams, or the
    #: environment's ``state``.
    critic: str = "team"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_team_reward(self.reward)
        check_word("critic", self.critic, MIXER_SCOPES)

    def joint_observation(self, context: Context) -> JointObservation:
        """Builds what the mixer reads."""
        scope = SCOPES[self.critic]
        return JointObservation(
            scope.groups(context.team, context.everyone),
            state_size=scope.state_size(context.state_size),
            model=context.critic_model,
            pooled=True,
        )


@dataclass
class QMIXConfig(MixerConfig):
    """Hyperparameters of QMIX, with the authors' mixing network."""

    #: Units of the mixing network's hidden layer; usual 32.
    mixing_units: int = 32
    #: Units of the hidden layer of the networks that give the mixing network's weights; usual 64.
    hyper_units: int = 64
    #: Layers of those networks: 2, or 1 for linear functions of the joint observation.
    hyper_layers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(
            self, mixing_units=(1, math.inf), hyper_units=(1, math.inf), hyper_layers=(1, 2)
        )

    def mixer(self, context: Context) -> MonotonicMixer:
        """Builds the mixing network."""
        return MonotonicMixer(
            self.joint_observation(context),
            sum(group.size for group in context.team.values()),
            units=self.mixing_units,
            hyper_units=self.hyper_units,
            hyper_layers=self.hyper_layers,
        )

    def build(self, context: Context) -> ValueDecomposition[Any]:
        return QMIX(self, context)


Config = TypeVar("Config", bound=QMIXConfig)


class QMIX(ValueDecomposition[Config]):
    """QMIX: Q_tot is a monotonic function of the utilities, by a network of the joint observation.

    Source: Rashid et al. 2018, "QMIX: Monotonic Value Function Factorisation for Deep Multi-Agent
    Reinforcement Learning".

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm; with a replay.
    """

    def __init__(self, config: Config, context: Context):
        super().__init__(config, context, config.mixer(context))
