"""The PettingZoo adapter: deaths, births, time limits, in hand-known episodes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from marl.env import check_env
from marl.envs.pettingzoo.env import PettingZooEnv
from marl.types import Observation
from tests.helpers.adapted_envs import AB, UNIT, inner, numbers, play, scripted
from tests.helpers.scripted_envs import Step
from tests.helpers.tiny_env import Staggered


def test_a_death_ends_one_agent_and_termination_of_all_the_episode() -> None:
    script = [
        Step(numbers(a_0=0.1, a_1=0.2), ["a_0", "a_1"]),
        Step(numbers(a_0=0.3, a_1=0.4), ["a_0"], {"a_0": 1, "a_1": 2}, terminated=["a_1"]),
        Step(numbers(a_0=0.5), ["a_0"], {"a_0": 3}),
        Step(numbers(a_0=0.7), [], {"a_0": 5}, terminated=["a_0"]),
    ]
    death, after, end = play(scripted(script, AB), 3)

    assert death.next_obs is death.obs
    assert death.obs.groups["a"].obs.tolist() == [[[pytest.approx(0.3)], [0.0]]]
    assert death.obs.groups["a"].alive.tolist() == [[True, False]]
    assert death.reward["a"].tolist() == [[1, 2]]
    assert death.terminated["a"].tolist() == [[False, True]]
    assert after.reward["a"].tolist() == [[3, 0]]
    assert after.terminated["a"].tolist() == [[False, False]]
    assert after.obs.groups["a"].alive.tolist() == [[True, False]]
    assert not death.done.any() and not after.done.any()

    assert (end.done.tolist(), end.truncated["a"].tolist()) == ([True], [[False, False]])
    assert end.terminated["a"].tolist() == [[True, False]]
    assert end.reward["a"].tolist() == [[5, 0]]
    assert end.next_obs.groups["a"].alive.tolist() == [[False, False]]
    assert end.obs.groups["a"].alive.tolist() == [[True, True]]
    assert end.obs.groups["a"].obs.flatten().tolist() == pytest.approx([0.1, 0.2])


def test_a_time_limit_truncates_and_keeps_the_final_observation() -> None:
    script = [
        Step(numbers(a_0=0.1, a_1=0.2), ["a_0", "a_1"]),
        Step(numbers(a_0=0.3, a_1=0.4), [], {"a_0": 1}, truncated=["a_0", "a_1"]),
    ]
    (end,) = play(scripted(script, AB), 1)
    assert (end.done.tolist(), end.truncated["a"].tolist()) == ([True], [[True, True]])
    assert end.terminated["a"].tolist() == [[False, False]]
    assert end.next_obs.groups["a"].obs.flatten().tolist() == pytest.approx([0.3, 0.4])
    assert end.next_obs.groups["a"].alive.all()
    assert end.obs.groups["a"].obs.flatten().tolist() == pytest.approx([0.1, 0.2])


def test_one_agent_dies_while_the_other_is_cut_off() -> None:
    script = [
        Step(numbers(a_0=0.1, a_1=0.2), ["a_0", "a_1"]),
        Step(numbers(a_0=0.3, a_1=0.4), [], terminated=["a_0"], truncated=["a_0", "a_1"]),
    ]
    (end,) = play(scripted(script, AB), 1)
    assert (end.done.tolist(), end.truncated["a"].tolist()) == ([True], [[False, True]])
    assert end.terminated["a"].tolist() == [[True, False]]
    assert end.next_obs.groups["a"].alive.tolist() == [[False, True]]
    assert end.next_obs.groups["a"].obs.flatten().tolist() == pytest.approx([0.0, 0.4])


def test_one_agent_truncated_alone_shows_its_last_observation_as_the_successor() -> None:
    script = [
        Step(numbers(a_0=0.1, a_1=0.2), ["a_0", "a_1"]),
        Step(numbers(a_0=0.3, a_1=0.4), ["a_0"], {"a_0": 1, "a_1": 2}, truncated=["a_1"]),
        Step(numbers(a_0=0.5), ["a_0"]),
    ]
    step, after = play(scripted(script, AB), 2)
    assert not step.done.any() and not step.terminated["a"].any()
    assert step.truncated["a"].tolist() == [[False, True]]
    assert step.reward["a"].tolist() == [[1, 2]]
    assert step.next_obs.groups["a"].obs.flatten().tolist() == pytest.approx([0.3, 0.4])
    assert step.next_obs.groups["a"].alive.all()
    assert step.obs.groups["a"].obs.flatten().tolist() == pytest.approx([0.3, 0.0])
    assert step.obs.groups["a"].alive.tolist() == [[True, False]]
    assert after.next_obs is after.obs and not after.truncated["a"].any()


def alive(obs: Observation) -> torch.Tensor:
    found = obs.groups["a"].alive
    assert found is not None
    return found


def test_a_limit_of_ones_own_touches_no_other_copy() -> None:
    """Every copy's a_1 has another one."""
    limits = itertools.count(5)

    def make() -> Staggered:
        env = Staggered()
        env.limits = {"a_0": 20, "a_1": next(limits)}
        return env

    env = PettingZooEnv(make, 2)
    check_env(env, steps=30)
    obs = env.reset(0)
    cuts = []
    for _ in range(9):
        step = env.step({"a": torch.zeros(2, 2, dtype=torch.int64)})
        for copy in range(2):
            cut = bool(step.truncated["a"][copy].any())
            cuts.append(cut)
            last, now, before = (alive(o)[copy] for o in (step.next_obs, step.obs, obs))
            assert last.all() if cut else torch.equal(last, now)
            assert not (step.truncated["a"][copy] & ~before).any()
        obs = step.obs
    assert sum(cuts) == 2


def test_what_an_agent_is_paid_after_it_left_is_passed_on() -> None:
    script = [
        Step(numbers(a_0=0.1, a_1=0.2), ["a_0", "a_1"]),
        Step(numbers(a_0=0.3, a_1=0.4), ["a_0"], terminated=["a_1"]),
        Step(numbers(a_0=0.5), [], {"a_0": 1, "a_1": 3}, truncated=["a_0"], also=["a_1"]),
    ]
    end = play(scripted(script, AB), 2)[1]
    assert end.reward["a"].tolist() == [[1, 3]]
    assert (end.terminated["a"] | end.truncated["a"]).tolist() == [[True, False]]


@pytest.mark.parametrize("word", ["terminated", "truncated"])
def test_rllibs_word_for_all_agents(word: str) -> None:
    """It speaks for those that are not told apart: a_1 died, or was cut off, by itself."""
    other = "truncated" if word == "terminated" else "terminated"
    ends: dict[str, Any] = {word: ["__all__"], other: ["a_1"]}
    script = [
        Step(numbers(a_0=0.1, a_1=0.2), ["a_0", "a_1"]),
        Step(numbers(a_0=0.3, a_1=0.4), ["a_0", "a_1"], also=["__all__"], **ends),
    ]
    (end,) = play(scripted(script, AB), 1)
    assert end.done.all()
    assert getattr(end, word)["a"].tolist() == [[True, False]]
    assert getattr(end, other)["a"].tolist() == [[False, True]]


def test_agents_that_stay_listed_after_their_end_end_the_episode() -> None:
    script = [
        Step(numbers(a_0=0.1, a_1=0.2), ["a_0", "a_1"]),
        Step(numbers(a_0=0.3, a_1=0.4), ["a_0", "a_1"], terminated=["a_0", "a_1"]),
    ]
    env = scripted(script, AB)
    (end,) = play(env, 1)
    assert end.done.all() and not end.truncated["a"].any()
    assert inner(env).seeds == [0, None]


def test_an_agent_that_appears() -> None:
    script = [
        Step(numbers(a_0=0.1), ["a_0"]),
        Step(numbers(a_0=0.3, a_1=0.4), ["a_0", "a_1"], {"a_0": 1, "a_1": 9}),
        Step(numbers(a_0=0.5, a_1=0.6), ["a_1"], {"a_0": 1, "a_1": 2}, terminated=["a_0"]),
    ]
    env = scripted(script, AB)
    first = env.reset(0)
    assert first.groups["a"].alive is not None
    assert first.groups["a"].alive.tolist() == [[True, False]]
    born, then = play(env, 2)
    assert born.obs.groups["a"].alive.tolist() == [[True, True]]
    assert born.reward["a"].tolist() == [[1, 9]]  # it counts for a team only
    assert then.reward["a"].tolist() == [[1, 2]]
    assert then.terminated["a"].tolist() == [[True, False]]


def test_own_time_limit_resets_and_truncates() -> None:
    script = [Step(numbers(a_0=i / 10), ["a_0"], {"a_0": i}) for i in range(40)]
    env = scripted(script, {"a_0": UNIT}, max_steps=2)
    steps = play(env, 4)
    assert [bool(s.done) for s in steps] == [False, True, False, True]
    assert [bool(s.truncated["a"]) for s in steps] == [False, True, False, True]
    assert steps[1].next_obs.groups["a"].obs.item() == pytest.approx(0.2)
    assert steps[1].obs.groups["a"].obs.item() == 0
    assert inner(env).seeds == [0, None, None]  # later episodes go on with the copy's own numbers


def test_immortal_groups_have_no_alive_and_show_the_final_observation() -> None:
    script = [
        Step(numbers(a_0=0.1, a_1=0.2), ["a_0", "a_1"]),
        Step(numbers(a_0=0.3, a_1=0.4), [], terminated=["a_0", "a_1"]),
    ]
    (end,) = play(scripted(script, AB, mortal=False), 1)
    assert end.next_obs.groups["a"].alive is None
    assert end.next_obs.groups["a"].obs.flatten().tolist() == pytest.approx([0.3, 0.4])


def test_an_absence_where_agents_were_declared_immortal_raises() -> None:
    script = [
        Step(numbers(a_0=0.1, a_1=0.2), ["a_0", "a_1"]),
        Step(numbers(a_0=0.3, a_1=0.4), ["a_0"], terminated=["a_1"]),
    ]
    with pytest.raises(RuntimeError, match=r"agent 'a_1' is absent .* mortal=False"):
        play(scripted(script, AB, mortal=False), 1)
