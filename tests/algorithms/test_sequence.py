"""Agents updated one after the other, whose critics' first layers are computed incrementally."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from marl.algorithms import actor_critic
from marl.algorithms.haddpg import HADDPGConfig, HATD3Config
from marl.algorithms.hasac import HASACConfig
from marl.networks.perceptron import Perceptron
from marl.types import tree_map
from tests.helpers.builders import weights
from tests.helpers.off_policy import FAST, Play
from tests.helpers.toy_envs import continuous, identity, mortal, multidiscrete, rivals

WIDE = Perceptron([8, 8], activation="relu")
NORMED = Perceptron([8, 8], layer_norm=True, agent_id=True)
OWN = Perceptron([8], sharing="per_agent", layer_norm=True)
CASES: dict[str, tuple[Any, Any, Perceptron]] = {
    "numbers": (continuous, HASACConfig(**FAST), WIDE),
    "choices": (identity, HASACConfig(**FAST, reward="own"), NORMED),
    "several choices": (multidiscrete, HASACConfig(**FAST), WIDE),
    "every choice": (identity, HASACConfig(**FAST, exact=True), OWN),
    "every choice's own value": (mortal, HASACConfig(**FAST, exact=True, reward="own"), OWN),
    "deaths": (mortal, HASACConfig(**FAST, reward="own", n_step=3), OWN),
    "rivals": (rivals, HASACConfig(**FAST, critic="all"), NORMED),
    "haddpg": (identity, HADDPGConfig(**FAST, gumbel="soft"), WIDE),
    "hatd3": (continuous, HATD3Config(**FAST, reward="own", actor_interval=1), NORMED),
}


@pytest.fixture
def float64() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


def double(tree: Any) -> Any:
    return tree_map(lambda x: x.double() if x.is_floating_point() else x, tree)


def learned(case: str, large_team: int, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """All weights and statistics after three updates of a case, in float64."""
    make, config, model = CASES[case]
    monkeypatch.setattr(actor_critic, "LARGE_TEAM", large_team)
    torch.set_default_dtype(torch.float32)
    data = Play(make, config, model, envs=4, steps=16)
    data.iterate(1, learn=False)
    batches = [double(data.batch()) for _ in range(3)]
    torch.set_default_dtype(torch.float64)
    algorithm = Play(make, config, model, envs=4).first
    assert (algorithm.incremental is None) == (large_team > 3)
    results = []
    for batch, noise in batches:
        opponents = double(algorithm.opponent_actions(batch))
        stats = algorithm.update_critic(batch, noise[0], opponents)
        stats |= algorithm.update_actors(batch, noise[1:])
        results += stats.values()
    return [*results, weights(algorithm.policy), weights(algorithm.critic)]


@pytest.mark.parametrize("case", CASES)
def test_updates_are_those_of_whole_critics(case: str, float64: None, monkeypatch) -> None:
    """To 1e-9 in float64; the oracle evaluates the critics on the whole joint action for each
    agent."""
    whole, incremental = (learned(case, size, monkeypatch) for size in (100, 1))
    for one, other in zip(whole, incremental, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9)
