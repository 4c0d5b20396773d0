"""Models of opponents: their loss and divergence against loops, what they find of fixed opponents,
and the targets that they enter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributions as td

from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.maddpg_full import OpponentModellingMADDPG
from marl.errors import UserError
from marl.learning.opponent_models import OpponentModels, choices, kl_divergence
from marl.networks.perceptron import Perceptron
from marl.policies.independent import IndependentPolicy
from marl.policies.random import RandomPolicy
from marl.types import Continuous, MultiDiscrete, Observation
from tests.helpers.builders import CPU, weights
from tests.helpers.off_policy import FAST, Play, gradient_step
from tests.helpers.toy_envs import continuous, identity, multidiscrete, random_actions, rivals

MODEL = Perceptron([16])
ALL = {"left": 2, "right": 1}  # agents of each group
AGENTS: list[tuple[str, int] | None] = [("left", 0), ("left", 1), ("right", 0)]


def models_of(env: Any, learners: list[tuple[str, int] | None], **options: float) -> OpponentModels:
    """Of learners in group ``left``, or in all."""
    torch.manual_seed(1)
    team = env.groups if ("right", 0) in learners else {"left": env.groups["left"]}
    lr, entropy = options.get("lr", 3e-3), options.get("entropy", 1e-3)
    return OpponentModels(learners, team, env.groups, MODEL, lr, entropy, CPU)


def opponent(env: Any) -> IndependentPolicy:
    """A policy that prefers something, differently by what it sees."""
    torch.manual_seed(2)
    policy = IndependentPolicy(env.groups, MODEL)
    with torch.no_grad():
        for network in policy.networks.values():
            network.head.weight.mul_(100)  # type: ignore[union-attr]  # a linear layer
    return policy


def steps(env: Any, policy: IndependentPolicy, count: int = 40) -> tuple[Observation, dict]:
    """What it does where a random game leads, in 64 copies."""
    obs = env.reset(0)
    for number in range(count):
        obs = env.step(random_actions(env, obs, number)).obs
    noise = policy.noise(env.num_envs, torch.Generator().manual_seed(count))
    start = torch.ones(env.num_envs, dtype=torch.bool)
    return obs, dict(policy.act(obs, {}, start, noise).action)


def asked(found: OpponentModels, policy: IndependentPolicy, obs: Observation) -> Tensor:
    found_gap = found.divergence({"team": policy}, obs)
    assert found_gap is not None
    return found_gap


def test_the_loss_counts_everyone_else_once() -> None:
    env = identity(8, CPU)
    found = models_of(env, AGENTS, entropy=0.1, lr=0.0)
    obs, action = steps(env, opponent(env))
    total, count = torch.zeros(()), 0
    for i, learner in enumerate(AGENTS):
        believed: Any = found.models[i]
        for name, size in ALL.items():
            logits = believed.networks[name](obs.groups[name].obs)[0]
            for row in range(size):
                if learner != (name, row):
                    played = td.Categorical(logits=logits[:, row])
                    total = total - played.log_prob(action[name][:, row]).mean()
                    total, count = total - 0.1 * played.entropy().mean(), count + 1
    assert count == 6
    torch.testing.assert_close(found.fit(obs, action), (total / count).detach())


def test_a_team_of_one_mind_models_others_only() -> None:
    mask = models_of(identity(8, CPU), [None]).model_mask
    assert mask["left"].tolist() == [[0, 0]] and mask["right"].tolist() == [[1]]


@pytest.mark.parametrize("make", [identity, continuous, multidiscrete])
def test_a_fixed_policy_is_found(make: Any) -> None:
    """The divergence falls to a tenth; of one that is told of other copies' actions it does not."""
    env = make(64, CPU)
    policy, generator = opponent(env), torch.Generator().manual_seed(0)
    start, gone = torch.ones(64, dtype=torch.bool), []
    for honest in (True, False):
        torch.manual_seed(1)
        found = OpponentModels([None], {}, env.groups, MODEL, 1e-2, 1e-3, CPU)
        seen = [steps(env, policy, count)[0] for count in range(20)]
        first = asked(found, policy, seen[0])
        for obs in 40 * seen:  # vectors are modelled at their most likely
            noise = None if make is continuous else policy.noise(64, generator)
            action = policy.act(obs, {}, start, noise).action
            if not honest:
                action = {n: a.roll(1, 0) for n, a in action.items()}
            found.fit(obs, action)
        gone.append((asked(found, policy, seen[0]) / first).item())
    assert gone[0] < 0.1 and gone[1] > 0.2, gone


def test_the_divergence_is_torchs() -> None:
    env = identity(8, CPU)
    found, policy = models_of(env, AGENTS), opponent(env)
    obs, _ = steps(env, policy)
    expected = []
    for i, learner in enumerate(AGENTS):
        believed: Any = found.models[i]
        for name, size in ALL.items():
            true, guess = (p.networks[name](obs.groups[name].obs)[0] for p in (policy, believed))
            for row in range(size):
                if learner != (name, row):
                    pair = [td.Categorical(logits=x[:, row]) for x in (true, guess)]
                    expected.append(td.kl_divergence(*pair).mean())
    torch.testing.assert_close(asked(found, policy, obs), torch.stack(expected).mean().detach())


def test_what_is_forbidden_counts_for_nothing() -> None:
    true = torch.tensor([[0.5, 0.5, 0.0]]).log().clamp(min=-1e9)
    believed = torch.tensor([[0.25, 0.75, 0.0]]).log().clamp(min=-1e9)
    found = kl_divergence(MultiDiscrete((3,)), true, believed)
    expected = td.kl_divergence(td.Categorical(true.exp()), td.Categorical(believed.exp()))
    torch.testing.assert_close(found, expected)
    box = Continuous((0.0, -2.0), (1.0, 2.0))
    far = kl_divergence(box, torch.tensor([[0.5, 1.0]]), torch.tensor([[0.0, 0.0]]))
    torch.testing.assert_close(far, torch.tensor([0.5 * (1.0 + 0.25)]))
    every = choices(MultiDiscrete((2, 3)), torch.device("cpu"))
    assert every.tolist() == [[a, b] for a in range(2) for b in range(3)]


# ------------------------------------------------------------------------------------ within MADDPG


def modelling(play: Play) -> OpponentModellingMADDPG:
    assert isinstance(play.first, OpponentModellingMADDPG)
    return play.first


def test_targets_take_each_agents_models() -> None:
    """Head by head: the agent's own averaged policy, and its own averaged models of the others."""
    play = Play(identity, MADDPGConfig(**FAST, inference=True))
    play.iterate(3)
    algorithm, (batch, noise) = modelling(play), play.batch()
    drawn = algorithm.opponent_models.noise(16, torch.Generator().manual_seed(3))
    rivals_do = algorithm.opponent_models.actions(batch.next_obs, drawn)
    found = algorithm.target(batch, noise[0], rivals_do)
    own, _ = algorithm.target_policy.rsample(batch.next_obs, noise[0])
    for i, agent in enumerate(AGENTS):
        assert agent is not None
        believed: Any = algorithm.opponent_models.target[i]
        joint: dict[str, Tensor] = dict(believed.rsample(batch.next_obs, drawn)[0])
        joint[agent[0]] = joint[agent[0]].clone()
        joint[agent[0]][:, agent[1]] = own[agent[0]][:, agent[1]]
        q = algorithm.target_critic(batch.next_obs, joint)[0, :, i]
        expected = batch.reward[:, i] + batch.discount[:, i] * q
        torch.testing.assert_close(found[:, i], expected.detach())


@pytest.mark.parametrize(
    ("make", "reward"), [(rivals, "own"), (rivals, "team_mean"), (continuous, "own")]
)
def test_models_are_learned_along_the_way(make: Any, reward: str) -> None:
    play = Play(make, MADDPGConfig(**FAST, inference=True, reward=reward))
    play.iterate(10)
    assert play.iterate(20)["inference_kl"] < 0.05
    assert play.returns()[0] > (-1.5 if make is continuous else 2.0)


def test_who_cannot_be_asked_is_left_out() -> None:
    """A random policy, and one with a memory."""
    env = rivals(4, CPU)
    found, obs = models_of(env, [None]), env.reset(0)
    memory = IndependentPolicy({"right": env.groups["right"]}, Perceptron([8], gru=4))
    for other in (RandomPolicy({"right": env.groups["right"]}), memory):
        assert found.divergence({"right": other}, obs) is None
    known = IndependentPolicy({"right": env.groups["right"]}, MODEL)
    assert found.divergence({"right": known, "left": memory}, obs) is not None


def test_a_team_with_models_is_restored() -> None:
    plays = [Play(rivals, MADDPGConfig(**FAST, inference=True)) for _ in range(2)]
    plays[0].iterate(3)
    for name, team in plays[0].teams.items():
        plays[1].teams[name].load_state_dict(team.state_dict())
    one, other = (modelling(play) for play in plays)
    assert torch.equal(weights(one.opponent_models.target), weights(other.opponent_models.target))
    other.replay.allocate(plays[1].collector.example())
    other.replay.load_state_dict(one.replay.state_dict())
    assert gradient_step(one) == gradient_step(other)
    assert torch.equal(weights(one.opponent_models.models), weights(other.opponent_models.models))


@pytest.mark.parametrize("wrong", [{"critic": "agent"}, {"others": "current"}])
def test_mistakes_are_told(wrong: dict[str, str]) -> None:
    with pytest.raises(UserError, match="set critic=all or team, and others=buffer"):
        MADDPGConfig(**{"inference": True, **wrong})
    with pytest.raises(UserError, match=r"nobody to infer.*set reward=own or critic=all"):
        Play(identity, MADDPGConfig(inference=True, reward="team_mean"))
