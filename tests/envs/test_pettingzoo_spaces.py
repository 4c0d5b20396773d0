"""The PettingZoo adapter: spaces, masks and infos, in hand-known episodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple

from marl.envs.pettingzoo.conversion import decode, encode
from marl.envs.pettingzoo.env import PettingZooEnv
from marl.errors import EnvironmentFault, UserError
from marl.types import Continuous, TensorSpec
from marl.types import Discrete as DiscreteSpec
from marl.types import MultiDiscrete as MultiDiscreteSpec
from tests.helpers.adapted_envs import AB, UNIT, inner, numbers, play, scripted
from tests.helpers.scripted_envs import Counting, Step


def test_different_agents_make_different_groups_and_opponents_a_team() -> None:
    observes = {
        "adversary_0": Box(0, 1, (3,)),
        "agent_0": Box(0, 1, (2,)),
        "agent_1": Box(0, 1, (2,)),
    }
    acts = {
        "adversary_0": Box(-1, 2, (2,), np.float64),
        "agent_0": Discrete(5, start=3),
        "agent_1": Discrete(5, start=3),
    }
    obs = {"adversary_0": [1, 2, 3], "agent_0": [4, 5], "agent_1": [6, 7]}
    env = scripted([Step(obs, list(obs))], observes, acts)
    assert env.groups["adversary"].action == Continuous((-1.0, -1.0), (2.0, 2.0))
    assert env.groups["agent"].action == DiscreteSpec(5)
    assert env.groups["agent"].agents == ("agent_0", "agent_1")
    assert dict(env.teams) == {"agent": ("agent",), "adversary": ("adversary",)}
    seen = env.reset(0)
    assert seen.groups["adversary"].obs.tolist() == [[[1, 2, 3]]]
    assert seen.groups["agent"].obs.tolist() == [[[4, 5], [6, 7]]]
    env.step(
        {"agent": torch.tensor([[0, 4]]), "adversary": torch.tensor([[[-9.0, 0.1]]])},
    )
    taken = inner(env).taken[0]
    assert (taken["agent_0"], taken["agent_1"]) == (3, 7)  # from `start` on
    assert taken["adversary_0"].dtype == np.float64
    assert taken["adversary_0"].tolist() == pytest.approx([-1, 0.1])  # clipped
    with pytest.raises(UserError, match="unknown agent 'agent_7'"):
        scripted([Step(obs, list(obs))], observes, acts, groups={"all": ["agent_7"]})


@pytest.mark.parametrize(
    ("space", "value", "spec", "expected"),
    [
        (Discrete(3, start=1), 2, (3,), [0, 1, 0]),
        (MultiDiscrete([2, 3]), np.array([1, 2]), (5,), [0, 1, 0, 0, 1]),
        (MultiDiscrete(np.array([[2], [2]])), np.array([[1], [0]]), (4,), [0, 1, 1, 0]),
        (MultiBinary(3), np.array([1, 0, 1]), (3,), [1, 0, 1]),
        (Box(0, 9, (2, 2), np.int64), np.array([[1, 2], [3, 4]]), (2, 2), [[1, 2], [3, 4]]),
        (Box(0, 9, (), np.float64), 5.0, (1,), [5]),
        (
            Dict({"x": Box(0, 1, (1, 2)), "y": Discrete(2)}),
            {"x": np.array([[3, 4]]), "y": 1},
            (4,),
            [3, 4, 0, 1],
        ),
        (Tuple([Discrete(2), Tuple([MultiBinary(1)])]), (0, ([1],)), (3,), [1, 0, 1]),
    ],
)
def test_observations_as_numbers(space: Any, value: Any, spec: Any, expected: Any) -> None:
    env = scripted([Step({"a": value}, ["a"])], {"a": space})
    assert env.groups["a"].observation == TensorSpec(spec)
    assert env.reset(0).groups["a"].obs.tolist() == [[expected]]
    assert encode(space, value).tolist() == expected  # as programs with a trained policy do


@pytest.mark.parametrize(
    ("space", "action", "expected"),
    [
        (Discrete(5, start=3), np.int64(4), 7),
        (
            MultiDiscrete(np.array([[2], [3]]), start=np.array([[1], [0]])),
            np.array([1, 2]),
            [[2], [2]],
        ),
        (MultiBinary((1, 2)), np.array([1, 0]), [[1, 0]]),
        (Box(-1, 2, (1, 2), np.float64), np.array([-9, 0.5], np.float32), [[-1, 0.5]]),
    ],
)
def test_actions_of_a_policy_in_an_environments_space(
    space: Any, action: Any, expected: Any
) -> None:
    decoded = decode(space, action)
    assert np.asarray(decoded).tolist() == expected and space.contains(decoded)


@pytest.mark.parametrize(
    ("space", "value"),
    [
        (Discrete(3), -1),
        (Discrete(3), 3),
        (Discrete(3, start=1), 0),
        (Discrete(3), 0.5),
        (MultiDiscrete([3, 3]), [-1, 1]),
        (MultiDiscrete([3, 3]), [3, 1]),
        (MultiDiscrete([3, 3]), [1]),
        (MultiBinary(2), [0, 2]),
        (MultiBinary(2), [0, float("nan")]),
    ],
)
@pytest.mark.parametrize("where", ["alone", "in a Dict", "in a Tuple"])
def test_integers_outside_of_their_space_are_refused(space: Any, value: Any, where: str) -> None:
    whole, wrong = space, value
    if where == "in a Dict":
        whole, wrong = Dict({"x": UNIT, "y": space}), {"x": [0.5], "y": value}
    if where == "in a Tuple":
        whole, wrong = Tuple([Tuple([space])]), ((value,),)
    script = [Step({"a": whole.sample()}, ["a"]), Step({"a": wrong}, ["a"])]
    env = scripted(script, {"a": whole})
    found = f"observes {np.asarray(value).tolist()}, which is outside of its space {space}"
    words = f"in step 1 of an episode of copy 0, agent 'a' {found}"
    with pytest.raises(EnvironmentFault, match=re.escape(words)):
        play(env, 1)


@pytest.mark.parametrize(
    ("shape", "given", "fits"),
    [
        ((4,), (5,), False),
        ((4,), (3,), False),
        ((2, 3), (3, 2), False),  # as many entries, in another order
        ((2, 3), (6,), True),
        ((4,), (4, 1), True),
        ((), (1,), True),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_observations_of_another_shape_are_refused(
    shape: tuple[int, ...], given: tuple[int, ...], fits: bool, inside: bool
) -> None:
    space, value = Box(0, 1, shape), np.ones(given, np.float32)
    whole: Any = Dict({"x": UNIT, "y": space}) if inside else space
    wrong = {"x": [0.5], "y": value} if inside else value
    env = scripted([Step({"a": whole.sample()}, ["a"]), Step({"a": wrong}, ["a"])], {"a": whole})
    if fits:
        play(env, 1)
        return
    words = (
        f"in step 1 of an episode of copy 0, agent 'a' observes an array of shape {given}, which "
        f"is not that of its space {space}"
    )
    with pytest.raises(EnvironmentFault, match=re.escape(words)):
        play(env, 1)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_images_stay_bytes(shape: tuple[int, ...]) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    env = scripted([Step({"a": image}, ["a"])], {"a": Box(0, 255, shape, np.uint8)})
    assert env.groups["a"].observation == TensorSpec((*shape, 1)[:3], torch.uint8)
    seen = env.reset(0).groups["a"].obs
    assert seen.dtype == torch.uint8
    assert np.array_equal(seen.numpy()[0, 0].reshape(shape), image)


def test_multidiscrete_actions() -> None:
    space = MultiDiscrete([2, 3], start=[0, 5])
    env = scripted([Step(numbers(a_0=0), ["a_0"])], {"a_0": UNIT}, {"a_0": space})
    assert env.groups["a"].action == MultiDiscreteSpec((2, 3))
    env.reset(0)
    env.step({"a": torch.tensor([[[1, 2]]])})
    assert inner(env).taken[0]["a_0"].tolist() == [1, 7]
    assert inner(env).taken[0]["a_0"] in space


def test_actions_are_given_as_fresh_arrays() -> None:
    acts = {"a_0": Box(-1, 1, (1,))}
    env = scripted([Step(numbers(a_0=0), ["a_0"])], {"a_0": UNIT}, acts)
    env.reset(0)
    for value in (0.25, 0.75):  # an environment may keep what it was given
        env.step({"a": torch.full((1, 1, 1), value)})
    assert [taken["a_0"].item() for taken in inner(env).taken] == [0.25, 0.75]


MASKED = {agent: Dict({"observation": UNIT, "action_mask": MultiBinary(3)}) for agent in AB}


def with_mask(value: float, mask: Sequence[int]) -> dict[str, Any]:
    return {"observation": [value], "action_mask": np.array(mask, dtype=np.int8)}


def test_masks_in_observations_of_the_living_and_the_dead() -> None:
    both = {"a_0": with_mask(0.1, [0, 1, 0]), "a_1": with_mask(0.2, [0, 0, 0])}
    script = [
        Step(both, ["a_0", "a_1"]),
        Step(both, ["a_0"], terminated=["a_1"]),
        Step(both, [], terminated=["a_0"]),
    ]
    env = scripted(script, MASKED)
    warning = "at the start of an episode of copy 0, the action mask of agent 'a_1' allows nothing"
    with pytest.warns(UserWarning, match=warning):
        env.reset(0)
    assert env.groups["a"].masked and env.groups["a"].observation == TensorSpec((1,))
    first = env.reset(0).groups["a"]
    assert first.action_mask is not None
    # Nothing allowed would make a softmax fail, so it means everything.
    assert first.action_mask.tolist() == [[[False, True, False], [True, True, True]]]
    assert first.obs.flatten().tolist() == pytest.approx([0.1, 0.2])
    (death,) = play(env, 1, value=1)
    assert death.obs.groups["a"].action_mask.tolist() == [[[False, True, False], [True] * 3]]


def test_masks_in_infos_and_of_several_choices() -> None:
    info = {"a_0": {"action_mask": (np.array([1, 0]), np.array([0, 0, 1])), "bonus": 2}}
    script = [Step(numbers(a_0=0), ["a_0"], info=info)]
    env = scripted(script, {"a_0": UNIT}, {"a_0": MultiDiscrete([2, 3])})
    mask = env.reset(0).groups["a"].action_mask
    assert mask is not None
    assert mask.tolist() == [[[True, False, False, False, True]]]
    assert list(env.step({"a": torch.tensor([[[0, 2]]])}).info) == ["bonus"]


def test_infos_are_means_over_agents_and_sums_over_the_episode() -> None:
    def told(x: float, y: float, **other: Any) -> Mapping[str, Any]:
        return {"a_0": {"hits": np.float32(x), "name": "text", **other}, "a_1": {"hits": y}}

    script = [
        Step(numbers(a_0=0.1, a_1=0.2), ["a_0", "a_1"]),
        Step(numbers(a_0=0.1, a_1=0.2), ["a_0", "a_1"], info=told(1, 2)),
        Step(numbers(a_0=0.1, a_1=0.2), [], truncated=["a_0", "a_1"], info=told(4, 4, won=True)),
    ]
    steps = play(scripted(script, AB), 4)
    assert list(steps[0].info) == ["hits", "won"]
    for end in (steps[1], steps[3]):
        assert (end.info["hits"].item(), end.info["won"].item()) == (5.5, 1.0)


@pytest.mark.parametrize(
    ("observes", "acts", "words"),
    [
        (Text(5), Discrete(2), "agent 'a' observes Text"),
        (UNIT, Box(-np.inf, np.inf, (2,)), "agent 'a' acts in Box.*no bounds"),
        (UNIT, Text(5), "agent 'a' acts in Text"),
        (UNIT, Box(0, 9, (2,), np.int64), "agent 'a' acts in Box.*floats"),
    ],
)
def test_spaces_that_cannot_be_used(observes: Any, acts: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        scripted([Step({}, ["a"])], {"a": observes}, {"a": acts})


def test_actions_out_of_range_name_the_group_and_those_of_the_dead_do_not_matter() -> None:
    script = [Step(numbers(a_0=0), ["a_0"])]
    env = scripted(script, AB)
    env.reset(0)
    env.step({"a": torch.tensor([[2, -7]])})
    for wrong in (3, -1):
        with pytest.raises(ValueError, match="group 'a': an action is outside of Discrete"):
            env.step({"a": torch.tensor([[wrong, 0]])})
    env = scripted(script, AB, {agent: Box(-1, 1, (1,)) for agent in AB})
    env.reset(0)
    with pytest.raises(ValueError, match="not a number"):
        env.step({"a": torch.tensor([[[np.nan], [0]]])})


def test_step_before_reset() -> None:
    env = scripted([Step(numbers(a_0=0), ["a_0"])], {"a_0": UNIT})
    with pytest.raises(RuntimeError, match="before reset"):
        env.step({"a": torch.tensor([[0]])})


def test_returned_tensors_stay_as_they_were() -> None:
    env = PettingZooEnv(Counting, 2)
    first = env.reset(0)
    before = first.groups["agent"].obs.clone()
    env.step({"agent": torch.ones(2, 2, dtype=torch.int64)})
    assert torch.equal(first.groups["agent"].obs, before)
