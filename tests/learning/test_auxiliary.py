"""Losses beside the algorithm's own: a user's, with parameters, a schedule and a state."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from marl.algorithm import Context
from marl.algorithms.mappo import MAPPO, MAPPOConfig
from marl.learning.auxiliary import Auxiliaries, Features, GraphDensity, evaluate
from marl.learning.on_policy import Batch
from marl.networks.perceptron import Perceptron
from marl.policies.bayesian import JointPolicy
from marl.policies.dag import BayesianNetworkConfig
from marl.types import Rollout, Stats
from tests.helpers.builders import CPU, SMALL, context, rollout_of, weights
from tests.helpers.toy_envs import identity

FULL = BayesianNetworkConfig("full")


class Sparse:
    """``scale * |mean weight of an edge - bias|``: reads a feature of the policy."""

    def __init__(self) -> None:
        self.bias, self.updates, self.progress = nn.Parameter(torch.tensor(0.3)), 0, -1.0

    def parameters(self) -> Iterable[Tensor]:
        return [self.bias]

    def schedule(self, progress: float) -> None:
        self.updates, self.progress = self.updates + 1, progress

    def loss(self, batch: Batch, features: Features) -> tuple[Tensor, Stats]:
        edges = features["graph"].mean()
        return (edges - self.bias).square(), {"edges": edges.detach()}

    def state_dict(self) -> dict[str, Any]:
        return {"bias": self.bias.detach(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.bias.data.copy_(state["bias"])
        self.updates = state["updates"]


@dataclass
class SparseConfig(MAPPOConfig):
    def auxiliaries(self, context: Context) -> Auxiliaries:
        return Auxiliaries({"sparse": Sparse()})


def built(config: MAPPOConfig) -> MAPPO:
    torch.manual_seed(0)
    return config.build(context(identity(4, CPU), Perceptron(**SMALL)))


def learned(algorithm: MAPPO) -> tuple[Rollout, Mapping[str, Tensor]]:
    rollout = rollout_of("identity", algorithm)
    return rollout, algorithm.update(rollout)


def test_an_auxiliarys_parameters_descend_its_loss() -> None:
    """Three agents in a full graph have three of nine edges; the bias moves up to the third."""
    algorithm = built(SparseConfig(joint=FULL, epochs=3, actor_lr=0.01))
    auxiliary: Any = algorithm.auxiliaries.losses["sparse"]
    _, metrics = learned(algorithm)
    assert float(metrics["edges"]) == pytest.approx(1 / 3)
    names = list(metrics)
    assert names.index("clip_fraction") < names.index("edges") < names.index("actor_grad_norm")
    assert 0.31 < float(auxiliary.bias.detach()) < 1 / 3
    assert (auxiliary.updates, auxiliary.progress) == (1, 0.0)


def test_its_state_is_saved_with_the_algorithms() -> None:
    one, other = (built(SparseConfig(joint=FULL, epochs=2, actor_lr=0.01)) for _ in range(2))
    rollout, _ = learned(one)
    buffer = io.BytesIO()
    torch.save(one.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for algorithm in (one, other):
        algorithm.update(rollout)
    first, second = (x.auxiliaries.losses["sparse"].state_dict() for x in (one, other))
    assert first == second and first["updates"] == 2
    assert torch.equal(weights(one.policy), weights(other.policy))


def test_joint_policies_have_the_density_and_others_nothing() -> None:
    losses = built(MAPPOConfig(joint=FULL)).auxiliaries.losses
    assert [type(loss) for loss in losses.values()] == [GraphDensity]
    assert not built(MAPPOConfig()).auxiliaries


def test_features_come_with_the_same_probabilities() -> None:
    algorithm = built(MAPPOConfig(joint=BayesianNetworkConfig("learned")))
    assert isinstance(algorithm.policy, JointPolicy)
    rollout = rollout_of("identity", algorithm)
    batch, memory, _ = algorithm.prepare(rollout, algorithm.critic_carry)
    log_prob, entropy, features = evaluate(
        algorithm.policy, batch, memory.actor, algorithm.auxiliaries
    )
    plain = evaluate(algorithm.policy, batch, memory.actor, Auxiliaries({}))
    assert torch.equal(log_prob, plain[0]) and torch.equal(entropy, plain[1]) and not plain[2]
    torch.testing.assert_close(log_prob, batch.log_prob)
    graph = algorithm.policy.graph(rollout.obs, rollout.aux["left"])
    assert torch.equal(features["graph"], graph)
