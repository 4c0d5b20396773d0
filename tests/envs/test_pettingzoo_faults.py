"""What an environment in Python must not give is refused in the step that brings it, by name; what
it tells late is recorded."""

from __future__ import annotations

import functools
import random
import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from marl.envs.pettingzoo.env import PettingZooEnv
from marl.envs.pettingzoo.probe import probe
from marl.envs.pettingzoo.randomness import Streams
from marl.envs.pettingzoo.seeds import ignores_seed
from marl.errors import EnvironmentFault, UserError
from tests.helpers.faulty_envs import (
    INF,
    NAN,
    Blocked,
    Faulty,
    FourValues,
    GlobalNumpy,
    LateInfo,
    ListOfRewards,
    Silent,
    Unpaid,
    Unseeded,
)
from tests.helpers.tiny_env import Tiny


def steps(env: PettingZooEnv, count: int) -> None:
    env.reset(0)
    for _ in range(count):
        env.step({"a": torch.zeros(4, 2, dtype=torch.int64)})


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
def test_what_is_no_number_is_named(what: str, value: float, when: int, words: str) -> None:
    env = PettingZooEnv(functools.partial(Faulty, what, value, when), 4, state=True)
    with pytest.raises(EnvironmentFault, match=re.escape(words)):
        steps(env, 5)


def test_a_worker_says_it_in_one_sentence() -> None:
    env = PettingZooEnv(functools.partial(Faulty, "reward"), 4, workers=2)
    words = "in step 3 of an episode of copy 3, agent 'a_1' was paid nan; expected a finite number"
    with pytest.raises(EnvironmentFault) as error:
        steps(env, 5)
    assert str(error.value) == words
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


def test_a_missing_last_observation_is_named() -> None:
    with pytest.raises(EnvironmentFault, match=r"step 1 of .* copy 0, agent 'a_1' has no obs"):
        steps(PettingZooEnv(Silent, 4), 1)


# ------------------------------------------------------------------------------------------ metrics


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


class LateMask(Tiny):
    """Masks appear in the 40th step only, later than anyone looks for them beforehand."""

    length = 60

    def step(self, actions: dict) -> Any:
        *rest, infos = super().step(actions)
        mask = np.array([0, 1], np.int8)
        return *rest, {a: {"action_mask": mask} if self.t >= 40 else {} for a in infos}


def test_a_mask_that_comes_late_is_not_ignored() -> None:
    words = "in step 40 of an episode of copy 0, agent 'a_0' has an action mask, and none of its"
    with pytest.raises(EnvironmentFault, match=words):
        steps(PettingZooEnv(LateMask, 4), 45)


class Words(Tiny):
    def reward(self, agent: Any, action: Any) -> Any:
        return "much" if agent == "a_1" else 1.0


def test_a_reward_that_is_not_one_number_is_named() -> None:
    words = r"in step 1 of an episode of copy 0, agent 'a_1' was paid 'much'; expected one"
    with pytest.raises(EnvironmentFault, match=words):
        steps(PettingZooEnv(Words, 4), 1)


# ---------------------------------------------------------------------------------------- the probe


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (FourValues, r"step\(\) of .* returned 4 values; expected 5, each a dict by agent: obs"),
        (ListOfRewards, r"step\(\) of .* returned rewards as a list; expected a dict by agent"),
        (Unpaid, "gave no reward to agent 'a_1', which acted; step"),
    ],
)
def test_the_probe_refuses_in_a_sentence(make: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        PettingZooEnv(make, 4)


def test_a_seed_that_reset_ignores_is_warned_of() -> None:
    """The process's own random numbers stay where they were."""
    with pytest.warns(UserWarning, match="two resets of the environment with the same seed"):
        PettingZooEnv(Unseeded, 1)
    streams, before = Streams([0], seed=0), (random.getstate(), torch.get_rng_state())
    with streams.installed(0):
        assert ignores_seed(Unseeded(), streams)
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])
    for make in (Tiny, GlobalNumpy):
        assert not probe(make, False).ignores_seed
