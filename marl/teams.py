"""Who learns together, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from marl import ranks
from marl.algorithm import Algorithm, Setting
from marl.env import VectorEnv
from marl.errors import UserError, unknown
from marl.policies import Policy
from marl.replay import Replay, check_room
from marl.seeding import generator
from marl.settings import Settings
from marl.types import AgentGroup


@dataclass
class Team:
    """Groups of agents that learn together. What is None is the run's own, or the environment's
    grouping."""

    groups: list[str] | None = None
    algorithm: Any = None  # an AlgorithmConfig
    model: Any = None  # a Model, of the policies
    critic_model: Any = None  # a Model, of the critics


@dataclass(frozen=True)
class Shape:
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


def setting(
    env: VectorEnv,
    name: str,
    team: Team,
    shape: Shape,
    policies: Mapping[str, Policy],
    random: torch.Generator,
    replay: Replay | None = None,
) -> Setting:
    """What the team's algorithm is built from."""
    groups: dict[str, AgentGroup] = {group: env.groups[group] for group in team.groups or []}
    return Setting(
        groups, env.groups, env.state_size, shape.num_envs, shape.steps, shape.iterations,
        team.model, team.critic_model, policies, random, replay,
    )  # fmt: skip


def build_replay(
    teams: Mapping[str, Team], settings: Settings, device: torch.device
) -> Replay | None:
    """The replay of a run in which a team asks for one; this rank's part of it.

    Raises:
        UserError: it could not hold the steps of one iteration, or a team's batch.
    """
    learners = {n: t.algorithm for n, t in teams.items() if getattr(t.algorithm, "replays", False)}
    if not learners:
        return None
    check_room(settings.replay_size, settings.frames_per_iteration)
    for name, algorithm in learners.items():
        if getattr(algorithm, "batch_size", 0) > settings.replay_size:
            raise UserError(
                f"team {name!r} draws batch_size={algorithm.batch_size:,} transitions from a "
                f"replay of {settings.replay_size:,} frames; take a smaller algorithm.batch_size "
                "(256 is usual), or a larger replay_size"
            )
    frames, copies = -(-settings.replay_size // ranks.SIZE), settings.num_envs // ranks.SIZE
    return Replay(frames, copies, device, settings.replay_gib)


def build_teams(
    env: VectorEnv,
    teams: Mapping[str, Team],
    shape: Shape,
    seed: int,
    replay: Replay | None = None,
) -> dict[str, Algorithm]:
    """Every team's algorithm. They share one mapping of policies, complete when all are built, and
    the run's replay."""
    policies: dict[str, Policy] = {}
    built: dict[str, Algorithm] = {}
    for name, team in teams.items():
        random = generator(env.device, seed, "team", name, *ranks.own())
        chosen = setting(env, name, team, shape, policies, random, replay)
        built[name] = team.algorithm.build(chosen)
        policies[name] = built[name].policy
    return built
