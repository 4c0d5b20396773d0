"""What an environment in Python must not give is refused in the step that brings it, by name; what
it tells late is recorded."""

from __future__ import annotations

import functools
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from envs.pettingzoo.env import PettingZooEnv
from marl.errors import EnvironmentFault
from tests.tiny import Tiny

NAN, INF = float("nan"), float("inf")


class Faulty(Tiny):
    """In step ``when`` of the copy seeded with ``where``, ``what`` of a_1 is ``value``."""

    where, state_value = 6, 0.0  # the last of four copies

    def __init__(self, what: str, value: float = NAN, when: int = 3) -> None:
        super().__init__()
        self.what, self.value, self.when = what, value, when

    def now(self, what: str, agent: Any = "a_1") -> bool:
        return (what, agent) == (self.what, "a_1") and self.mine and self.t == self.when

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        self.mine = seed == self.where if seed is not None else self.mine
        return super().reset(seed)

    def observe(self, agent: Any) -> Any:
        return np.array([0.0, self.value if self.now("observation", agent) else 0.0])

    def reward(self, agent: Any, action: Any) -> float:
        return self.value if self.now("reward", agent) else 1.0

    def state(self) -> np.ndarray:
        return np.array([self.value if self.now("state") else 0.0])

    def step(self, actions: dict) -> Any:
        *rest, infos = super().step(actions)
        return *rest, {**infos, "a_1": {"hits": self.value if self.now("info") else 1.0}}


def steps(env: PettingZooEnv, count: int) -> None:
    env.reset(0)
    for _ in range(count):
        env.step({"a": torch.zeros(4, 2, dtype=torch.int64)})


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("what", "value", "when", "words"),
    [
        ("reward", NAN, 3, "in step 3 of an episode of copy 3, agent 'a_1' was paid nan"),
        ("reward", -INF, 5, "in step 5 of an episode of copy 3, agent 'a_1' was paid -inf"),
        ("observation", INF, 3, "in step 3 of an episode of copy 3, agent 'a_1' observes inf at"),
        ("observation", NAN, 5, "in step 5 of an episode of copy 3, agent 'a_1' observes nan at"),
        ("observation", NAN, 0, "at the start of an episode of copy 3, agent 'a_1' observes nan"),
        ("state", NAN, 2, "in step 2 of an episode of copy 3, the state is nan at [0]"),
        ("info", INF, 2, "in step 2 of an episode of copy 3, the info of agent 'a_1' holds hits="),
    ],
)
def test_what_is_no_number_is_named(
    what: str, value: float, when: int, words: str, workers: int
) -> None:
    make = functools.partial(Faulty, what, value, when)
    env = PettingZooEnv(make, 4, state=True, workers=workers)
    with pytest.raises(EnvironmentFault, match=re.escape(words)) as error:
        steps(env, 5)
    assert "Traceback" not in str(error.value) and "\n" not in str(error.value)
    env.close()


def test_the_first_observation_of_a_later_episode() -> None:
    """Step 5 ends the first episode, and the second begins with what is no number."""
    make = functools.partial(Faulty, "observation", NAN, 0)
    env = PettingZooEnv(make, 4)
    env.reset(100)  # where copy 3 has another seed
    env._runner._envs[3].mine = True  # type: ignore[attr-defined]  # the copies are of this process
    with pytest.raises(EnvironmentFault, match="at the start of an episode of copy 3"):
        for _ in range(5):
            env.step({"a": torch.zeros(4, 2, dtype=torch.int64)})


class Silent(Tiny):
    """a_1 is truncated, and its last observation is not told."""

    def step(self, actions: dict) -> Any:
        observations, rewards, died, cut, infos = super().step(actions)
        self.agents = [a for a in self.agents if a != "a_1"]
        return {"a_0": observations["a_0"]}, rewards, died, {**cut, "a_1": True}, infos


def test_a_missing_last_observation_is_named() -> None:
    with pytest.raises(EnvironmentFault, match=r"step 1 of .* copy 0, agent 'a_1' has no obs"):
        steps(PettingZooEnv(Silent, 4), 1)


# ------------------------------------------------------------------------------------------ metrics


class LateInfo(Tiny):
    """``won`` is told in an episode's last step only; by the copies of odd episodes only."""

    length, episode = 40, 0

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        self.episode = 0 if seed is not None else self.episode + 1
        return super().reset(seed)

    def step(self, actions: dict) -> Any:
        *rest, infos = super().step(actions)
        won = not self.agents and self.episode % 2 == 1
        return *rest, {a: {"won": 2.0, "steps": 1} if won else {"steps": 1} for a in infos}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_metric_that_appears_late_is_recorded(workers: int) -> None:
    env = PettingZooEnv(LateInfo, 3, workers=workers)
    env.reset(0)
    ends = []
    for _ in range(3 * LateInfo.length):
        step = env.step({"a": torch.zeros(3, 2, dtype=torch.int64)})
        if step.done.any():
            ends.append({name: value.tolist() for name, value in step.info.items()})
    env.close()
    lengths = {"steps": [40.0] * 3}
    assert ends == [lengths, {**lengths, "won": [2.0] * 3}, {**lengths, "won": [0.0] * 3}]


# -------------------------------------------------------------------------------------------- masks


class Blocked(Tiny):
    """From its third step on nothing is allowed."""

    def observation_space(self, agent: Any) -> spaces.Space:
        mask = spaces.MultiBinary(2)
        return spaces.Dict({"observation": super().observation_space(agent), "action_mask": mask})

    def observe(self, agent: Any) -> Any:
        allowed = np.full(2, self.t < 3, np.int8)
        return {"observation": np.zeros(2, np.float32), "action_mask": allowed}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mask_that_allows_nothing_is_told_once(workers: int) -> None:
    env = PettingZooEnv(Blocked, 4, workers=workers)
    with pytest.warns(UserWarning) as caught:
        steps(env, 12)
    env.close()
    assert len(caught) == 1
    words = "in step 3 of an episode of copy 0, the action mask of agent 'a_0' allows nothing"
    assert str(caught[0].message).startswith(words)


def test_a_mask_at_the_end_of_an_episode_says_nothing() -> None:
    """Nobody acts there."""
    Ended = type("Ended", (Blocked,), {"length": 3})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps(PettingZooEnv(Ended, 4), 12)
