"""Running normalisation of observations against numpy, over everything that was observed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from marl.algorithms.maddpg import MADDPGConfig
from marl.critics.action_value import LocalQ
from marl.critics.inputs import SCOPES
from marl.critics.value import value_critic
from marl.errors import UserError
from marl.networks.base import build_for
from marl.networks.informarl import InforMARL
from marl.networks.observation_norm import ObservationNorm, observe
from marl.networks.perceptron import Perceptron
from marl.policies.agent import AgentPolicy
from marl.policies.bayesian import JointPolicy
from marl.policies.dag import BayesianNetworkConfig
from marl.policies.independent import IndependentPolicy
from marl.types import GroupObservation, Observation, TensorSpec
from tests.helpers.builders import CPU, mappo, rollout_of
from tests.helpers.off_policy import FAST, Play
from tests.helpers.toy_envs import KINDS, Pointed, identity, images, mortal, rivals

MODEL = Perceptron([8], normalize_obs=True)
SCALE, OFFSET = torch.tensor([1.0, 1e-2, 1e3]), torch.tensor([0.0, 5.0, 1e6])


def seen(count: int, seed: int, alive: bool = True) -> Observation:
    """Of three agents ``[T, B]``, in odd units, whose means move; the absent observe nonsense."""
    random = torch.Generator().manual_seed(seed)
    obs = OFFSET + SCALE * (seed + torch.randn(count, 4, 3, 3, generator=random))
    mask = torch.rand(count, 4, 3, generator=random) < 0.6
    return Observation({"a": GroupObservation(obs, None, mask if alive else None)})


def living(observations: list[Observation]) -> np.ndarray:
    rows = [
        o.groups["a"].obs if o.groups["a"].alive is None else o.groups["a"].obs[o.groups["a"].alive]
        for o in observations
    ]
    return torch.cat([x.reshape(-1, 3) for x in rows]).double().numpy()


def norm_of(*shape: int) -> ObservationNorm:
    return ObservationNorm(TensorSpec(shape or (3,)), "a")


@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize("sizes", [[5], [5, 1, 40], [2] * 10])
def test_moments_are_those_of_everything_seen(sizes: list[int], alive: bool) -> None:
    norm, observations = norm_of(), [seen(n, i, alive) for i, n in enumerate(sizes)]
    for obs in observations:
        observe([norm], obs)
    rows = living(observations)
    assert int(norm.count) == len(rows)
    np.testing.assert_allclose(norm.mean.numpy(), rows.mean(0), rtol=1e-9)
    deviation = (norm.square / norm.count).sqrt().numpy()
    np.testing.assert_allclose(deviation, rows.std(0), rtol=1e-6)
    x = observations[-1].groups["a"].obs
    expected = ((x.double().numpy() - rows.mean(0)) / rows.std(0)).clip(-10, 10)
    np.testing.assert_allclose(norm(x).numpy(), expected, atol=1e-3, rtol=1e-3)


def test_before_anything_was_seen_the_input_is_only_clipped() -> None:
    x = torch.tensor([[0.5, -30.0, 1e6]])
    assert norm_of()(x).tolist() == [[0.5, -10.0, 10.0]]
    norm = norm_of()
    nobody = seen(5, 0)
    nobody = replace(nobody.groups["a"], alive=torch.zeros(5, 4, 3, dtype=torch.bool))
    observe([norm], Observation({"a": nobody}))
    assert norm(x).tolist() == [[0.5, -10.0, 10.0]]


def test_a_feature_that_never_moves_becomes_zero() -> None:
    norm, obs = norm_of(), torch.tensor([0.1, 1e6, -3.0]).expand(7, 4, 3, 3)
    observe([norm], Observation({"a": GroupObservation(obs)}))
    assert not norm(obs).any()


def test_what_follows_the_features_stays() -> None:
    norm = norm_of()
    observe([norm], seen(9, 1))
    x = torch.randn(2, 3, 5)
    assert torch.equal(norm(x)[..., 3:], x[..., 3:])
    assert torch.equal(norm(x)[..., :3], norm(x[..., :3]))


def test_axes_of_an_observation_are_flattened() -> None:
    norm, x = norm_of(2, 3), torch.randn(50, 4, 3, 2, 3)
    observe([norm], Observation({"a": GroupObservation(x)}))
    assert norm(x).shape == (50, 4, 3, 6)
    torch.testing.assert_close(norm.mean, x.double().mean((0, 1, 2)).flatten())


def test_networks_alike_have_the_same_moments() -> None:
    one, two = norm_of(), nn.Sequential(norm_of())
    observe([one, two, one], seen(9, 1))
    assert int(one.count) == int(seen(9, 1).groups["a"].alive.sum())  # type: ignore[union-attr]  # there
    for mine, other in zip(one.buffers(), two.buffers(), strict=True):
        assert torch.equal(mine, other)


# -------------------------------------------------------------------------------- where it stands


def moved(networks: Sequence[nn.Module]) -> None:
    """Gives every normalisation odd moments."""
    for network in networks:
        for norm in network.modules():
            if isinstance(norm, ObservationNorm):
                norm.center.copy_(torch.arange(norm.features) / 7)
                norm.scale.fill_(3.0)


def unlike(kind: str) -> tuple[Any, Observation, Observation]:
    """An environment, observations, and those a plain network must see to give the same."""
    env = KINDS[kind](5, CPU)
    obs = env.reset(0)
    groups = {
        n: replace(s, obs=((s.obs - torch.arange(s.obs.shape[-1]) / 7) * 3).clamp(-10, 10))
        for n, s in obs.groups.items()
    }
    state = obs.state
    if state is not None:
        state = ((state - torch.arange(state.shape[-1]) / 7) * 3).clamp(-10, 10)
    return env, obs, Observation(groups, state)


def plain_twin(network: nn.Module, twin: nn.Module) -> None:
    """The same weights without the normalisation."""
    for mine, theirs in zip(network.parameters(), twin.parameters(), strict=True):
        theirs.data.copy_(mine)


@pytest.mark.parametrize("sharing", ["shared", "per_agent"])
@pytest.mark.parametrize("scope", ["agent", "team", "all", "state"])
def test_critics_read_normalised_observations(scope: str, sharing: str) -> None:
    env, obs, read = unlike("stateful")
    model = replace(MODEL, sharing=sharing)
    critics: list[Any] = [
        value_critic(
            SCOPES[scope],
            team=env.groups,
            everyone=env.groups,
            state_size=env.state_size,
            heads=sum(group.size for group in env.groups.values()),
            model=m,
        )
        for m in (model, replace(model, normalize_obs=False))
    ]
    moved(critics[:1])
    plain_twin(*critics)
    torch.testing.assert_close(critics[0](obs, {}, None)[0], critics[1](read, {}, None)[0])


@pytest.mark.parametrize(
    "joint", [None, BayesianNetworkConfig("full"), BayesianNetworkConfig("learned")]
)
def test_policies_read_normalised_observations(joint: BayesianNetworkConfig | None) -> None:
    env, obs, read = unlike("identity")
    models = (MODEL, replace(MODEL, normalize_obs=False))
    policies: list[Any] = [
        IndependentPolicy(env.groups, m) if joint is None else JointPolicy(env.groups, m, joint)
        for m in models
    ]
    moved(policies[:1])
    plain_twin(*policies)
    noise = policies[0].noise(5, torch.Generator().manual_seed(0))
    start = torch.ones(5, dtype=torch.bool)
    one, other = (p.act(o, {}, start, noise) for p, o in zip(policies, (obs, read), strict=True))
    for name in env.groups:
        assert torch.equal(one.action[name], other.action[name])
        torch.testing.assert_close(one.log_prob[name], other.log_prob[name])


def test_members_and_local_critics_read_normalised_observations() -> None:
    """Three agents of their own weights, and as many features as agents: no axis is mistaken."""
    env = Pointed(5, CPU)
    group = replace(env.groups["team"], observation=TensorSpec((3,)), entities=None)
    policy = IndependentPolicy({"team": group}, replace(MODEL, sharing="per_agent", agent_id=True))
    moved([policy])
    obs = Observation({"team": GroupObservation(torch.randn(6, 3, 3))})
    for row in range(3):
        alone = AgentPolicy(policy, "team", row).distribution_params(obs)
        torch.testing.assert_close(alone, policy.distribution_params(obs)["team"][:, row : row + 1])
    critic = LocalQ({"team": group}, MODEL)
    twin = LocalQ({"team": group}, replace(MODEL, normalize_obs=False))
    moved([critic])
    plain_twin(critic, twin)
    action = {"team": torch.randn(6, 3, 4)}
    read = Observation({"team": GroupObservation(
        ((obs.groups["team"].obs - torch.arange(3) / 7) * 3).clamp(-10, 10))})  # fmt: skip
    torch.testing.assert_close(critic(obs, action), twin(read, action))


def test_networks_of_graphs_normalise_the_own_observation() -> None:
    env = Pointed(5, CPU)
    group, obs = env.groups["team"], env.reset(0)
    obs = replace(obs, groups={"team": GroupObservation(torch.randn(5, 3, 4))})
    networks = [build_for(InforMARL([8], normalize_obs=on), group, 2) for on in (True, False)]
    moved(networks[:1])
    plain_twin(*networks)
    x = obs.groups["team"].obs
    read = ((x - torch.arange(4) / 7) * 3).clamp(-10, 10)
    one, other = networks[0](x, graph=obs.graph)[0], networks[1](read, graph=obs.graph)[0]  # type: ignore[call-arg]  # they read it
    torch.testing.assert_close(one, other)


def test_images_are_refused() -> None:
    with pytest.raises(
        UserError, match="normalize_obs=true is only for vectors, and 'eyes' observes"
    ):
        IndependentPolicy(images(1, CPU).groups, MODEL)
    with pytest.raises(UserError, match="normalize_obs=true is only for vectors"):
        value_critic(
            SCOPES["team"],
            team=images(1, CPU).groups,
            everyone={},
            state_size=None,
            heads=1,
            model=MODEL,
        )


# -------------------------------------------------------------------------------------- in learning


def test_on_policy_updates_move_the_moments_after_learning() -> None:
    """So that ratios begin at 1; everything that was seen counts once."""
    algorithm, rows = mappo("mortal", MODEL, epochs=1), []
    for _ in range(3):
        rollout = rollout_of("mortal", algorithm)
        metrics = algorithm.update(rollout)
        assert float(metrics["kl"]) == pytest.approx(0, abs=1e-6)
        left = rollout.obs.groups["left"]
        rows.append(left.obs[left.alive].double().numpy())
    left = algorithm.policy.get_submodule("networks.left")
    (norm,) = (n for n in left.modules() if isinstance(n, ObservationNorm))
    np.testing.assert_allclose(norm.mean, np.concatenate(rows).mean(0), rtol=1e-9)
    for other in (n for n in algorithm.critic.modules() if isinstance(n, ObservationNorm)):
        assert int(other.count) > 0


@pytest.mark.parametrize("options", [{}, {"inference": True}, {"ensemble": 2}])
def test_averaged_copies_have_the_same_moments(options: dict) -> None:
    """Frames of the warm-up count. Who learns second sees the rivals as they are now."""
    config = MADDPGConfig(**{**FAST, **options, "batch_size": 8, "warmup": 50})
    play = Play(rivals, config, MODEL, envs=4)
    play.iterate(3)
    algorithm = play.teams["right"]
    assert len(algorithm.target_networks) == 3
    for target_network in algorithm.target_networks:
        assert target_network.buffers
        for copied, original in target_network.buffers:
            assert torch.equal(copied, original)
    counts = {int(n.count) for n in algorithm.policy.modules() if isinstance(n, ObservationNorm)}
    assert counts == {algorithm.frames}  # of one agent


def test_state_round_trip() -> None:
    algorithm = mappo("identity", MODEL)
    algorithm.update(rollout_of("identity", algorithm))
    other = mappo("identity", MODEL)
    other.load_state_dict(copy.deepcopy(algorithm.state_dict()))
    rollout = rollout_of("identity", algorithm)
    for each in (algorithm, other):
        each.context.generator.manual_seed(0)
        each.update(rollout)
    for mine, theirs in zip(algorithm.policy.state_dict().items(),
                            other.policy.state_dict().items(), strict=True):  # fmt: skip
        assert mine[0] == theirs[0] and torch.equal(mine[1], theirs[1])


def test_without_it_nothing_changes() -> None:
    for kind in (identity, mortal):
        names = IndependentPolicy(kind(1, CPU).groups, Perceptron([8])).state_dict()
        assert all(name.startswith(("networks.left.body", "networks.left.head",
                                    "networks.right.body", "networks.right.head"))
                   for name in names)  # fmt: skip
