"""IQL, VDN and QMIX: targets by a naive loop, exploration, memory, ensembles, masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms.iql import IQLConfig
from marl.algorithms.mappo import MAPPOConfig
from marl.algorithms.qmix import QMIXConfig
from marl.algorithms.registry import ALGORITHMS
from marl.algorithms.value_decomposition import ValueDecomposition
from marl.algorithms.vdn import VDNConfig
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.learning.replay import Sequences
from marl.networks.perceptron import Perceptron
from marl.policies.greedy import CARRY, GreedyPolicy
from marl.training.teams import Team
from marl.types import Observation, tree_map
from marl.utils.serialization import from_plain, to_plain
from tests.helpers.builders import CPU, weights
from tests.helpers.experiments import SHORT, equal, outcome
from tests.helpers.off_policy import FAST_VALUE as FAST
from tests.helpers.off_policy import Play
from tests.helpers.toy_envs import continuous, identity, memory, mortal, multidiscrete

MLP, GRU = Perceptron([32], activation="relu"), Perceptron([16], activation="relu", gru=8)


def learner(play: Play) -> ValueDecomposition[Any]:
    found: Any = play.first
    assert isinstance(found, ValueDecomposition)
    return found


# ---------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize(
    "name", ["qmix", *(pytest.param(n, marks=pytest.mark.slow) for n in ("iql", "vdn"))]
)
def test_choices_are_learned(name: str) -> None:
    """4 for perfect play, about 1.2 by chance."""
    play = Play(identity, ALGORITHMS[name](**FAST), end=0.0)
    play.iterate(15)
    assert play.returns()[0] > 3.4


def test_numbers_are_learned_in_bins() -> None:
    """The less, the farther from what is asked: 0 at best, about -5 by chance."""
    play = Play(continuous, VDNConfig(**FAST, ensemble=2, mean=True, bins=5))
    play.iterate(20)
    assert play.returns()[0] > -1.8


@pytest.mark.parametrize(
    "name", ["qmix", *(pytest.param(n, marks=pytest.mark.slow) for n in ("iql", "vdn"))]
)
def test_only_memory_solves_what_was_seen_before(name: str) -> None:
    """4 for perfect play, about 1.3 by chance."""
    config = {**FAST, "gamma": 0.5, "batch_size": 128}
    blind, recurrent = (Play(memory, ALGORITHMS[name](**config), model) for model in (MLP, GRU))
    for play in (blind, recurrent):
        play.iterate(15)
    assert blind.returns()[0] < 2.6 and recurrent.returns()[0] > 3.6


# ----------------------------------------------------------------------------------------- targets


def batch_of(play: Play, count: int = 3) -> Sequences:
    algorithm = learner(play)
    steps = algorithm.burn_in + algorithm.length
    index = play.replay.draw_windows(count, steps, torch.Generator().manual_seed(4))
    return algorithm.read(index)


def at(tree: Any, t: int, row: int) -> Any:
    """Step ``t`` of sequence ``row``, with an axis of one."""
    return tree_map(lambda x: x[t, row : row + 1], tree)


def naive_next_values(algorithm: Any, batch: Sequences, row: int) -> list[Tensor]:
    """V(s') of every step of one sequence, by acting one step after the other."""
    policies = (algorithm.policy, algorithm.target_policy)
    carries = [
        {n: batch.aux[n][CARRY][0, row : row + 1] for n in batch.aux} if batch.aux else
        policy.initial_carry(1) for policy in policies
    ]  # fmt: skip
    values = []
    for t in range(len(batch.start)):
        obs, after = at(batch.obs, t, row), at(batch.next_obs, t, row)
        after_params = []
        for k, policy in enumerate(policies):
            start = batch.start[t, row : row + 1]
            _, carries[k] = policy.step_params(obs, carries[k], start)
            no_start = torch.zeros_like(start)
            after_params.append(policy.step_params(after, carries[k], no_start)[0])
        values.append(best_value(algorithm, after, *after_params))
    return values


def prepared(algorithm: Any, whole: Sequences) -> tuple[Sequences, Any, Any]:
    """The steps to learn from, and the online and the target networks' memories."""
    stored = algorithm.stored_carry(whole)
    policies = algorithm.policy, algorithm.target_policy
    online, target = (algorithm.carry_after_burn_in(p, whole, stored) for p in policies)
    return algorithm.after_burn_in(whole), online, target


def best_value(algorithm: Any, obs: Observation, online: Any, target: Any) -> Tensor:
    """The target mixer's value of what every agent prefers online; the dead have 0."""
    q = []
    for name, values in online.items():
        group = obs.groups[name]
        for i in range(values.shape[1]):
            allowed = values[0, i].clone()
            if group.action_mask is not None:
                allowed[~group.action_mask[0, i]] = -torch.inf
            alive = group.alive is None or bool(group.alive[0, i])
            q.append(target[name][0, i, allowed.argmax()] if alive else torch.zeros(()))
    stacked = torch.stack(q).unsqueeze(0)
    return algorithm.target_mixer(obs, stacked, stacked, None).squeeze(0)


@pytest.mark.parametrize(("name", "options"), [
    ("qmix", {"td_lambda": 0.7}), ("iql", {"reward": "own"}), ("vdn", {"burn_in": 3}),
    ("qmix", {"burn_in": 3, "stored_carries": False, "td_lambda": 1.0}),
])  # fmt: skip
def test_targets_are_those_of_a_naive_loop(name: str, options: dict[str, Any]) -> None:
    """With deaths, masks, limits and memories, one sample and one step after the other."""
    play = Play(mortal, ALGORITHMS[name](**{**FAST, **options}), GRU)
    play.iterate(4)
    algorithm, whole = learner(play), batch_of(play)
    batch, carry, target_carry = prepared(algorithm, whole)
    utilities, memories = algorithm.policy.unroll(batch.obs, carry, batch.start)
    y = algorithm.targets(batch, utilities, memories, target_carry)
    assert not y.requires_grad and batch.done.any() and not batch.done.all()
    lam, gamma, skip = algorithm.config.td_lambda, algorithm.config.gamma, algorithm.burn_in
    for row in range(y.shape[1]):
        values = naive_next_values(algorithm, whole, row)[skip:]
        expected: Tensor | None = None
        for t in reversed(range(len(y))):
            ends, dead = batch.done[t, row], batch.terminated[t, row]
            rest = values[t]
            if expected is not None:
                rest = torch.where(ends, rest, (1 - lam) * rest + lam * expected)
            expected = batch.reward[t, row] + gamma * torch.where(dead, 0.0, rest)
            torch.testing.assert_close(y[t, row], expected, rtol=1e-4, atol=1e-5)


def test_what_follows_a_termination_changes_nothing() -> None:
    """Neither the loss of the steps before it nor their gradient."""
    play = Play(identity, QMIXConfig(**{**FAST, "td_lambda": 0.9}), GRU, end=0.3)
    play.iterate(6)
    algorithm, batch = learner(play), batch_of(play, 64)
    last = batch.terminated[:, :, 0].long().argmax(0)
    rows = batch.terminated[:, :, 0].any(0).nonzero().squeeze(-1)
    steps = torch.arange(len(batch.start)).unsqueeze(-1)
    before = (steps <= last)[:, rows]
    assert len(rows) > 5 and not before.all()
    found = []
    for garbage in (0.0, 100.0):

        def spoil(x: Tensor, garbage: float = garbage) -> Tensor:
            wide = before.reshape(*before.shape, *[1] * (x.dim() - 2))
            return torch.where(wide, x, x + garbage) if x.is_floating_point() else x

        part = tree_map(lambda x: x[:, rows], batch)
        obs, reward = tree_map(spoil, part.obs), spoil(part.reward)
        # of the last step too, whose successor no longer counts
        ended = part.terminated.unsqueeze(-1)
        next_obs = tree_map(lambda x, more=garbage * ended: x + more, part.next_obs)
        part = replace(part, obs=obs, reward=reward, next_obs=next_obs)
        part, carry, target_carry = prepared(algorithm, part)
        utilities, memories = algorithm.policy.unroll(part.obs, carry, part.start)
        value = algorithm.mix(algorithm.mixer, part.obs, algorithm.taken(utilities, part))
        error = (
            (value - algorithm.targets(part, utilities, memories, target_carry))
            .square()
            .squeeze(-1)
        )
        loss = error[before].sum()
        gradient = torch.autograd.grad(loss, list(algorithm.policy.parameters()))
        found.append([loss, *gradient])
    torch.testing.assert_close(*found)


def test_single_q_learning_values_what_targets_prefer() -> None:
    play = Play(identity, VDNConfig(**FAST, double=False))
    play.iterate(12)
    algorithm, batch = learner(play), batch_of(play, 16)
    y = algorithm.targets(batch, {}, {}, {})
    params, _ = algorithm.target_policy.unroll(batch.next_obs, {}, batch.start)
    total = torch.cat([x.amax(-1) for x in params.values()], -1).sum(-1, keepdim=True)
    expected = batch.reward + 0.9 * ~batch.terminated * total
    torch.testing.assert_close(y, expected)


def test_the_target_of_an_ensemble_is_its_members_mean() -> None:
    """Of the mean utilities (Ireland & Montana 2024), each member is fitted to it."""
    play = Play(multidiscrete, VDNConfig(**FAST, ensemble=3, mean=True))
    play.iterate(6)
    algorithm, batch = learner(play), batch_of(play, 16)
    online, target = (
        p.unroll(batch.next_obs, {}, batch.start)[0]["hands"].unflatten(-1, (3, 5)).mean(-2)
        for p in (algorithm.policy, algorithm.target_policy)
    )
    mask = batch.next_obs.groups["hands"].action_mask
    parts = []
    for columns in (slice(0, 2), slice(2, 5)):
        allowed = torch.where(mask[..., columns], online[..., columns], -torch.inf)  # type: ignore[index]
        parts.append(target[..., columns].gather(-1, allowed.argmax(-1, keepdim=True)))
    mean = torch.cat(parts, -1).mean((-1, -2)).unsqueeze(-1)  # over agents and their choices
    expected = batch.reward + 0.9 * ~batch.terminated * mean
    torch.testing.assert_close(algorithm.targets(batch, {}, {}, {}), expected)
    utilities, _ = algorithm.policy.unroll(batch.obs, {}, batch.start)
    value = algorithm.mix(algorithm.mixer, batch.obs, algorithm.taken(utilities, batch))
    assert value.shape == (*batch.start.shape, 3)


def test_an_ensembles_mean_varies_less() -> None:
    """The variance of its utilities over seeds is an E-th of one network's."""
    env = identity(1, CPU)
    obs, start = env.reset(0), torch.ones(1, dtype=torch.bool)
    groups, variance = {"left": env.groups["left"]}, []
    for members in (1, 4):
        found = []
        for seed in range(60):
            torch.manual_seed(seed)
            policy = GreedyPolicy(groups, Perceptron([4]), members=members)
            params = policy.step_params(obs, {}, start)[0]["left"]
            found.append(policy.utilities["left"].of_members(params).mean(-2).detach())
        variance.append(torch.stack(found).var(0).mean())
    assert 2.5 < (variance[0] / variance[1]).item() < 6.0


def test_rewards_are_standardised_by_all_so_far() -> None:
    play = Play(identity, VDNConfig(**FAST, standardise_rewards=True))
    play.iterate(8)
    algorithm, batch = learner(play), batch_of(play, 16)
    stored = play.replay.sequences(play.replay.latest(10**6), algorithm.team, algorithm.scheme)
    z = (batch.reward - stored.reward.mean()) / stored.reward.std(correction=0)
    torch.testing.assert_close(algorithm.returns(batch, torch.zeros_like(z)), z)


# -------------------------------------------------------------------------------------- exploration


def test_actions_are_random_with_probability_epsilon() -> None:
    config = VDNConfig(
        **{**FAST, "epsilon": 0.9, "last_epsilon": 0.3, "epsilon_frames": 1000, "warmup": 0}
    )
    play = Play(identity, config, envs=512)
    algorithm, obs = learner(play), play.env.reset(0)
    start = torch.ones(512, dtype=torch.bool)
    greedy = algorithm.act(obs, {}, start, torch.Generator().manual_seed(1), explore=False)
    for frames, epsilon in ((512, 0.9 - 0.6 * 0.512), (750, 0.45), (5000, 0.3)):
        algorithm.frames = frames
        step = algorithm.act(obs, {}, start, torch.Generator().manual_seed(1))
        same = step.action["left"] == greedy.action["left"]
        # a random action is the greedy one among three by chance
        assert abs(float(same.float().mean()) - (1 - epsilon * 2 / 3)) < 0.03
    state = algorithm.policy.state_dict()
    assert float(state["epsilon"]) == pytest.approx(0.3)  # a checkpoint explores as training did


def test_forbidden_actions_are_never_chosen() -> None:
    play = Play(mortal, QMIXConfig(**FAST, epsilon=0.5, last_epsilon=0.5), envs=256)
    algorithm, obs = learner(play), play.env.reset(0)
    algorithm.frames = 10**6
    for network in algorithm.policy.networks.values():
        torch.nn.init.constant_(network.head.bias, 0.0)  # type: ignore[union-attr]
        network.head.bias.data[0] = 1e6  # type: ignore[union-attr]
    start, random = torch.ones(256, dtype=torch.bool), torch.Generator().manual_seed(2)
    for explore in (True, False):
        step = algorithm.act(obs, {}, start, random, explore)
        for name, action in step.action.items():
            mask, alive = obs.groups[name].action_mask, obs.groups[name].alive
            assert mask is not None and alive is not None and not mask[..., 0].all()
            allowed = mask.gather(-1, action.unsqueeze(-1)).squeeze(-1)
            assert allowed[alive].all()
            if not explore:
                assert (action == 0)[mask[..., 0] & alive].all()


# -------------------------------------------------------------------------------------------- runs


def run(directory: Path, **settings: Any) -> Experiment:
    """QMIX with memory against MAPPO, from the toy's two teams."""
    value = QMIXConfig(**{**FAST, "batch_size": 16, "warmup": 40, "frames_per_update": 16})
    teams = {"right": Team(None, MAPPOConfig(epochs=1, minibatch_size=20))}
    return Experiment(
        Task("tests.helpers.toy_envs:rivals"),
        value,
        Perceptron([8], gru=4),
        critic_model=Perceptron([8]),
        teams=teams,
        settings=Settings(**{**SHORT, "replay_size": 120, **settings}),
        directory=directory,
    )


def test_a_team_of_qmix_against_one_of_mappo_resumes_exactly(tmp_path: Path) -> None:
    """With a full replay, its stored memories included."""
    run(tmp_path / "whole").run()
    run(tmp_path / "half", total_frames=120).run()
    Experiment.load(tmp_path / "half", total_frames=240).run()
    whole, resumed = (outcome(tmp_path / name) for name in ("whole", "half"))
    same = ("metrics", "frames", "teams", "collector", "replay")  # the half was evaluated once more
    assert whole["replay"] and equal({k: whole[k] for k in same}, {k: resumed[k] for k in same})


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model"), [("qmix", GRU), ("vdn", MLP)])
def test_compiled_steps_equal_eager_ones(name: str, model: Perceptron) -> None:
    found = []
    for compiled in (False, True):
        play = Play(mortal, ALGORITHMS[name](**{**FAST, "compile": compiled}), model)
        play.iterate(3)
        found.append(weights(learner(play).policy))
    torch.testing.assert_close(*found, atol=2e-3, rtol=2e-3)


# ---------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("name", ["qmix", "qplex", "cwqmix"])
def test_the_optimizers_epsilon_is_its_usual_one_unless_set(name: str) -> None:
    own = {"adam": 1e-5 if name == "qplex" else 1e-8, "rmsprop": 1e-5}  # QPLEX sets it
    for optimizer, usual in own.items():
        for value, expected in (({}, usual), ({"adam_eps": 0.25}, 0.25)):
            config = ALGORITHMS[name](**FAST, optimizer=optimizer, **value)
            stored = from_plain(to_plain(config))
            assert learner(Play(identity, stored)).optimizer.eps == expected


# ---------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(("config", "options", "told"), [
    (QMIXConfig, {"reward": "own"}, "set reward=team_mean or team_sum, or take algorithm=iql"),
    (QMIXConfig, {"critic": "agent"}, "team"),
    (VDNConfig, {"ensemble": 0}, "ensemble"),
    (IQLConfig, {"bins": 1}, "bins"),
    (IQLConfig, {"adam_eps": -1.0}, "adam_eps"),
    (IQLConfig, {"td_lambda": 1.5}, "td_lambda"),
])  # fmt: skip
def test_wrong_settings_are_refused(config: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        config(**options)


def test_sequences_must_fit_into_the_replay() -> None:
    with pytest.raises(UserError, match=r"sequences of 700 steps .* replay_size=22400 or more"):
        Play(memory, QMIXConfig(sequence_length=700), GRU)
