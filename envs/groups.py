"""Agents into groups, groups into teams: the defaults that every adapter shares."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from marl.errors import UserError, unknown
from marl.types import ActionSpec, AgentGroup, TensorSpec

Spaces = tuple[TensorSpec, ActionSpec]

# Name prefixes of agents that play against everyone else of their task.
OPPONENTS = ("adversary", "leadadversary", "eve")
# Kinds that play against each other where a task has agents of these two alone: of three colours,
# or of predators that hunt what does not learn, names tell nothing.
RIVALS = (("agent_blue", "agent_red"), ("blue", "red"), ("prey", "predator"))


def prefix(agent: str) -> str:
    """``adversary_0`` -> ``adversary``; ``agent_blue_2`` -> ``agent_blue``; ``drone.1`` ->
    ``drone``; ``listener`` -> ``listener``."""
    return re.sub(r"[_.-]?\d+$", "", agent) or agent


def find_groups(
    spaces: Mapping[str, Spaces],
    override: Mapping[str, Sequence[str]] | None = None,
    kind: Callable[[str], str] = prefix,
) -> dict[str, AgentGroup]:
    """Groups of agents with the same spaces and ``kind``, or those of ``override`` (group ->
    agents).

    Raises:
        UserError: an override that names an unknown agent, misses one, or mixes different spaces.
    """
    members = {k: list(v) for k, v in override.items()} if override else _by_kind(spaces, kind)
    _check_members(members, spaces)
    return {
        name: AgentGroup(name, tuple(agents), *spaces[agents[0]])
        for name, agents in members.items()
    }


def find_teams(groups: Mapping[str, AgentGroup]) -> dict[str, tuple[str, ...]]:
    """One team of all groups, or two where all of a group's agents are known opponents by name,
    in upper or lower case."""
    kinds = {n: {prefix(agent).lower() for agent in g.agents} for n, g in groups.items()}
    every = frozenset().union(*kinds.values())
    opponents = next(({rival} for one, rival in RIVALS if every == {one, rival}), set(OPPONENTS))
    against = tuple(g for g in groups if kinds[g] <= opponents)
    others = tuple(g for g in groups if g not in against)
    if not against or not others:
        return {"team": tuple(groups)}
    return {_team_name(others): others, _team_name(against): against}


def _team_name(groups: tuple[str, ...]) -> str:
    return groups[0] if len(groups) == 1 else "_".join(groups)


def _by_kind(spaces: Mapping[str, Spaces], kind: Callable[[str], str]) -> dict[str, list[str]]:
    kinds: dict[tuple[str, Spaces], list[str]] = {}
    for agent, space in spaces.items():
        kinds.setdefault((kind(agent), space), []).append(agent)
    names = [name for name, _ in kinds]
    return {  # agents of one kind but different spaces are told apart by their first member
        (name if names.count(name) == 1 else agents[0]): agents
        for (name, _), agents in kinds.items()
    }


def _check_members(members: Mapping[str, Sequence[str]], spaces: Mapping[str, Spaces]) -> None:
    named = [agent for agents in members.values() for agent in agents]
    for agent in named:
        if agent not in spaces:
            raise unknown("agent", agent, spaces, where=" in task.groups")
    missing = [agent for agent in spaces if agent not in named]
    if missing or len(named) != len(set(named)):
        raise UserError(f"task.groups must name each agent once; {missing or named} is not")
    for name, agents in members.items():
        if not agents:
            raise UserError(f"task.groups: group {name!r} has no agents")
        if len({spaces[agent] for agent in agents}) > 1:
            raise UserError(
                f"task.groups: the agents of {name!r} differ in their spaces: {list(agents)}"
            )
