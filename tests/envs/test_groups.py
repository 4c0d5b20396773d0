"""Which team an agent's name puts it into."""

from __future__ import annotations

import pytest

from marl.envs.groups import find_groups, find_teams
from marl.types import Discrete, TensorSpec

SPACES = (TensorSpec((2,)), Discrete(2))


def teams(*agents: str, **groups: list[str]) -> dict[str, set[str]]:
    """Team -> its agents."""
    found = find_groups(dict.fromkeys(agents, SPACES), groups or None)
    split = find_teams(found)
    return {
        team: {a for name in names for a in found[name].agents} for team, names in split.items()
    }


@pytest.mark.parametrize(
    ("others", "against"),
    [
        (["agent_0", "agent_1"], ["adversary_0"]),
        (["Agent_0"], ["ADVERSARY_0"]),
        (["agent_0"], ["adversary_0", "leadadversary_0"]),
        (["bob_0", "alice_0"], ["eve_0"]),
        (["blue_0", "blue_1"], ["red_0", "red_1"]),
        (["Blue_0"], ["Red_0"]),
        (["agent_blue_0"], ["agent_red_0"]),
        (["prey_0"], ["predator_0", "predator_1"]),
    ],
)
def test_opponents_are_two_teams(others: list[str], against: list[str]) -> None:
    for agents in ([*others, *against], [*against, *others]):
        assert list(teams(*agents).values()) == [set(others), set(against)]


@pytest.mark.parametrize(
    "agents",
    [
        ["red_0", "green_0", "blue_0"],
        ["red_0", "red_1"],
        ["blue_0", "agent_red_0"],
        ["red_0", "helper_0"],
        ["predator_0", "predator_1"],
        ["predator_0", "prey_0", "ranger_0"],
        ["adversary_0", "adversary_1"],
        ["player_0", "player_1"],
    ],
)
def test_others_are_one_team(agents: list[str]) -> None:
    assert teams(*agents) == {"team": set(agents)}


def test_a_group_of_both_kinds_is_no_opponent() -> None:
    both = ["blue_0", "red_0"]
    assert teams(*both, mixed=["red_0", "blue_0"]) == {"team": set(both)}
    assert teams(*both, home=["blue_0"], guests=["red_0"]) == {
        "home": {"blue_0"},
        "guests": {"red_0"},
    }
