"""Builds a run's teams: to learn, or to play with an earlier run's policies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from marl.algorithm import Algorithm, Context
from marl.env import VectorEnv
from marl.errors import UserError
from marl.learning.replay import Replay, check_room
from marl.policies.base import Policy
from marl.policies.fixed import Scripted
from marl.training.agent_order import Order
from marl.training.loading import load_policy, restore_policy
from marl.training.settings import Settings
from marl.training.teams import RunShape, Team
from marl.types import AgentGroup
from marl.utils import distributed, versions
from marl.utils.capabilities import needs_replay
from marl.utils.seeding import generator


def context(
    env: VectorEnv,
    name: str,
    team: Team,
    shape: RunShape,
    policies: Mapping[str, Policy],
    random: torch.Generator,
    replay: Replay | None = None,
) -> Context:
    """What the team's algorithm is built from."""
    groups: dict[str, AgentGroup] = {group: env.groups[group] for group in team.groups or []}
    return Context(
        groups, env.groups, env.state_size, shape.num_envs, shape.steps, shape.iterations,
        team.model, team.critic_model, policies, random, replay, load_policy,
    )  # fmt: skip


def build_replay(
    teams: Mapping[str, Team], settings: Settings, device: torch.device
) -> Replay | None:
    """The replay of a run in which a team asks for one; this rank's part of it.

    Raises:
        UserError: it could not hold the steps of one iteration, or a team's batch.
    """
    learners = {n: t.algorithm for n, t in teams.items() if needs_replay(t.algorithm)}
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
    frames, copies = (
        -(-settings.replay_size // distributed.size()),
        settings.num_envs // distributed.size(),
    )
    return Replay(frames, copies, device, settings.replay_gib)


def build_teams(
    env: VectorEnv,
    teams: Mapping[str, Team],
    shape: RunShape,
    seed: int,
    replay: Replay | None = None,
) -> dict[str, Algorithm]:
    """Every team's algorithm. They share one mapping of policies, complete when all are built, and
    the run's replay."""
    policies: dict[str, Policy] = {}
    built: dict[str, Algorithm] = {}
    for name, team in teams.items():
        random = generator(env.device, seed, "team", name, *distributed.seed_suffix())
        chosen = context(env, name, team, shape, policies, random, replay)
        built[name] = team.algorithm.build(chosen)
        policies[name] = built[name].policy
    return built


def load_teams(
    env: VectorEnv,
    teams: Mapping[str, Team],
    states: Mapping[str, Any],
    path: Path,
    agents: Order | None = None,
    learning: int = versions.LEARNING,
) -> dict[str, Algorithm]:
    """The run's teams to play with ``env``: policies only, of that version of ``learning``.

    Raises:
        UserError: ``env`` has other agents than the run had, whose weights are their own.
    """
    playing: dict[str, Algorithm] = {}
    for name, team in teams.items():
        chosen = context(env, name, team, RunShape(), {}, generator(env.device, 0, "team", name))
        if "policy" in states[name]:
            policy = restore_policy(team, states[name], chosen, path, agents, learning)
            playing[name] = Scripted(policy, None)
        else:
            playing[name] = team.algorithm.build(chosen)
    return playing
