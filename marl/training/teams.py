"""Who learns together, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from marl.env import VectorEnv
from marl.errors import UserError, unknown


@dataclass
class Team:
    """Groups of agents that learn together. What is None is the run's own, or the environment's
    grouping."""

    groups: list[str] | None = None
    algorithm: Any = None  # an AlgorithmConfig
    model: Any = None  # a Model, of the policies
    critic_model: Any = None  # a Model, of the critics


@dataclass(frozen=True)
class RunShape:
    """How much a run collects and how often it learns: what schedules and memories depend on."""

    num_envs: int = 1
    steps: int = 1
    iterations: int = 1


def resolve_teams(
    env: VectorEnv, wanted: Mapping[str, Team | None], default: Team
) -> dict[str, Team]:
    """Every team with its groups, algorithm and models, from the environment's own teams and
    ``wanted``.

    Raises:
        UserError: an unknown team or group, a group in two teams, or a team without an algorithm.
    """
    teams = {name: list(groups) for name, groups in env.teams.items()}
    _check_disjoint(wanted)
    for name, team in wanted.items():
        if team is not None and team.groups is not None:
            _claim(teams, name, team.groups, env)
        elif name not in teams:
            raise unknown("team", name, teams, where=" without groups")
    given = {name: wanted.get(name) or Team() for name in teams}
    resolved = {
        name: replace(_filled(given[name], default), groups=[g for g in env.groups if g in groups])
        for name, groups in teams.items()
        if groups
    }
    for name, team in resolved.items():
        if team.algorithm is None:
            raise UserError(f"team {name!r} has no algorithm; set teams.{name}.algorithm=NAME")
    return resolved


def _check_disjoint(wanted: Mapping[str, Team | None]) -> None:
    owner: dict[str, str] = {}
    for name, team in wanted.items():
        for group in (team.groups if team else None) or []:
            if group in owner:
                raise UserError(f"group {group!r} is in two teams, {owner[group]!r} and {name!r}")
            owner[group] = name


def _claim(teams: dict[str, list[str]], name: str, groups: list[str], env: VectorEnv) -> None:
    for group in groups:
        if group not in env.groups:
            raise unknown("group", group, env.groups, where=f" in teams.{name}")
    if not groups:
        raise UserError(f"teams.{name} has no groups")
    for other in teams.values():
        other[:] = [group for group in other if group not in groups]
    teams[name] = list(groups)


def _filled(team: Team, default: Team) -> Team:
    model = team.model or default.model
    critic = team.critic_model or (team.model if team.model else default.critic_model) or model
    return Team(team.groups, team.algorithm or default.algorithm, model, critic)
