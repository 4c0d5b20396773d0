"""Teams: groups of agents that learn together, with an algorithm and models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from marl.env import VectorEnv
from marl.errors import UserError, unknown


@dataclass
class Team:
    """Groups of agents that learn together; None stands for the default of the run."""

    #: Names of the groups of the team; None for those that the environment gives the team of this
    #: name.
    groups: list[str] | None = None
    #: Algorithm of the team (an ``AlgorithmConfig``); None for the algorithm of the run.
    algorithm: Any = None
    #: Model of the team's policies; None for the model of the run.
    model: Any = None
    #: Model of the team's critics; None for ``model`` of the team if that is set, and else for the
    #: critic_model of the run.
    critic_model: Any = None


@dataclass(frozen=True)
class RunShape:
    """Size and number of a run's rollouts, on which schedules and memories depend."""

    #: B, copies of the environment on this rank.
    num_envs: int = 1
    #: T, steps of a rollout.
    steps: int = 1
    #: Number of iterations of the run.
    iterations: int = 1
    #: The run's ``execution``, resolved.
    execution: str = "eager"


def resolve_teams(
    env: VectorEnv, overrides: Mapping[str, Team | None], default: Team
) -> dict[str, Team]:
    """Returns all teams of a run, complete with groups, algorithm and models.

    Args:
        env: the environment, with the teams that it defines.
        overrides: differences from these teams, and further teams, by name.
        default: algorithm and models of teams that have none of their own.

    Raises:
        UserError: a team or group does not exist, a group is in two teams, or a team has no
            algorithm.
    """
    teams = {name: list(groups) for name, groups in env.teams.items()}
    _check_disjoint(overrides)
    for name, team in overrides.items():
        if team is not None and team.groups is not None:
            _claim(teams, name, team.groups, env)
        elif name not in teams:
            raise unknown("team", name, teams, where=" without groups")
    resolved = {}
    for name, groups in teams.items():
        if groups:
            team = _fill_defaults(overrides.get(name) or Team(), default)
            resolved[name] = replace(team, groups=[g for g in env.groups if g in groups])
    for name, team in resolved.items():
        if team.algorithm is None:
            raise UserError(f"team {name!r} has no algorithm; set teams.{name}.algorithm=NAME")
    return resolved


def _check_disjoint(overrides: Mapping[str, Team | None]) -> None:
    owner: dict[str, str] = {}
    for name, team in overrides.items():
        for group in (team.groups if team else None) or []:
            if group in owner:
                raise UserError(
                    f"group {group!r} is in two teams, {owner[group]!r} and {name!r}; remove it "
                    "from one of them"
                )
            owner[group] = name


def _claim(teams: dict[str, list[str]], name: str, groups: list[str], env: VectorEnv) -> None:
    for group in groups:
        if group not in env.groups:
            raise unknown("group", group, env.groups, where=f" in teams.{name}")
    if not groups:
        raise UserError(
            f"teams.{name} has no groups; choose from {', '.join(env.groups)}, or leave it out"
        )
    for other in teams.values():
        other[:] = [group for group in other if group not in groups]
    teams[name] = list(groups)


def _fill_defaults(team: Team, default: Team) -> Team:
    model = team.model or default.model
    critic = team.critic_model or (team.model if team.model else default.critic_model) or model
    return Team(team.groups, team.algorithm or default.algorithm, model, critic)
