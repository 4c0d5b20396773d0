"""Builds a run's teams: to learn, or to play with an earlier run's policies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from marl.algorithm import Algorithm, Context
from marl.env import VectorEnv
from marl.errors import UserError
from marl.learning.replay import Replay, check_room
from marl.policies.base import Policy
from marl.policies.fixed import Scripted
from marl.training import agent_order, memory
from marl.training.agent_order import Order
from marl.training.collector import Collector
from marl.training.loading import load_policy, restore_policy
from marl.training.settings import Settings
from marl.training.teams import RunShape, Team
from marl.types import AgentGroup
from marl.utils import distributed, versions
from marl.utils.capabilities import needs_replay
from marl.utils.seeding import generator, training_seed

MakeEnv = Callable[[int, torch.device], VectorEnv]  # (num_envs, device)


@dataclass(frozen=True)
class Environments:
    """A run's environments: all with the same agents in the same order.

    Args:
        training: the rank's copies.
        evaluation: as many copies as are evaluated at once.
        make: makes others like them.
    """

    training: VectorEnv
    evaluation: VectorEnv
    make: MakeEnv


def build_environments(
    task: MakeEnv, settings: Settings, device: torch.device, earlier: Path | None
) -> Environments:
    """Makes a run's environments.

    Args:
        earlier: the directory of the run that is resumed, whose order of agents they take.

    Raises:
        UserError: the run to be resumed had other agents.
    """
    saved = agent_order.read(earlier) if earlier else None
    wanted = partial(agent_order.arranged, saved=saved) if earlier else agent_order.new
    copies = distributed.share("num_envs", settings.num_envs)
    training = agent_order.Ordered(task, wanted)(copies, device)
    if earlier:
        agent_order.check(training, saved, earlier)
    order = partial(agent_order.arranged, saved=agent_order.order_of(training.groups))
    make = agent_order.Ordered(task, order)
    return Environments(training, make(min(32, settings.evaluation_episodes), device), make)


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


def check_alike(teams: Mapping[str, Algorithm]) -> None:
    """Raises RuntimeError where the ranks drew other weights. Waits for all of them."""
    policies = (team.policy for team in teams.values())
    distributed.check_alike(x for p in policies if isinstance(p, nn.Module) for x in p.parameters())


def build_collector(
    env: VectorEnv, teams: Mapping[str, Algorithm], settings: Settings, replay: Replay | None
) -> Collector:
    """Resets the environment and makes what plays in it, this rank's part of the run; allocates the
    replay's storage.

    Raises:
        UserError: training would weigh more than it may.
    """
    suffix = distributed.seed_suffix()
    seed = training_seed(settings.seed, *suffix)
    acting = generator(env.device, settings.seed, "acting", *suffix)
    collector = Collector(env, teams, settings.steps, seed, acting)
    memory.check(env, teams, collector.obs, settings)
    if replay is not None:
        replay.allocate(collector.example())
    return collector


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
