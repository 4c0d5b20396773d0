"""Algorithms ask of a policy what the protocols declare, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithm import Context
from marl.algorithms.hasac import MASACConfig
from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.mappo import MAPPOConfig
from marl.errors import UserError
from marl.policies.agent import agent_policies
from marl.policies.base import DifferentiablePolicy
from marl.policies.bayesian import team_policy
from marl.policies.dag import BayesianNetworkConfig
from marl.types import Aux, Carry, Noise, Observation, PolicyStep
from tests.helpers.builders import CPU, weights
from tests.helpers.off_policy import FAST, MLP, Play
from tests.helpers.toy_envs import continuous, identity, mortal


class Opaque(DifferentiablePolicy):
    """A user's own policy: what the protocols declare, by a policy that nobody sees."""

    def __init__(self, inner: DifferentiablePolicy):
        super().__init__()
        self._inner, self.groups = inner, inner.groups

    def initial_carry(self, num_envs: int) -> Carry:
        return self._inner.initial_carry(num_envs)

    def noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        return self._inner.noise(num_envs, generator)

    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        return self._inner.act(obs, carry, start, noise)

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        return self._inner.evaluate(obs, action, carry, start, aux)

    def remember(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> Carry:
        return self._inner.remember(obs, action, carry, start, aux)

    def distribution_params(
        self, obs: Observation, noise: Noise | None = None
    ) -> dict[str, Tensor]:
        return self._inner.distribution_params(obs, noise or {})

    def rsample(
        self, obs: Observation, noise: Noise, params: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self._inner.rsample(obs, noise, params)


def opaque(config: Any) -> Any:
    """The same configuration, with policies that are ``Opaque``."""

    class Config(type(config)):
        def policy(self, context: Context) -> DifferentiablePolicy:
            return Opaque(super().policy(context))

    return Config(**vars(config))


@pytest.mark.parametrize("make", [identity, mortal, continuous])
@pytest.mark.parametrize(
    "config", [MAPPOConfig(epochs=2), MASACConfig(**FAST), MADDPGConfig(**FAST)]
)
def test_the_protocols_are_all_that_algorithms_ask(config: Any, make: Any) -> None:
    learned = []
    for chosen in (config, opaque(config)):
        play = Play(make, chosen)
        play.iterate(3)
        learned.append(torch.cat([weights(play.first.policy), weights(play.first.critic)]))
    assert torch.equal(*learned)


def test_a_policy_that_lacks_something_is_refused_at_once() -> None:
    class Silent(Opaque):
        remember = DifferentiablePolicy.remember

    env = identity(2, CPU)
    policy = team_policy(env.groups, MLP, BayesianNetworkConfig())
    with pytest.raises(TypeError, match="remember"):
        Silent(policy)


def test_agents_of_others_than_independent_policies_do_not_move_alone() -> None:
    play = Play(identity, MASACConfig(**FAST, joint=BayesianNetworkConfig("full")))
    with pytest.raises(
        UserError, match="agents of a JointPolicy cannot be updated one after the other"
    ):
        agent_policies(play.first.policy)
