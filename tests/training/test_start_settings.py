"""Which settings are named where an earlier run's weights do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from marl.algorithms.mappo import MAPPOConfig
from marl.algorithms.qmix import QMIXConfig
from marl.algorithms.vdn import VDNConfig
from marl.networks.perceptron import Perceptron
from marl.training.start_settings import differences
from marl.training.teams import Team
from marl.utils.serialization import to_plain

GRU = "model.gru is 8 in the run and 0 here"


@pytest.mark.parametrize(
    ("there", "here", "said"),
    [
        ((VDNConfig(), Perceptron(gru=8)), (VDNConfig(lr=1e-3), Perceptron()), [GRU]),
        (
            (VDNConfig(ensemble=3), Perceptron()),
            (QMIXConfig(), Perceptron(activation="relu")),
            ["algorithm.ensemble is 3 in the run and 1 here"],
        ),
        (
            (MAPPOConfig(), Perceptron()),
            (VDNConfig(ensemble=2, bins=5), Perceptron()),
            [
                "algorithm.ensemble is 1 in the run and 2 here",
                "algorithm.bins is 3 in the run and 5 here",
            ],
        ),
    ],
)
def test_settings_that_shape_weights(there: Any, here: Any, said: list[str]) -> None:
    (algorithm, model), team = there, Team(None, *here)
    stored = {"algorithm": to_plain(algorithm), "model": to_plain(model)}
    assert differences(stored, team) == said
    assert differences({}, team) == []  # of a configuration that is no dataclass
