"""Turn-based (AEC) environments: parity with PettingZoo's own loop, masks, ends, errors."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pettingzoo
import pytest
import torch
from mpe2 import simple_spread_v3
from numpy.testing import assert_allclose
from pettingzoo.test import api_test

from marl import load_policy
from marl.env import check_env, copy_seeds, random_action
from marl.envs.aec.turns import TurnBased
from marl.envs.pettingzoo import factories
from marl.envs.pettingzoo.env import PettingZooEnv, make
from marl.envs.task import Task
from marl.errors import EnvironmentFault, UserError
from marl.types import Transition
from marl.utils.jsonl import read_jsonl
from tests.helpers.builders import CPU
from tests.helpers.processes import cli
from tests.helpers.turn_games import Lottery

OBSERVATION, INFO = (functools.partial(Lottery, masks=kind) for kind in ("observation", "info"))
NO_MASKS = functools.partial(Lottery, masks="none")
TICTACTOE = functools.partial(pettingzoo.make, "aec", "classic/tictactoe-v3")
TAG = functools.partial(factories.make_mpe2, "simple_tag_v3", "env", max_cycles=4)
KNIGHTS = functools.partial(
    pettingzoo.make, "aec", "butterfly/knights_archers_zombies-v11", max_cycles=40
)


# -------------------------------------------------------------- parity with agent_iter and last


def play(env: PettingZooEnv, seed: int, steps: int) -> Iterator[tuple[dict, Transition]]:
    """Plays one copy at random; yields actions by agent in the environment's words, None for an
    agent that can only wait, and transitions."""
    generator = torch.Generator().manual_seed(seed)
    obs = env.reset(seed)
    for _ in range(steps):
        action = {n: random_action(g, obs.groups[n], generator) for n, g in env.groups.items()}
        taken = {
            agent: None if action[n][0, i] == g.action.mask_size - 1 else int(action[n][0, i])
            for n, g in env.groups.items()
            for i, agent in enumerate(g.agents)
            if obs.groups[n].alive is None or obs.groups[n].alive[0, i]  # type: ignore[index]
        }
        transition = env.step(action)
        yield taken, transition
        obs = transition.obs


def raw_episode(env: Any, actions: list[tuple[str, int]]) -> tuple[Counter, dict, list]:
    """PettingZoo's own loop; returns summed ``last()``, how agents ended, and what was observed."""
    returns, ends, observed = Counter(), {}, []
    for agent in env.agent_iter():
        observation, reward, terminated, truncated, _ = env.last()
        returns[agent] += reward
        if terminated or truncated:
            ends[agent] = "terminated" if terminated else "truncated"
            env.step(None)
            continue
        actor, action = actions.pop(0)
        assert agent == actor
        observed.append(observation)
        env.step(action + env.action_space(agent).start)
    return returns, ends, observed


@pytest.mark.parametrize(
    ("factory", "steps", "mortal"),
    [
        (OBSERVATION, 700, True),
        (INFO, 200, True),
        (NO_MASKS, 200, True),
        (TICTACTOE, 400, False),
        (TAG, 100, False),
        pytest.param(KNIGHTS, 1000, True, marks=pytest.mark.slow),
    ],
)
def test_episodes_are_those_of_pettingzoos_own_loop(
    factory: Callable[..., Any], steps: int, mortal: bool
) -> None:
    """Returns, observations in an agent's own turn, and ends, over many episodes of one copy."""
    env, raw = PettingZooEnv(factory, 1, mortal=mortal), factory()
    raw.reset(seed=copy_seeds(3, 1)[0])
    first = env.reset(3)
    observations = {a: row(env, first, a) for a in agents(env)}
    returns, actions, seen = defaultdict(float), [], []
    ends, episodes = {}, 0
    for taken, step in play(env, 3, steps):
        ((actor, action),) = [(a, x) for a, x in taken.items() if x is not None]
        actions.append((actor, action))
        seen.append(observations[actor])
        for n, i, agent in places(env):
            returns[agent] += step.reward[n][0, i].item()
            for word in ("terminated", "truncated"):
                if getattr(step, word)[n][0, i]:
                    assert agent not in ends
                    ends[agent] = word
        if step.done[0]:
            raw_returns, raw_ends, raw_seen = raw_episode(raw, actions)
            assert dict(returns) == pytest.approx(dict(raw_returns), rel=1e-4, abs=1e-4)
            assert ends == raw_ends and not actions
            for one, other in zip(seen, map(vector, raw_seen), strict=True):
                assert np.array_equal(one, other)
            raw.reset()
            returns, ends, seen, episodes = defaultdict(float), {}, [], episodes + 1
        observations = {a: row(env, step.obs, a) for a in agents(env)}
    assert episodes > 5
    env.close()


def places(env: PettingZooEnv) -> list[tuple[str, int, str]]:
    return [(n, i, agent) for n, g in env.groups.items() for i, agent in enumerate(g.agents)]


def agents(env: PettingZooEnv) -> list[str]:
    return [agent for _, _, agent in places(env)]


def row(env: PettingZooEnv, obs: Any, agent: str) -> np.ndarray:
    ((name, i),) = [(n, i) for n, i, a in places(env) if a == agent]
    return obs.groups[name].obs[0, i].numpy().copy()


def vector(observation: Any) -> np.ndarray:
    inner = observation["observation"] if isinstance(observation, dict) else observation
    return np.asarray(inner, np.float32)


def test_the_tiny_game_is_pettingzoos() -> None:
    """Rewards, ends and masks of the tests' own game are as PettingZoo wants them."""
    api_test(Lottery(), num_cycles=200)


def test_turns_of_a_game_that_has_a_parallel_version_earn_the_same() -> None:
    turns = PettingZooEnv(functools.partial(simple_spread_v3.env, max_cycles=5), 1, mortal=False)
    whole = make("mpe2/simple_spread_v3", 1, max_cycles=5)
    turns.reset(4)
    whole.reset(4)
    generator = torch.Generator().manual_seed(0)
    for cycle in range(12):
        action = torch.randint(5, (1, 3), generator=generator)
        steps = [turns.step({"agent": torch.where(torch.arange(3) == turn, action, 5)})
                 for turn in range(3)]  # fmt: skip
        parallel = whole.step({"agent": action})
        earned = torch.stack([step.reward["agent"] for step in steps]).sum(0)
        assert_allclose(earned, parallel.reward["agent"], rtol=1e-6)
        assert torch.equal(
            steps[-1].next_obs.groups["agent"].obs, parallel.next_obs.groups["agent"].obs
        )
        for word in ("terminated", "truncated"):
            assert torch.equal(getattr(steps[-1], word)["agent"], getattr(parallel, word)["agent"])
        assert steps[-1].done.tolist() == parallel.done.tolist() == [cycle % 5 == 4]
        assert not any(step.done.any() for step in steps[:-1])


# --------------------------------------------------------------------------- masks, ends, limits


@pytest.mark.parametrize("factory", [OBSERVATION, INFO, NO_MASKS])
def test_who_has_no_turn_can_only_wait(factory: Callable[..., Any]) -> None:
    env = PettingZooEnv(factory, 2)
    check_env(env, steps=60)
    assert env.groups["red"].action.mask_size == 5
    for _, step in play(PettingZooEnv(factory, 1), 0, 60):
        groups = step.obs.groups.values()
        masks = [g.action_mask[g.alive] for g in groups if g.action_mask is not None]
        mask = torch.cat(masks)
        turn = ~mask[:, -1]
        assert turn.sum() == 1 and mask[turn, :-1].any()
        assert not mask[~turn, :-1].any()


def test_an_agent_that_is_out_waits_until_its_turn() -> None:
    """Its end is where last() tells of it; what it is paid before still belongs to it."""
    lags = []
    env = PettingZooEnv(functools.partial(Lottery, out=0.4), 1)
    raw = env._runner._envs[0].env  # type: ignore[attr-defined]  # the one copy's
    for _, step in play(env, 0, 300):
        flagged = [a for a in raw.agents if raw.terminations[a] or raw.truncations[a]]
        for n, i, agent in places(env):
            if agent in flagged and not step.done[0]:
                alive = step.obs.groups[n].alive
                assert alive is not None and alive[0, i] and not step.terminated[n][0, i]
                lags.append(agent)
    assert lags


def test_a_limit_of_turns_cuts_all_and_pays_what_was_earned() -> None:
    env = PettingZooEnv(functools.partial(Lottery, out=0.0), 1, max_steps=4)
    steps = [step for _, step in play(env, 0, 4)]
    assert steps[-1].done.all() and all(x.all() for x in steps[-1].truncated.values())
    assert all((step.reward["red"] != 0).all() for step in steps)
    mask = steps[-1].next_obs.groups["blue"].action_mask
    assert mask is not None and mask[0, 0, :-1].any() and not mask[0, 1, :-1].any()


def test_to_wait_in_its_turn_is_refused() -> None:
    env = PettingZooEnv(Lottery, 1)
    env.reset(0)
    with pytest.raises(EnvironmentFault, match="agent 'red_0' chose to wait, and it is its turn"):
        env.step({n: torch.full((1, g.size), 4) for n, g in env.groups.items()})


def test_infos_count_once_a_turn() -> None:
    """An AEC environment's infos stay until the agent's next turn."""
    env = PettingZooEnv(functools.partial(Lottery, out=0.0, length=6), 1)
    assert [step.info["turns"].item() for _, step in play(env, 0, 6)][-1] == 6


def test_workers_play_the_same() -> None:
    here, there = (PettingZooEnv(OBSERVATION, 3, workers=workers) for workers in (0, 2))
    first, second = here.reset(5), there.reset(5)
    action = {n: torch.zeros(3, g.size, dtype=torch.int64) for n, g in here.groups.items()}
    for _ in range(5):
        for name, group in first.groups.items():
            mask, other = group.action_mask, second.groups[name].action_mask
            assert mask is not None and other is not None and torch.equal(mask, other)
            assert torch.equal(group.obs, second.groups[name].obs)
            action[name] = mask.float().argmax(-1)
        first, second = here.step(action).obs, there.step(action).obs
    assert there.render(2).shape == (4, 6, 3)
    there.close()


# -------------------------------------------------------------------------------- teams and names


def test_players_of_a_game_are_a_team_each() -> None:
    env = Task("aec/classic/connect_four")(1, CPU)
    assert env.teams == {"player_0": ("player_0",), "player_1": ("player_1",)}
    pair = {"both": ["player_0", "player_1"]}
    assert Task("aec/classic/connect_four", groups=pair)(1, CPU).teams == {"both": ("both",)}
    assert PettingZooEnv(Lottery, 1).teams == {"red": ("red",), "blue": ("blue",)}
    assert Task("aec/mpe2/simple_tag")(1, CPU).teams == Task("mpe2/simple_tag")(1, CPU).teams


def test_names_are_those_of_the_registry() -> None:
    only = {n for n in pettingzoo.aec_registry if n not in pettingzoo.parallel_registry}
    assert {n for n in only if n.startswith("classic")} == set(factories.TURN_BASED)
    assert "aec/classic/tictactoe-v3" in factories.names()


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("aec/classic/tictactoo", {}, "unknown task .* did you mean 'aec/classic/tictactoe-v3'"),
        ("aec/mpe2/simple_tga_v3", {}, "unknown task 'aec/mpe2/simple_tga_v3'"),
        ("pettingzoo/classic/chess-v6", {}, "set task=aec/classic/chess-v6"),
        ("aec/mpe2/simple_v3", {"continuous_actions": True}, "no action to wait with"),
        ("aec/classic/tictactoe-v3", {"speed": 3}, "does not take .*speed"),
    ],
)
def test_names_and_options_that_are_wrong(name: str, kwargs: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Task(name, kwargs=kwargs)(1, CPU)


class Blocked(Lottery):
    """Masks allow nothing from the fourth turn on."""

    def _draw(self) -> None:
        super()._draw()
        self.mask[:] = self.time < 3


class Forgetful(Lottery):
    """Does not add up rewards."""

    def _accumulate_rewards(self) -> None:
        pass


class Stuck(Lottery):
    """Does not remove agents that have ended."""

    def _was_dead_step(self, action: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (Blocked, EnvironmentFault, "the action mask of agent 'red_0', whose turn it is, allows"),
        (Forgetful, EnvironmentFault, r"by rewards, and 0 by last\(\); expected the same"),
        (Stuck, RuntimeError, r"agent '.*' has ended, and step\(None\) did not remove it"),
    ],
)
def test_a_game_that_breaks_pettingzoos_rules(kind: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        PettingZooEnv(kind, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("player", "least"), [("player_1", 0.75), ("player_2", 0.3)])
def test_tictactoe_against_a_random_player_is_learned(
    tmp_path: Path, player: str, least: float
) -> None:
    """Wins minus losses: at random 0.30 for who begins, and -0.30 for the other."""
    other = {"player_1": "player_2", "player_2": "player_1"}[player]
    words = ["task=aec/classic/tictactoe-v3", f"teams.{other}.algorithm=random", "algorithm=ippo"]
    more = ["total_frames=150000", "num_envs=64", "steps=32", "video=false", "directory=run"]
    scale = ["evaluation_interval=0", "evaluation_episodes=200"]
    assert cli(tmp_path, "train", *words, *more, *scale).code == 0
    returns = read_jsonl(tmp_path / "run" / "evaluations.jsonl")[-1]["returns"]
    assert sum(returns[player]) / 200 > least
    assert [-x for x in returns[other]] == returns[player]
    assert play_the_documentations_games(tmp_path / "run", player) > least


def play_the_documentations_games(run: Path, player: str, games: int = 50) -> float:
    """Returns a player's mean reward in games as the documentation plays them."""
    policy, total = load_policy(run), 0.0
    game = TurnBased(pettingzoo.make("aec", "classic/tictactoe-v3"))
    for seed in range(games):
        observations: Any = game.reset(seed=seed)[0]
        while game.agents:
            observations, rewards, *_ = game.step(policy(observations))
            total += rewards[player]
    return total / games
