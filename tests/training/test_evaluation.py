"""Evaluation against a loop over single copies; and it touches nothing else."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from marl.algorithms.scripted import RandomConfig
from marl.env import copy_seeds
from marl.envs.task import Task
from marl.networks.perceptron import Perceptron
from marl.policies.fixed import Scripted
from marl.training.evaluation import evaluate, film
from marl.training.evaluations import Evaluations
from marl.training.settings import Settings
from marl.types import tree_tensors
from tests.helpers.builders import CPU, SMALL, collector, context, mappo, randomly
from tests.helpers.toy_envs import Game, identity, late_metric, rivals

GRU = Perceptron(**SMALL, gru=8)


def naive_evaluation(
    env: Game, policy: Scripted, episodes: int, seed: int
) -> dict[str, list[float]]:
    """Round by round, copy by copy: the first episode of each."""
    returns: list[float] = []
    lengths: list[float] = []
    number = 0
    while len(returns) < episodes:
        obs, start = env.reset(seed + 2 * env.num_envs * number), torch.ones(env.num_envs).bool()
        total, length = [0.0] * env.num_envs, [0.0] * env.num_envs
        running = set(range(env.num_envs))
        while running:
            step = env.step(policy.act(obs, {}, start, torch.Generator(), False).action)
            for b in list(running):
                rewards = [float(r) for n in env.groups for r in step.reward[n][b]]
                total[b] += sum(rewards) / len(rewards)
                if step.done[b]:
                    length[b] = float(step.info["length"][b])
                    running.remove(b)
            obs, start = step.obs, step.done
        returns, lengths, number = returns + total, lengths + length, number + 1
    return {"returns": returns[:episodes], "length": lengths[:episodes]}


def test_a_metric_that_appears_in_a_later_round_is_0_before() -> None:
    env = late_metric(4, CPU)
    metrics = evaluate(env, randomly(env), 10, seed=5)["metrics"]
    assert metrics["won"] == [0.0] * 4 + [2.0] * 6 and len(metrics["length"]) == 10


def test_a_metric_once_told_stays_and_is_kept_in_checkpoints() -> None:
    """The same environment that forgot it, as a resumed run's has."""
    settings = Settings(evaluation_episodes=3, total_frames=100, evaluation_interval=10)
    one, other = (late_metric(4, CPU) for _ in range(2))
    first = Evaluations(one, randomly(one), settings)
    assert [list(first.play(n)["metrics"]) for n in (0, 10)] == [["length"], ["length", "won"]]
    resumed = Evaluations(other, randomly(other), settings)
    resumed.load_state_dict(first.state_dict())
    assert resumed.play(20)["metrics"]["won"] == [0.0] * 3


@pytest.mark.parametrize("episodes", [1, 3, 4, 10])
def test_evaluation_counts_first_episodes_only(episodes: int) -> None:
    greedy = Scripted(mappo("identity").policy, None)
    result = evaluate(identity(4, CPU, end=0.3), {"team": greedy}, episodes, seed=5)
    expected = naive_evaluation(identity(4, CPU, end=0.3), greedy, episodes, 5)
    assert len(result["returns"]["team"]) == episodes
    torch.testing.assert_close(
        torch.tensor(result["returns"]["team"]), torch.tensor(expected["returns"])
    )
    assert result["metrics"]["length"] == expected["length"]
    assert episodes < 4 or len(set(expected["length"])) > 1


def test_every_team_has_its_own_returns() -> None:
    env = rivals(4, CPU, end=0.0)
    teams: dict[str, Any] = {
        name: RandomConfig().build(context(env, team={name: env.groups[name]}))
        for name in ("left", "right")
    }
    result = evaluate(env, teams, 400, seed=1)
    assert all(len(returns) == 400 for returns in result["returns"].values())
    # Chance: a third of 4 steps on the left, a quarter on the right.
    assert np.mean(result["returns"]["left"]) == pytest.approx(4 / 3, abs=0.15)
    assert np.mean(result["returns"]["right"]) == pytest.approx(1.0, abs=0.15)


def global_state() -> list[Any]:
    numbers: Any = np.random.get_state()  # noqa: NPY002  # others use it
    return [torch.get_rng_state().tolist(), numbers[1].tolist(), numbers[2], random.getstate()]


def test_evaluation_is_repeatable_and_touches_nothing_else() -> None:
    algorithm = mappo("identity")
    collect = collector("identity", algorithm)
    collect.collect()
    before = global_state()
    state = tree_tensors(collect.env.state_dict())
    weights = [p.clone() for p in algorithm.policy.parameters()]
    env = identity(3, CPU)
    results = [evaluate(env, collect.teams, 5, 7) for _ in range(2)]
    assert results[0] == results[1] != evaluate(env, collect.teams, 5, 9)
    after = global_state()
    assert before == after
    assert all(map(torch.equal, state, tree_tensors(collect.env.state_dict())))
    assert all(map(torch.equal, weights, algorithm.policy.parameters()))


def test_actions_are_not_drawn_with_the_environments_numbers() -> None:
    """Else what a copy draws at its start and what an agent then does are one and the same."""
    used = []

    class Watched(Scripted):
        def act(self, obs, carry, start, generator, explore=True):
            used.append(generator.initial_seed())
            return super().act(obs, carry, start, generator, explore)

    env = identity(3, CPU)
    evaluate(env, {"team": Watched(randomly(env)["team"].policy, True)}, 3, seed=5)
    assert used[0] not in copy_seeds(5, 3)


def test_evaluation_zeroes_memories_where_episodes_start() -> None:
    """A second episode in the same copy plays as the first: shown by the starts that act sees."""
    algorithm = mappo("identity", GRU)
    seen: list[Tensor] = []

    class Watched(Scripted):
        def act(self, obs, carry, start, generator, explore=True):
            seen.append(start)
            return super().act(obs, carry, start, generator, explore)

    evaluate(identity(16, CPU, end=0.4), {"team": Watched(algorithm.policy, None)}, 16, 1)
    assert seen[0].all() and not torch.stack(seen[1:]).all() and torch.stack(seen[1:]).any()


def test_the_best_is_the_last_of_the_highest() -> None:
    """Of the teams that learn; after a resume as well."""
    env = identity(4, CPU)
    teams = {"learns": mappo("identity"), "random": randomly(env)["team"]}
    made = Evaluations(env, teams, Settings())
    returns, best = [[1.0, 2.0], [0.0, 1.0], [1.5, 1.5], [1.0, 1.0], [2.0, 2.0]], []
    for values in returns:
        made.returns = {"learns": values, "random": [9.0, 9.0]}
        best.append(made.update_best())
        again = Evaluations(env, teams, Settings())
        again.load_state_dict(made.state_dict())
        made = again
    assert best == [["learns"], [], ["learns"], [], ["learns"]]


def test_film_is_one_episode() -> None:
    env = identity(1, CPU, end=0.0)
    frames = film(env, {"team": mappo("identity", envs=1)}, seed=1)
    assert [int(frame[0, 0, 0]) for frame in frames] == [20, 40, 60]


def test_an_episode_of_one_step_is_filmed() -> None:
    env = identity(1, CPU, end=1.0)
    assert len(film(env, {"team": mappo("identity", envs=1)}, seed=1)) == 1


@pytest.mark.parametrize(("task", "steps"), [("games/two_step", 2), ("foraging/4x4-2p-1f", 3)])
def test_films_have_the_last_step_where_environments_draw_it(task: str, steps: int) -> None:
    env: Any = Task(task, max_steps=steps)(2, CPU)
    frames = film(env, {"team": RandomConfig().build(context(env))}, seed=1)
    assert len(frames) == steps and (frames[-1] == env.render(0)).all()
