"""Graph ablations go by what a policy says of itself, not by its class."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from marl.algorithms.scripted import RandomConfig
from marl.policies.fixed import FixedPolicy, Scripted
from marl.policies.kinds import graph_policy
from marl.training.evaluation import evaluate
from marl.training.joint_evaluation import play
from marl.types import Aux, Carry, Noise, Observation, PolicyStep
from tests.helpers.builders import CPU, context
from tests.helpers.toy_envs import Game, identity


class Constant(FixedPolicy):
    """Each agent takes action 1, and without the graph action 0."""

    has_graph = True
    without_graph = False

    def noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        return {}

    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        shape = {name: (len(start), group.size) for name, group in self.groups.items()}
        action = {n: torch.full(s, int(not self.without_graph)) for n, s in shape.items()}
        log_prob = {name: torch.zeros(s) for name, s in shape.items()}
        return PolicyStep(action, log_prob, {}, {name: {} for name in self.groups})

    def density(self, obs: Observation, aux: Aux) -> Tensor:
        return torch.full((len(obs.groups["left"].obs),), 0.0 if self.without_graph else 0.25)


def evaluate_alone(env: Game, policy: Constant, without_graph: bool) -> list[float]:
    policy.without_graph = without_graph
    returns = evaluate(env, {"team": Scripted(policy, None)}, 8, 1)["returns"]["team"]
    policy.without_graph = False
    return returns


def test_any_policy_with_a_graph_is_played_without_it_too() -> None:
    env = identity(8, CPU)
    policy = Constant(env.groups)
    with_graph, without = (evaluate_alone(env, policy, flag) for flag in (False, True))
    assert with_graph != without
    result = play(env, {"team": Scripted(policy, None)}, 8, 1)
    assert result["returns"] == {"team": with_graph}
    assert result["cut"] == {"team": without} and result["density"] == {"team": [0.25]}
    assert not policy.without_graph


def test_a_policy_without_a_graph_is_played_once() -> None:
    env = identity(8, CPU)
    team = RandomConfig().build(context(env))
    assert graph_policy(team.policy) is None
    assert play(env, {"team": team}, 8, 1, explore=True).keys() == {"returns", "metrics"}


def test_a_policy_that_says_nothing_of_a_graph_has_none() -> None:
    """As users' policies do that follow the protocol without inheriting from it."""

    assert graph_policy(SimpleNamespace(groups={})) is None  # type: ignore[arg-type]
