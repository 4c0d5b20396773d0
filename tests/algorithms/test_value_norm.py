"""Normalised values of every kind of critic: read in new units they stay what they were."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from marl.algorithms.happo import HAPPOConfig
from marl.algorithms.mappo import MAPPO, MAPPOConfig
from marl.errors import UserError
from marl.learning.on_policy import rollout_values
from marl.learning.returns import Rescaling
from marl.networks.base import Network
from marl.networks.informarl import InforMARL
from marl.networks.perceptron import Perceptron
from marl.training.collector import Collector
from marl.types import Discrete, GroupObservation, Rollout, TensorSpec
from tests.helpers.builders import CPU, SMALL, context, mappo, rollout_of
from tests.helpers.toy_envs import Pointed, identity
from tests.helpers.toy_game import Game, Rules
from tests.learning.test_returns import naive

MODELS: dict[str, Any] = {
    "mlp": Perceptron(**SMALL),
    "per_agent": Perceptron(**SMALL, sharing="per_agent"),
    "gru": Perceptron(**SMALL, gru=8, layer_norm=True),
    "normalized": Perceptron(**SMALL, normalize_obs=True),
}


def values(algorithm: MAPPO, rollout: Rollout) -> Tensor:
    carry = algorithm.critic.initial_carry(rollout.done.shape[1])
    return rollout_values(algorithm.critic, rollout, carry, algorithm.chunk, 1000)[0]  # type: ignore[arg-type]  # a critic


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("reward", ["own", "team_mean"])
@pytest.mark.parametrize("critic", ["agent", "team", "all", "state"])
def test_every_critic_is_rescaled(critic: str, reward: str, model: str) -> None:
    algorithm = mappo("stateful", MODELS[model], critic=critic, reward=reward)
    check_rescaling(algorithm, rollout_of("stateful", algorithm))


@pytest.mark.parametrize("critic", ["agent", "team"])
@pytest.mark.parametrize("sharing", ["shared", "per_agent"])
def test_critics_of_graphs_are_rescaled(critic: str, sharing: str) -> None:
    env = Pointed(4, CPU)
    algorithm = MAPPOConfig(critic=critic).build(context(env, InforMARL([8], sharing=sharing)))
    rollout, _ = Collector(env, {"team": algorithm}, 5, 0, torch.Generator()).collect()
    check_rescaling(algorithm, rollout)


def check_rescaling(algorithm: MAPPO, rollout: Rollout) -> None:
    before = values(algorithm, rollout)
    rescaling = Rescaling(torch.tensor(0.3), torch.tensor(1.7))
    rescaling.apply_to_layers(algorithm.values.last_layers)
    assert before.std() > 1e-3
    torch.testing.assert_close(values(algorithm, rollout), 0.3 * before + 1.7)


# --------------------------------------------------------------------------- an update from numbers


@pytest.mark.parametrize("config", [MAPPOConfig, HAPPOConfig])
def test_a_second_update_against_a_naive_one(config: type[MAPPOConfig]) -> None:
    """Advantages from values in the environment's unit; old values and targets in the new ones."""
    torch.manual_seed(0)
    chosen = context(identity(4, CPU))
    algorithm = config(critic_lr=0.01, normalize_advantage=False).build(chosen)
    first = rollout_of("identity", algorithm)
    algorithm.update(first)
    rollout = rollout_of("identity", algorithm)
    rollout = replace(rollout, reward={n: 30 * r - 5 for n, r in rollout.reward.items()})
    norm: Any = algorithm.value_norm
    mean, std = (float(x) for x in norm.moments())
    old = copy.deepcopy(algorithm)
    value = values(old, rollout).double() * std + mean
    after = old.critic(rollout.next_obs, {}, None)[0].detach().double() * std + mean
    advantage = naive_advantage(algorithm, rollout, value, after)
    batch, _, _ = algorithm.prepare(rollout, algorithm.critic_carry)
    new_mean, new_std = (float(x) for x in norm.moments())
    assert new_std > 1.5 * std
    level = (advantage + value).mean() - value.mean()
    torch.testing.assert_close(batch.advantage.double(), advantage, atol=1e-4, rtol=1e-4)
    for found, expected in (
        (batch.target, advantage + value), (batch.value, value + level),
        (values(algorithm, rollout), value + level),
    ):  # fmt: skip
        expected = (expected - new_mean) / new_std
        torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def naive_advantage(algorithm: MAPPO, rollout: Rollout, value: Tensor, after: Tensor) -> Tensor:
    reward = torch.cat([rollout.reward[name] for name in algorithm.team], -1).mean(-1).double()
    over = rollout.done & ~torch.stack([x.any(-1) for x in rollout.truncated.values()]).any(0)
    columns = []
    for b in range(reward.shape[1]):
        one = [x[:, b] for x in (reward, value[..., 0], after[..., 0], over, rollout.done)]
        columns.append(naive(one, algorithm.config.gamma, algorithm.config.gae_lambda))
    return torch.stack(columns, dim=1).unsqueeze(-1)


class Headless(Network):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.only = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor, carry: Any = None, start: Any = None) -> tuple[Tensor, None]:
        return self.only(x), None


class Own:
    def build(self, inputs: TensorSpec, outputs: int, agents: int, gain: float = 1.0) -> Network:
        return Headless(inputs.size, outputs)


@pytest.mark.parametrize("critic", ["agent", "team"])
def test_a_network_without_a_head_is_refused(critic: str) -> None:
    chosen = context(identity(4, CPU), Own())  # type: ignore[arg-type]  # a Model
    with pytest.raises(UserError, match=r"Headless has no head.*normalize_value=false"):
        MAPPOConfig(critic=critic).build(chosen)
    algorithm = MAPPOConfig(critic=critic, normalize_value=False).build(chosen)
    algorithm.update(rollout_of("identity", algorithm))


# ------------------------------------------------------------------------------------ raw positions


class Metres(Game):
    """Agents observe a position and are paid for telling whether it is beyond the middle."""

    def __init__(self, num_envs: int, unit: float):
        self.unit = unit
        rules = Rules(length=20, end=0.0)
        super().__init__(num_envs, CPU, {"team": (2, Discrete(2))}, rules)

    def _seen(self, name: str) -> GroupObservation:
        code = self.now[name]["code"]
        places = self._rand((*code.shape, 2))
        places[..., 0] = (places[..., 0] + code) / 2
        return GroupObservation(self.unit * places)


def learn(activation: str, iterations: int, **more: Any) -> tuple[list[float], list[float]]:
    """The values' deviation and the mean return of an episode, update by update."""
    torch.manual_seed(0)
    env = Metres(10, 1000.0)
    model = Perceptron(activation=activation, **more)
    algorithm: Any = MAPPOConfig().build(context(env, model, 100))
    collect = Collector(env, {"team": algorithm}, 100, 0, torch.Generator().manual_seed(0))
    deviations, returns = [], []
    for _ in range(iterations):
        rollout, metrics = collect.collect()
        found = algorithm.update(rollout)
        assert all(torch.isfinite(x) for x in found.values())
        deviations.append(float(algorithm.value_norm.moments()[1]))
        returns.append(float(metrics["return/team"]))
    return deviations, returns


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_raw_units_do_not_explode(activation: str) -> None:
    """No reward is above 1, so that no value is above 100."""
    deviations, _ = learn(activation, 15)
    assert max(deviations) < 20


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_raw_units_are_learned(activation: str) -> None:
    deviations, returns = learn(activation, 40)
    assert max(deviations) < 100 and returns[-1] > 14
    _, returns = learn(activation, 40, normalize_obs=True)
    assert returns[-1] > 19
