"""Construction of a run's environments, replay and teams, to learn or to play."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from marl.algorithm import Algorithm, Context
from marl.env import VectorEnv
from marl.errors import UserError
from marl.learning.replay import Replay
from marl.learning.replay_limits import check_holds_rollout
from marl.policies.base import Policy
from marl.policies.fixed import Scripted
from marl.training import agent_order, execution, memory
from marl.training.agent_order import Order
from marl.training.collector import Collector
from marl.training.loading import load_policy, restore_policy
from marl.training.settings import Settings
from marl.training.stored_groups import Interface
from marl.training.teams import RunShape, Team
from marl.types import AgentGroup
from marl.utils import distributed, versions
from marl.utils.capabilities import needs_replay
from marl.utils.seeding import generator, training_seed

MakeEnv = Callable[[int, torch.device], VectorEnv]  # (num_envs, device)


@dataclass(frozen=True)
class Environments:
    """The environments of a run, all with the same agents in the same order."""

    #: This rank's copies to train in.
    training: VectorEnv
    #: The copies that are evaluated at once.
    evaluation: VectorEnv
    #: Makes more environments like these.
    make: MakeEnv


def check_arguments(task: object, configs: Iterable[object], settings: object) -> None:
    """Raises UserError for an argument of ``Experiment`` that is of another kind than it should be.

    Args:
        task: expected to make environments.
        configs: of algorithms; None for a team that takes the default.
        settings: expected to be ``Settings``.
    """
    if isinstance(task, str) or not callable(task):
        raise UserError(f"task={task!r} makes no environment; expected Task('vmas/balance'), say")
    for config in configs:
        if config is not None and (isinstance(config, type) or not hasattr(config, "build")):
            raise UserError(
                f"algorithm={config!r} is no configuration; expected MAPPOConfig(), say"
            )
    if not isinstance(settings, Settings):
        raise UserError(f"settings={settings!r} are no settings; expected Settings(seed=0), say")


def build_environments(
    task: MakeEnv, settings: Settings, device: torch.device, resumed_run: Path | None
) -> Environments:
    """Makes a run's environments.

    Args:
        task: makes an environment, called with (num_envs, device).
        settings: the run's settings.
        device: where the environments are.
        resumed_run: directory of the run that is resumed, whose order of agents they take; None for
            a new run.

    Raises:
        UserError: the run to be resumed had other agents.
    """
    saved = agent_order.read(resumed_run) if resumed_run else None
    reorder = partial(agent_order.arrange, saved=saved) if resumed_run else agent_order.new_order
    copies = distributed.share("num_envs", settings.num_envs)
    training = agent_order.OrderedTask(task, reorder)(copies, device)
    if resumed_run:
        agent_order.check(training, saved, resumed_run)
    reorder = partial(agent_order.arrange, saved=agent_order.order_of(training.groups))
    make = agent_order.OrderedTask(for_evaluation(task), reorder)
    return Environments(training, make(min(32, settings.evaluation_episodes), device), make)


def for_evaluation(task: MakeEnv) -> MakeEnv:
    """Returns the task whose environments evaluate what is trained in those of ``task``: with the
    environment's own rewards, where the task has wrappers of them."""
    return task.for_evaluation() if hasattr(task, "for_evaluation") else task  # type: ignore


def context(
    env: VectorEnv | Interface,
    name: str,
    team: Team,
    shape: RunShape,
    policies: Mapping[str, Policy],
    random: torch.Generator,
    replay: Replay | None = None,
) -> Context:
    """Returns the context that a team's algorithm is built from.

    Args:
        env: environment that the team plays in, or its groups.
        name: name of the team.
        team: the team, with its groups and models.
        shape: size, number and execution of the run's rollouts.
        policies: policies of all teams, by team; filled as teams are built.
        random: random numbers of the algorithm.
        replay: the run's replay, if there is one.
    """
    groups: dict[str, AgentGroup] = {group: env.groups[group] for group in team.groups or []}
    return Context(
        groups, env.groups, env.state_size, shape.num_envs, shape.steps, shape.iterations,
        team.model, team.critic_model, policies, random, replay, load_policy, shape.execution,
    )  # fmt: skip


def build_replay(
    teams: Mapping[str, Team], settings: Settings, device: torch.device
) -> Replay | None:
    """Returns this rank's part of a run's replay; None if no team learns from one.

    Args:
        teams: teams of the run, by name.
        settings: the run's settings.
        device: where the replay is.

    Raises:
        UserError: the replay could not hold the steps of one iteration, or a team's batch.
    """
    learners = {n: t.algorithm for n, t in teams.items() if needs_replay(t.algorithm)}
    if not learners:
        return None
    check_holds_rollout(settings.replay_size, settings.frames_per_iteration)
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
    """Builds the algorithms of all teams.

    They share the run's replay and one mapping of policies, complete when all teams are built.

    Args:
        env: environment of the run.
        teams: teams of the run, by name.
        shape: size and number of the run's rollouts.
        seed: the run's seed.
        replay: the run's replay, if there is one.

    Returns:
        Algorithms by team.
    """
    policies: dict[str, Policy] = {}
    algorithms: dict[str, Algorithm] = {}
    for name, team in teams.items():
        random = generator(env.device, seed, "team", name, *distributed.seed_suffix())
        team_context = context(env, name, team, shape, policies, random, replay)
        algorithms[name] = _built(team, team_context)
        policies[name] = algorithms[name].policy
    return algorithms


def _built(team: Team, context: Context) -> Algorithm:
    """Returns a team's algorithm; raises UserError where ``build`` returns none."""
    algorithm = team.algorithm.build(context)
    missing = [name for name in ("policy", "act", "update") if not hasattr(algorithm, name)]
    if missing:
        raise UserError(
            f"{type(team.algorithm).__name__}.build returned {algorithm!r}, which has no "
            f"{missing[0]!r}; expected an algorithm (marl.Algorithm)"
        )
    return algorithm


def check_same_weights(teams: Mapping[str, Algorithm]) -> None:
    """Raises RuntimeError if the ranks have different weights; waits for all ranks."""
    policies = (team.policy for team in teams.values())
    distributed.check_alike(x for p in policies if isinstance(p, nn.Module) for x in p.parameters())


def build_collector(
    env: VectorEnv,
    teams: Mapping[str, Algorithm],
    settings: Settings,
    replay: Replay | None,
    word: str = "eager",
) -> Collector:
    """Resets the environment and returns this rank's collector; allocates the replay's storage.

    Args:
        env: this rank's copies of the environment.
        teams: algorithms by team.
        settings: the run's settings.
        replay: the run's replay, if there is one.
        word: the run's ``execution``, resolved.

    Raises:
        UserError: training needs more memory than the settings allow.
    """
    suffix = distributed.seed_suffix()
    seed = training_seed(settings.seed, *suffix)
    acting = generator(env.device, settings.seed, "acting", *suffix)
    collector = Collector(env, teams, settings.steps, seed, acting)
    collector.program = execution.rollout_program(word, env, teams, settings.steps)
    memory.check(env, teams, collector.obs, settings)
    if replay is not None:
        replay.allocate(collector.example())
    return collector


def load_teams(
    env: VectorEnv | Interface,
    teams: Mapping[str, Team],
    states: Mapping[str, Any],
    path: Path,
    agents: Order | None = None,
    learning: int = versions.LEARNING,
) -> dict[str, Algorithm]:
    """Returns a run's teams to play, but not to learn, in an environment.

    Args:
        env: environment to play in, or its groups.
        teams: teams of the run, by name.
        states: states of the teams in a checkpoint.
        path: the checkpoint, for errors.
        agents: the order of agents that the run recorded; None if it has no record.
        learning: version of learning of the run (``marl.utils.versions``).

    Returns:
        Algorithms by team.

    Raises:
        UserError: the environment has other agents than the run, and a policy tells them apart.
    """
    algorithms: dict[str, Algorithm] = {}
    for name, team in teams.items():
        random = generator(env.device, 0, "team", name)
        team_context = context(env, name, team, RunShape(), {}, random)
        if "policy" in states[name]:
            policy = restore_policy(team, states[name], team_context, path, agents, learning)
            algorithms[name] = Scripted(policy, None)
        else:
            algorithms[name] = team.algorithm.build(team_context)
    return algorithms
