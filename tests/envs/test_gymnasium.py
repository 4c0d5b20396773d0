"""Gymnasium environments with tuples of agents: parity with their own loop, ends, names."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from marl.env import check_env, copy_seeds, random_action
from marl.envs.gymnasium.agents import LIMITS
from marl.envs.gymnasium.registry import PACKAGES
from marl.envs.pettingzoo.env import PettingZooEnv, make
from marl.envs.task import Task, task_names
from marl.errors import EnvironmentFault, UserError
from tests.helpers.builders import CPU
from tests.helpers.tuple_env import Crossing


def compare(env: PettingZooEnv, raw: Any, steps: int, limit: Callable[[int], bool]) -> int:
    """Plays one copy at random beside the environment's own loop; returns the number of episodes.

    Args:
        env: the adapter, of one copy and one group.
        raw: the Gymnasium environment.
        steps: how many.
        limit: whether an end after so many steps, of ``raw``, is a truncation.
    """
    ((name, group),) = env.groups.items()
    generator = torch.Generator().manual_seed(0)
    obs = env.reset(3)
    observed, _ = raw.reset(seed=copy_seeds(3, 1)[0])
    alive, time, episodes = np.ones(group.size, bool), 0, 0
    start = [space.start for space in raw.action_space.spaces]
    for _ in range(steps):
        expected = np.array([np.where(a, x, 0) for a, x in zip(alive, observed, strict=True)])
        assert np.array_equal(obs.groups[name].obs[0], expected.astype(np.float32))
        action = random_action(group, obs.groups[name], generator)
        step, time = env.step({name: action}), time + 1
        joint = np.where(alive, action[0].numpy(), 0) + start
        observed, reward, *flags, _ = raw.step(tuple(joint.tolist()))
        reward, died, cut = (np.broadcast_to(x, group.size) for x in (reward, *flags))
        if limit(time):
            died, cut = np.zeros_like(died), died | cut
        assert np.array_equal(step.reward[name][0], np.where(alive, reward, 0).astype(np.float32))
        assert np.array_equal(step.terminated[name][0], alive & died)
        assert np.array_equal(step.truncated[name][0], alive & cut & ~died)
        alive = alive & ~(died | cut)
        assert step.done[0] == (not alive.any())
        if step.done[0]:
            observed, _ = raw.reset()
            alive, time, episodes = np.ones(group.size, bool), 0, episodes + 1
        obs = step.obs
    return episodes


@pytest.mark.parametrize("rewards", ["list", "number"])
@pytest.mark.parametrize("flags", ["each", "all"])
def test_episodes_are_those_of_the_environments_own_loop(rewards: str, flags: str) -> None:
    """And no agent is paid after its end."""
    factory = partial(Crossing, rewards=rewards, flags=flags)
    assert compare(PettingZooEnv(factory, 1), factory(), 150, lambda time: False) > 10


class Limited(Crossing):
    """Reports the end of its time as a termination."""

    def step(self, action: Any) -> Any:
        observed, rewards, ended, over, info = super().step(action)
        return observed, rewards, any(ended) or over, False, info


def test_a_limit_that_a_package_reports_as_a_termination_is_a_truncation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    factory = partial(Limited, length=4)
    assert compare(PettingZooEnv(factory, 1), factory(), 40, lambda time: False) > 5
    monkeypatch.setitem(LIMITS, "tests", lambda env: env.time >= env.length)
    assert compare(PettingZooEnv(factory, 1), factory(), 40, lambda time: time == 4) > 5


FORAGING, WAREHOUSE, CROSSROADS = (
    "Foraging-5x5-3p-1f-v3",
    "rware-tiny-2ag-v2",
    "intersection-multi-agent-v2",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "name", "steps"),
    [
        ("lbforaging", FORAGING, 400),
        ("rware", WAREHOUSE, 1100),
        ("highway_env", CROSSROADS, 60),
    ],
)
def test_packages_play_as_in_their_own_loop(package: str, name: str, steps: int) -> None:
    pytest.importorskip(package, reason=f"pip install {PACKAGES[package][0]}, to compare with it")
    env = make(f"gymnasium/{name}", 1)
    raw = gymnasium.make(name, disable_env_checker=True)
    inner: Any = raw.unwrapped
    limits: dict[str, Callable[[int], bool]] = {
        FORAGING: lambda time: time == 50 and bool(inner.field.any()),
        WAREHOUSE: lambda time: time == 500,
        CROSSROADS: lambda time: False,
    }
    assert compare(env, raw, steps, limits[name]) >= 2
    assert env.cannot_draw() == "" and env.render().any()
    check_env(make(f"gymnasium/{name}", 2), steps=20)


@pytest.mark.slow
def test_a_seed_alone_decides_where_foragers_begin() -> None:
    """lbforaging 2.0 itself places players beside those of the episode before."""
    pytest.importorskip("lbforaging", reason="pip install lbforaging, to compare with it")
    env = make("gymnasium/Foraging-5x5-4p-2f-v3", 1)
    first = env.reset(0).groups["agent"].obs
    for _ in range(20):
        env.step({"agent": torch.randint(6, (1, 4))})
        assert torch.equal(env.reset(0).groups["agent"].obs, first)


# ------------------------------------------------------------------- agents, masks, workers, names


def test_one_agent_without_tuples() -> None:
    env = Task("gymnasium/CartPole-v1", max_steps=7)(2, CPU)
    check_env(env, steps=30)
    assert env.groups["agent"].agents == ("agent_0",) and env.teams == {"team": ("agent",)}
    masked = Task("gymnasium/Taxi", max_steps=7)(2, CPU)  # its mask is in the info
    check_env(masked, steps=30)
    assert masked.groups["agent"].masked


def test_numbers_of_the_info_count_once() -> None:
    env = PettingZooEnv(partial(Crossing, length=4, flags="all"), 1)
    env.reset(0)
    assert not env.groups["agent"].masked  # whose mask it is nobody says
    steps = [env.step({"agent": torch.zeros(1, 3, dtype=torch.int64)}) for _ in range(40)]
    first = next(i for i, step in enumerate(steps) if step.done[0])
    assert steps[first].info["speed"].item() == 2.0 * (first + 1)


def test_workers_and_pictures() -> None:
    task = "gymnasium/tests.helpers.tuple_env:Crossing-v0"
    here, there = (make(task, 3, workers=workers, agents=2) for workers in (0, 2))
    assert torch.equal(here.reset(1).groups["agent"].obs, there.reset(1).groups["agent"].obs)
    action = {"agent": torch.ones(3, 2, dtype=torch.int64)}
    assert torch.equal(here.step(action).reward["agent"], there.step(action).reward["agent"])
    assert there.render(2).tolist() == here.render(2).tolist()
    there.close()


def test_names_and_what_they_import() -> None:
    assert "gymnasium/Foraging-8x8-2p-2f-v3" in task_names()
    assert Task("gymnasium/CartPole-v1").imports() == []
    assert Task("gymnasium/rware:rware-tiny-2ag-v2").imports() == []
    own = "gymnasium/tests.helpers.tuple_env:Crossing-v0"
    assert Task(own).imports() == [own]  # which --trust is needed for in others' runs
    options = {option.key: option.value for option in Task(own).own_options()}
    assert options == {"agents": 3, "length": 5, "rewards": "list", "flags": "each"}


class Uneven(Crossing):
    def __init__(self) -> None:
        super().__init__()
        assert isinstance(self.observation_space, spaces.Tuple)
        self.observation_space = spaces.Tuple(list(self.observation_space)[:2])


class Short(Crossing):
    def step(self, action: Any) -> Any:
        observed, rewards, *rest = super().step(action)
        return observed, rewards[:2], *rest


class FourValues(Crossing):
    """Steps as environments of gym before 0.26 do."""

    def step(self, action: Any) -> Any:
        observed, rewards, terminated, _, info = super().step(action)
        return observed, rewards, terminated, info


@pytest.mark.parametrize(
    ("make_env", "words"),
    [
        (lambda: make("gymnasium/CartPoel-v1", 1), "did you mean 'gymnasium/CartPole-v1'"),
        (lambda: make("gymnasium/Foragin-8x8-2p-2f", 1), "did you mean 'gymnasium/Foraging-8x8"),
        (lambda: make("gymnasium/numpy:Thing-v0", 1), "unknown task 'gymnasium/numpy:Thing-v0'"),
        (lambda: make("gymnasium/no_such:Thing-v0", 1), r"No module .*: pip install no-such"),
        (lambda: make("gymnasium/CartPole-v1", 1, speed=3), "does not take .*speed"),
        (lambda: Task("gymnasium/CartPole-v1", state=True)(1, CPU), "task.state=True changes"),
        (lambda: PettingZooEnv(Uneven, 1), "expected tuples with one space for each agent"),
        (lambda: PettingZooEnv(FourValues, 1), "else than 5 values; expected observation, rew"),
        (lambda: PettingZooEnv(Short, 1), "there are 2 rewards; expected 3, by agent"),
    ],
)
def test_mistakes_end_in_a_sentence(make_env: Callable[[], Any], words: str) -> None:
    with pytest.raises((UserError, EnvironmentFault), match=words):
        make_env()


@pytest.mark.parametrize(("package", "name"), [("lbforaging", FORAGING), ("rware", WAREHOUSE)])
def test_a_missing_package_says_how_to_install_it(
    package: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec(package):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        monkeypatch.delitem(gymnasium.registry, name, raising=False)
    with pytest.raises(UserError, match=f"needs a package .*: pip install {PACKAGES[package][0]}"):
        make(f"gymnasium/{name}", 1)
