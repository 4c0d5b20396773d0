"""QPLEX: any best joint action that is made of the agents' own best actions (Wang et al. 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from marl.algorithm import Context
from marl.algorithms.qmix import MixerConfig
from marl.algorithms.value_decomposition import ValueDecomposition
from marl.critics.mixers import DuplexMixer
from marl.policies.utilities import Utilities
from marl.utils.validation import check_range


@dataclass
class QPLEXConfig(MixerConfig):
    """Hyperparameters of QPLEX, with the authors' network of matrix games."""

    #: Optimizer: ``adam``, or ``rmsprop`` as in the authors' code, by which alone
    #: importances escaped their first guess in ``games/qtran``.
    optimizer: str = "rmsprop"
    #: Added to the root of the optimizer's second moment; null for its usual value, 1e-5 for
    #: ``rmsprop`` and 1e-8 for ``adam``.
    adam_eps: float | None = 1e-5
    #: Terms of each importance lambda_i; 10 in the authors' matrix games, 4 in StarCraft.
    heads: int = 10
    #: Layers of the networks that give these terms; 3 in the authors' matrix games, 1 in StarCraft.
    importance_layers: int = 3
    #: Units of the hidden layers of all of the mixer's networks; usual 64.
    hyper_units: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(
            self, heads=(1, 1000), importance_layers=(1, 100), hyper_units=(1, math.inf)
        )  # fmt: skip

    def mixer(self, context: Context) -> DuplexMixer:
        """Builds the duplex dueling network."""
        team = context.team.values()
        return DuplexMixer(
            self.joint_observation(context),
            sum(group.size for group in team),
            sum(group.size * sum(Utilities(group.action, 1, self.bins).sizes) for group in team),
            heads=self.heads,
            layers=self.importance_layers,
            units=self.hyper_units,
        )

    def build(self, context: Context) -> QPLEX:
        return QPLEX(self, context)


class QPLEX(ValueDecomposition[QPLEXConfig]):
    """QPLEX: the agents' best values, and their advantages weighted by the joint action.

    Source: Wang et al. 2021, "QPLEX: Duplex Dueling Multi-Agent Q-Learning".

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm; with a replay.
    """

    def __init__(self, config: QPLEXConfig, context: Context):
        super().__init__(config, context, config.mixer(context))
