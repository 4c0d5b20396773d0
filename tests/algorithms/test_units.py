"""The same task in other units of the action: the same losses, weights and entropies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms.hasac import HASACConfig, MASACConfig
from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.mappo import MAPPOConfig
from marl.networks.perceptron import Perceptron
from marl.policies.dag import BayesianNetworkConfig
from marl.types import Continuous
from tests.helpers.builders import weights
from tests.helpers.off_policy import FAST, Play
from tests.helpers.toy_game import Game, Rules

UNITS = {"unit": (-1.0, 1.0), "steering": (-0.1, 0.1), "fine": (0.0, 0.01), "newtons": (0.0, 1e3)}
SOFT = {**FAST, "warmup": 128, "alpha_lr": 3e-3}
CONFIGS: dict[str, Any] = {
    "maddpg": lambda: MADDPGConfig(**{**FAST, "warmup": 128}),
    "inference": lambda: MADDPGConfig(**{**FAST, "warmup": 128}, inference=True),
    "masac": lambda: MASACConfig(**SOFT),
    "hasac": lambda: HASACConfig(**SOFT),
    "bn_masac": lambda: MASACConfig(**SOFT, joint=BayesianNetworkConfig("full")),
    "bn_mappo": lambda: MAPPOConfig(
        epochs=2, minibatch_size=64, joint=BayesianNetworkConfig("full")
    ),
}


class OneStep(Game):
    """Two agents, one step, one number each, paid in shares of its range."""

    def __init__(self, num_envs: int, device: torch.device, unit: str = "unit"):
        low, high = UNITS[unit]
        spec = Continuous((low,), (high,))
        super().__init__(num_envs, device, {"arms": (2, spec)}, Rules(end=0.0, length=1))

    def _reward(self, name: str, action: Tensor) -> Tensor:
        spec: Any = self.groups[name].action
        return 1 - (spec.encode(action) - spec.encode(self.now[name]["code"])).abs().mean(-1)


@pytest.mark.parametrize("unit", list(UNITS)[1:])
@pytest.mark.parametrize("name", CONFIGS)
def test_units_change_nothing(name: str, unit: str) -> None:
    """What is left are the roundings of a float32 on its way through the other unit."""
    found = []
    for one in ("unit", unit):
        play = Play(OneStep, CONFIGS[name](), Perceptron([16]), envs=16, unit=one)
        metrics = play.iterate(3)
        parts = (play.first.policy, play.first.critic)
        found.append((metrics, torch.cat([weights(part) for part in parts])))
    (first, mine), (other, theirs) = found
    assert set(first) == set(other) and "policy_loss" in first
    for key, value in first.items():
        torch.testing.assert_close(other[key], value, atol=1e-3, rtol=1e-3, msg=key)
    torch.testing.assert_close(theirs, mine, atol=1e-3, rtol=0)


def test_actions_matter_in_every_unit() -> None:
    """The test above would pass if critics read none at all."""
    play = Play(OneStep, MADDPGConfig(**FAST), unit="newtons")
    play.iterate(1, learn=False)
    batch, _ = play.batch(64)
    read = batch.action["arms"]
    assert read.min() < -0.9 and read.max() > 0.9 and read.abs().max() <= 1
    stored = play.replay.take(torch.arange(128)).action["arms"]
    assert 900 < stored.max() <= 1000, "the environment's own units"
