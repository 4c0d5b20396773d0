"""Groups of agents and teams of groups: the defaults that all environments share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from marl.errors import UserError, unknown
from marl.types import ActionSpec, AgentGroup, TensorSpec

Spaces = tuple[TensorSpec, ActionSpec]

# Name prefixes of agents that play against all others of their task.
OPPONENTS = ("adversary", "leadadversary", "eve")
# Kinds that play against each other where a task has agents of these two only: with three colours,
# or predators that hunt what does not learn, names say nothing about teams.
RIVALS = (("agent_blue", "agent_red"), ("blue", "red"), ("prey", "predator"))


def prefix(agent: str) -> str:
    """Returns an agent's name without its number.

    ``adversary_0`` gives ``adversary``, ``agent_blue_2`` ``agent_blue``, ``drone.1`` ``drone``, and
    ``listener`` ``listener``.
    """
    return re.sub(r"[_.-]?\d+$", "", agent) or agent


def find_groups(
    spaces: Mapping[str, Spaces],
    override: Mapping[str, Sequence[str]] | None = None,
    kind: Callable[[str], str] = prefix,
) -> dict[str, AgentGroup]:
    """Returns the groups of agents with the same spaces and kind, by name.

    Args:
        spaces: each agent's observation and action spaces.
        override: group -> agents, in place of these groups; None or empty for none.
        kind: the kind of an agent by its name.

    Raises:
        UserError: an override that names an unknown agent, misses one, or mixes different spaces.
    """
    groups = {k: list(v) for k, v in override.items()} if override else _by_kind(spaces, kind)
    _check_groups(groups, spaces)
    return {
        name: AgentGroup(name, tuple(agents), *spaces[agents[0]]) for name, agents in groups.items()
    }


def find_teams(groups: Mapping[str, AgentGroup]) -> dict[str, tuple[str, ...]]:
    """Returns the groups of each team: one team, or two where a group's agents are opponents by
    name.

    Names count in upper or lower case alike (``OPPONENTS``, ``RIVALS``).
    """
    kinds = {n: {prefix(agent).lower() for agent in g.agents} for n, g in groups.items()}
    all_kinds = frozenset().union(*kinds.values())
    rivals = (pair for pair in RIVALS if all_kinds == set(pair))
    opponents = next(({pair[1]} for pair in rivals), set(OPPONENTS))
    against = tuple(g for g in groups if kinds[g] <= opponents)
    team = tuple(g for g in groups if g not in against)
    if not against or not team:
        return {"team": tuple(groups)}
    return {_team_name(team): team, _team_name(against): against}


def _team_name(groups: tuple[str, ...]) -> str:
    return groups[0] if len(groups) == 1 else "_".join(groups)


def _by_kind(spaces: Mapping[str, Spaces], kind: Callable[[str], str]) -> dict[str, list[str]]:
    """Returns the agents of each kind and spaces, by group name."""
    kinds: dict[tuple[str, Spaces], list[str]] = {}
    for agent, space in spaces.items():
        kinds.setdefault((kind(agent), space), []).append(agent)
    names = [name for name, _ in kinds]
    return {  # agents of one kind but different spaces: named by the first agent
        (name if names.count(name) == 1 else agents[0]): agents
        for (name, _), agents in kinds.items()
    }


def _check_groups(groups: Mapping[str, Sequence[str]], spaces: Mapping[str, Spaces]) -> None:
    """Raises UserError where the groups do not hold each agent once, or mix spaces."""
    names = [agent for agents in groups.values() for agent in agents]
    for agent in names:
        if agent not in spaces:
            raise unknown("agent", agent, spaces, where=" in task.groups")
    missing = [agent for agent in spaces if agent not in names]
    if missing or len(names) != len(set(names)):
        wrong = missing or sorted({agent for agent in names if names.count(agent) > 1})
        raise UserError(f"task.groups must name each agent once; {wrong} is not")
    for name, agents in groups.items():
        if not agents:
            raise UserError(f"task.groups: group {name!r} has no agents; leave it out")
        if len({spaces[agent] for agent in agents}) > 1:
            raise UserError(
                f"task.groups: the agents of {name!r} differ in their spaces, {list(agents)}; put "
                "those with the same spaces into a group"
            )
