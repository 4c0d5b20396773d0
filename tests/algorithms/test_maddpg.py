"""MADDPG and its siblings: targets, what actors see of others, delays, rivals, and learning."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from marl.algorithms.haddpg import HADDPG, HADDPGConfig, HATD3Config
from marl.algorithms.hasac import HASACConfig, MASACConfig
from marl.algorithms.maddpg import MADDPG, IDDPGConfig, MADDPGConfig, MATD3Config
from marl.algorithms.maddpg_full import OpponentModellingMADDPG
from marl.errors import UserError
from marl.networks.perceptron import Perceptron
from marl.policies.deterministic import deterministic
from marl.types import Continuous, Discrete, MultiDiscrete, tree_tensors
from tests.helpers.builders import weights
from tests.helpers.off_policy import FAST, Play, gradient_step
from tests.helpers.toy_envs import continuous, identity, mortal, rivals

CONFIGS = {
    "maddpg": MADDPGConfig,
    "iddpg": IDDPGConfig,
    "matd3": MATD3Config,
    "haddpg": HADDPGConfig,
    "hatd3": HATD3Config,
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("iddpg", "matd3", "hatd3")]


def ddpg(play: Play) -> MADDPG:
    assert isinstance(play.first, MADDPG)
    return play.first


# ---------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize("name", ["maddpg", "haddpg", *SLOW])
def test_numbers_are_learned(name: str) -> None:
    """The less, the farther from what is asked: 0 at best, about -5 by chance."""
    play = Play(continuous, CONFIGS[name](**FAST))
    play.iterate(50)
    assert play.returns()[0] > -1.2


@pytest.mark.parametrize("options", [{}, {"others": "current"}, {"gumbel": "soft"}])
def test_choices_are_learned(options: dict[str, Any]) -> None:
    """4 for perfect play, about 1.2 by chance."""
    play = Play(identity, MADDPGConfig(**FAST, **options), end=0.0)
    play.iterate(50)
    assert play.returns()[0] > 3.4


@pytest.mark.slow
def test_every_rival_learns() -> None:
    play = Play(rivals, MADDPGConfig(**FAST), end=0.0)
    play.iterate(60)
    assert min(play.returns()) > 3.0


@pytest.mark.parametrize("make", [mortal, rivals, continuous])
@pytest.mark.parametrize("name", CONFIGS)
def test_an_update_on_every_kind(name: str, make: Any) -> None:
    play = Play(make, CONFIGS[name](**{**FAST, "n_step": 3}))
    before = [weights(team.policy) for team in play.teams.values()]
    metrics = play.iterate(3)
    assert all(torch.isfinite(value) for value in metrics.values())
    for team, old in zip(play.teams.values(), before, strict=True):
        assert not torch.equal(weights(team.policy), old)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, MADDPG),
        ({"ensemble": 2}, MADDPG),
        ({"sequential": True, "others": "current"}, HADDPG),
        ({"inference": True}, OpponentModellingMADDPG),
        ({"inference": True, "ensemble": 2}, OpponentModellingMADDPG),
    ],
)
def test_the_fields_choose_the_class(options: dict[str, Any], expected: type) -> None:
    assert type(Play(identity, MADDPGConfig(**FAST, **options)).first) is expected


# ----------------------------------------------------------------------------------------- targets


def test_the_target_is_the_formulas() -> None:
    """Twin critics' smaller value of the averaged policy's action, smoothed by clipped noise."""
    config = MATD3Config(**{**FAST, "target_noise": 0.4, "target_noise_clip": 0.3})
    play = Play(continuous, config)
    play.iterate(3)
    algorithm, (batch, noise) = ddpg(play), play.batch()
    numbers = algorithm.target_policy.distribution_params(batch.next_obs)["arms"]
    smoothed = (numbers.tanh() + (0.4 * noise[0]["arms"]).clamp(-0.3, 0.3)).clamp(-1, 1)
    q = algorithm.target_critic(batch.next_obs, {"arms": smoothed}).amin(0)
    expected = batch.reward + batch.discount * q
    torch.testing.assert_close(algorithm.target(batch, noise[0], {}), expected.detach())


def test_targets_ask_averaged_copies_of_rivals() -> None:
    """They follow slowly; and what a rival would do there changes the target."""
    play = Play(rivals, MADDPGConfig(**{**FAST, "tau": 0.1}))
    play.iterate(2)
    left = ddpg(play)
    copied = left.opponent_policies()["right"]
    assert isinstance(copied, torch.nn.Module)
    old, rival = weights(copied), weights(play.teams["right"].policy)
    gradient_step(left)
    torch.testing.assert_close(weights(copied), old + 0.1 * (rival - old))
    batch, noise = play.batch()
    first = left.target(batch, noise[0], {"right": torch.eye(4)[:1].expand(16, 1, 4)})
    other = left.target(batch, noise[0], {"right": torch.eye(4)[1:2].expand(16, 1, 4)})
    assert not torch.equal(first, other)


# ------------------------------------------------------------------------------------------ actors


@pytest.mark.parametrize("others", ["buffer", "current"])
def test_an_actors_gradient_is_its_own(others: str) -> None:
    """Against a loop over agents, each with its own head and the others' actions held still."""
    model = Perceptron([16], sharing="per_agent")
    play = Play(continuous, MADDPGConfig(**FAST, others=others, output_penalty=0.0), model)
    play.iterate(2)
    algorithm, (batch, _) = ddpg(play), play.batch()
    parameters = list(algorithm.policy.parameters())
    fresh, _ = algorithm.policy.rsample(batch.obs, {})
    base = batch.action["arms"] if others == "buffer" else fresh["arms"].detach()
    total = torch.zeros(())
    for agent in range(2):
        joint = base.clone()
        joint[:, agent] = fresh["arms"][:, agent]
        total = total - algorithm.critic(batch.obs, {"arms": joint})[0, :, agent].mean()
    expected = torch.autograd.grad(total, parameters)
    found: list[Any] = []
    stepped = copy.copy(algorithm.actor_optimizers[0])
    stepped.step = lambda loss: found.extend(torch.autograd.grad(loss, parameters))  # type: ignore[method-assign]  # a spy
    algorithm.actor_optimizers = [stepped]
    algorithm.update_actors(batch, [{}])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_delayed_actors_move_at_every_second_step() -> None:
    play = Play(continuous, MATD3Config(**{**FAST, "actor_interval": 2}))
    play.iterate(1, learn=False)
    algorithm, moved = ddpg(play), []
    for _ in range(6):
        old, copied = weights(algorithm.policy), weights(algorithm.target_critic)
        gradient_step(algorithm)
        moved.append(not torch.equal(old, weights(algorithm.policy)))
        assert moved[-1] == (not torch.equal(copied, weights(algorithm.target_critic)))
    assert moved == [False, True] * 3


def test_exploration_noise_falls_on_a_line() -> None:
    play = Play(continuous, MADDPGConfig(**FAST, noise=0.5, last_noise=0.1))
    algorithm = ddpg(play)
    ones = {"arms": torch.ones(1, 2, 2)}
    for share, expected in ((0.0, 0.5), (0.5, 0.3), (1.0, 0.1), (2.0, 0.1)):
        algorithm.frames = int(share * 60 * 8 * 32)
        assert algorithm.exploration_noise(ones)["arms"].unique().item() == pytest.approx(expected)


def test_the_first_frames_are_uniform() -> None:
    play = Play(continuous, MADDPGConfig(**{**FAST, "warmup": 100_000}), envs=500)
    play.iterate(1)
    action = play.replay.take(torch.arange(4000)).action["arms"]
    low, high = torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 3.0])
    torch.testing.assert_close(action.mean((0, 1)), (low + high) / 2, atol=0.1, rtol=0)
    torch.testing.assert_close(action.var((0, 1)), (high - low) ** 2 / 12, atol=0.1, rtol=0.05)
    assert ddpg(play).updates == 0


@pytest.mark.slow
@pytest.mark.parametrize("make", [continuous, identity])
@pytest.mark.parametrize("config", [MATD3Config, HADDPGConfig, HASACConfig, MASACConfig])
def test_compiled_steps_equal_eager_ones(config: Any, make: Any) -> None:
    found = []
    for compiled in (False, True):
        play = Play(make, config(**{**FAST, "compile": compiled}), Perceptron([16]))
        play.iterate(2)
        algorithm = play.first
        found.append(torch.cat([weights(algorithm.policy), weights(algorithm.critic)]))
    torch.testing.assert_close(*found, atol=2e-3, rtol=2e-3)


@pytest.mark.slow
def test_compiled_reading_follows_the_room_for_successors() -> None:
    """Episodes are short and agents leave them, so that room doubles between updates."""
    found, sizes = [], set()
    for compiled in (False, True):
        play = Play(mortal, MADDPGConfig(**{**FAST, "compile": compiled}), Perceptron([16]))
        play.iterate(1)
        for _ in range(3):
            play.iterate(4, learn=False)
            algorithm, index = play.first, play.replay.latest(512)
            found.append(algorithm.read(index, play.replay.successors.all_rows()))
            sizes.add(play.replay.successors.size)
    assert len(sizes) > 1
    for eager, other in zip(found[:3], found[3:], strict=True):
        for one, two in zip(tree_tensors(eager), tree_tensors(other), strict=True):
            assert torch.equal(one, two)


# ------------------------------------------------------------------------------- Gumbel gradients


def test_straight_through_choices() -> None:
    """One-hot forwards, the softmax's gradient backwards: ``p (delta - p)``."""
    scores = torch.tensor([[0.3, 1.2, -0.5]], requires_grad=True)
    noise = torch.tensor([[0.1, -2.0, 0.4]])
    action, _ = deterministic(Discrete(3)).rsample(scores, None, noise)
    assert action.round(decimals=5).tolist() == [[1.0, 0.0, 0.0]]
    (gradient,) = torch.autograd.grad((action * torch.tensor([1.0, 5.0, -3.0])).sum(), scores)
    p = (scores.log_softmax(-1) + noise).softmax(-1).detach()[0]
    jacobian = torch.diag(p) - torch.outer(p, p)
    torch.testing.assert_close(gradient[0], jacobian @ torch.tensor([1.0, 5.0, -3.0]))


def test_relaxed_choices_are_the_softmax() -> None:
    scores, noise = torch.tensor([[0.3, 1.2]]), torch.tensor([[0.1, -2.0]])
    action, _ = deterministic(Discrete(2), soft=True).rsample(scores, None, noise)
    torch.testing.assert_close(action, (scores.log_softmax(-1) + noise).softmax(-1))


def test_masked_choices_are_never_taken() -> None:
    scores, mask = torch.zeros(1000, 3), torch.tensor([True, False, True]).expand(1000, 3)
    for soft in (False, True):
        chosen = deterministic(Discrete(3), soft)
        noise = chosen.noise((1000,), torch.Generator().manual_seed(0))
        assert not chosen.rsample(scores, mask, noise)[0][:, 1].any()


def test_deterministic_numbers() -> None:
    action = deterministic(Continuous((-1.0,), (3.0,)))
    params = torch.tensor([[0.0], [20.0], [0.5]])
    torch.testing.assert_close(action.rsample(params, None, None)[0], params.tanh())
    torch.testing.assert_close(action.sample(params, None, None)[0], 1 + 2 * params.tanh())
    noisy, _, _ = action.sample(params, None, torch.full((3, 1), 0.25))
    torch.testing.assert_close(noisy, 1 + 2 * (params.tanh() + 0.25).clamp(max=1))


# ----------------------------------------------------------------------------------------- mistakes


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="did you mean 'buffer'"):
        MADDPGConfig(others="bufer")
    with pytest.raises(UserError, match="set others=current"):
        HADDPGConfig(others="buffer")
    with pytest.raises(UserError, match="gumbel=soft works only with one choice per agent"):
        deterministic(MultiDiscrete((2, 2)), soft=True)
    with pytest.raises(UserError, match="batch_size=0 is out of range"):
        MADDPGConfig(batch_size=0)
