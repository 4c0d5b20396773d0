"""The borders between the stages of a curriculum: what is rebuilt there, and the check before."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from marl.algorithm import Algorithm
from marl.env import VectorEnv
from marl.errors import UserError, unknown
from marl.learning.replay import Replay
from marl.policies.fixed import Scripted
from marl.policies.random import RandomPolicy
from marl.training import agent_order, build, execution, fitting, memory
from marl.training.agent_order import OrderedTask, new_order
from marl.training.build import MakeEnv
from marl.training.checkpoint_formats import State
from marl.training.collector import Collector
from marl.training.curriculum import Stage
from marl.training.early_stop import EarlyStop
from marl.training.evaluation import Limit, evaluate
from marl.training.evaluations import Evaluations
from marl.training.run_files import RunFiles
from marl.training.selfplay import SelfPlay
from marl.training.settings import Settings
from marl.training.stages import Stages
from marl.training.teams import RunShape, Team
from marl.utils import distributed, seeding
from marl.utils.capabilities import learns


class Run(Protocol):
    """The parts of an ``Experiment`` that a new stage replaces, or that it resets."""

    settings: Settings
    directory: Path
    device: torch.device
    execution: str
    stages: Stages
    frames: int
    env: VectorEnv
    evaluation_env: VectorEnv
    make: MakeEnv
    specs: dict[str, Team]
    teams: dict[str, Algorithm]
    replay: Replay | None
    collector: Collector
    selfplay: SelfPlay
    evaluations: Evaluations
    early_stop: EarlyStop
    files: RunFiles

    def close(self) -> None: ...


def advance(run: Run) -> None:
    """Enters the stages that are due, at the border between two iterations.

    Args:
        run: the run; nothing changes at its end.
    """
    while run.stages.is_over(run.frames) and run.frames < run.settings.total_frames:
        emptied = run.replay is not None and run.replay.stored_frames
        enter(run, run.stages.number + 1)
        run.evaluations.best = {}  # returns of different tasks do not compare
        run.early_stop.restart()
        run.files.is_saved = False
        if not distributed.rank():
            words = run.stages.describe(run.stages.number)
            print(f"stage    {words} (from frame {run.frames:,})", flush=True)
            if emptied and run.replay is not None and not run.replay.stored_frames:
                print("replay   emptied: its transitions have other shapes", flush=True)


def enter(run: Run, number: int) -> None:
    """Replaces environments and collector by those of a stage.

    Where the groups of agents differ, algorithms are built for the new ones with the state of the
    old ones, and the replay begins empty. New episodes begin in all copies.

    Args:
        run: the run.
        number: number of the stage, counted from 0.
    """
    stages, before = run.stages, _interface(run.env)
    run.close()
    stages.number, stages.passed = number, False
    with seeding.fork_random_state(run.device):
        settings = stages.settings_of(number)
        envs = build.build_environments(stages.task(number), settings, run.device, None)
        run.env, run.evaluation_env, run.make = envs.training, envs.evaluation, envs.make
        replay = run.replay
        if _interface(run.env) != before:
            _rebuild_teams(run)
        words = "stage", number, *distributed.seed_suffix()
        seed, acting = seeding.training_seed(settings.seed, *words), run.collector.generator
        run.collector = Collector(run.env, run.teams, settings.steps, seed, acting)
        parts = run.execution, run.env, run.teams, settings.steps
        run.collector.program = execution.rollout_program(*parts)
        memory.check(run.env, run.teams, run.collector.obs, settings)
        if run.replay is not None and run.replay is not replay:
            run.replay.allocate(run.collector.example())
    run.evaluations.env, run.evaluations.settings = run.evaluation_env, settings


def _interface(env: VectorEnv) -> tuple[dict[str, Any], int | None]:
    """Returns what algorithms are built for."""
    return dict(env.groups), env.state_size


def _rebuild_teams(run: Run) -> None:
    """Builds the algorithms for the groups of ``run.env``, with the state of those before."""
    states = {name: team.state_dict() for name, team in run.teams.items()}
    run.replay, run.teams = _build(run.env, run.specs, run.settings, run.execution)
    for name, team in run.teams.items():
        own = {k: v for k, v in team.state_dict().items() if k in fitting.OF_AGENTS}
        team.load_state_dict({**states[name], **own})
    run.evaluations.teams = run.teams
    run.selfplay.teams = {name: team for name, team in run.teams.items() if learns(team)}


def _build(
    env: VectorEnv, specs: Mapping[str, Team], settings: Settings, word: str = "eager"
) -> tuple[Replay | None, dict[str, Algorithm]]:
    copies = distributed.share("num_envs", settings.num_envs)
    shape = RunShape(copies, settings.steps, settings.iterations, word)
    replay = build.build_replay(specs, settings, env.device)
    return replay, build.build_teams(env, specs, shape, settings.seed, replay)


# ------------------------------------------------------------------------ the check before training


def check(run: Run) -> VectorEnv | None:
    """Checks before training that every stage of a new run can be entered.

    Args:
        run: the run, in its first stage.

    Returns:
        The environment of the last stage, closed; None without a curriculum.

    Raises:
        UserError: a stage cannot be built, has other groups or weights of other shapes, or ends by
            a team or metric that does not exist.
    """
    env = None
    for number, stage in enumerate(run.stages.stages):
        if len(run.stages) == 1:
            return None
        with seeding.fork_random_state(run.device):
            env = _environment(run, number)
            try:
                _check_groups(run, env, number)
                _check_shapes(run, env, number)
                _check_ends(run, env, number, stage)
            finally:
                env.close()
    return env


def _environment(run: Run, number: int) -> VectorEnv:
    try:
        return OrderedTask(run.stages.task(number), new_order)(1, run.device)
    except UserError as error:
        raise UserError(f"curriculum: stage {number + 1}: {error}") from None


def _check_groups(run: Run, env: VectorEnv, number: int) -> None:
    first, here = run.env.groups, env.groups
    if set(first) != set(here):
        raise UserError(
            f"curriculum: stage {number + 1} has the groups {', '.join(here)}, and stage 1 "
            f"{', '.join(first)}; name them alike by task.groups"
        )
    for name, group in here.items():
        if type(group.action) is not type(first[name].action):
            kinds = type(first[name].action).__name__, type(group.action).__name__
            raise UserError(
                f"curriculum: the actions of group {name!r} are {kinds[0]} in stage 1 and "
                f"{kinds[1]} in stage {number + 1}; they must be of one kind"
            )


def _check_shapes(run: Run, env: VectorEnv, number: int) -> None:
    """Raises UserError for a tensor that has another shape in this stage than in the first."""
    if _interface(env) == _interface(run.env):
        return
    _, teams = _build(env, run.specs, run.settings)
    for name, team in teams.items():
        old, new = run.teams[name].state_dict(), team.state_dict()
        for part in new:
            if part in fitting.OF_AGENTS or not fitting.flat(new[part]):
                continue
            for difference in fitting.fit_whole(new[part], old.get(part)).differences:
                raise _does_not_fit(run.stages.stages[number], number, name, part, difference)


def _does_not_fit(
    stage: Stage, number: int, team: str, part: str, difference: fitting.Difference
) -> UserError:
    tensor = ".".join(filter(None, (part, difference.tensor)))
    before, here = (list(shape or ()) for shape in (difference.there, difference.here))
    return UserError(
        f"curriculum: stage {number + 1} ({stage.changes}) does not fit stage 1: {tensor} of team "
        f"{team!r} is {before} in stage 1 and {here} in stage {number + 1}; take networks that do "
        "not depend on what changes, such as algorithm.critic=agent with algorithm.reward=own, or "
        "model=informarl"
    )


def _check_ends(run: Run, env: VectorEnv, number: int, stage: Stage) -> None:
    """Raises UserError for a team or metric that does not exist, in this stage's ends."""
    learning = [name for name, team in run.teams.items() if learns(team)]
    where = f" in stage {number + 1} of curriculum"
    for team in stage.returns:
        if not team and len(learning) != 1:
            raise UserError(
                f"curriculum: until_return{where.removesuffix(' of curriculum')} names no team, "
                f"and {', '.join(learning) or 'none'} learn; write until_return: {{TEAM: RETURN}}"
            )
        if team and team not in run.teams:
            raise unknown("team", team, run.teams, where=where)
    if names := [*stage.metrics, *stage.metrics_below]:
        known = _metrics(env, run.settings)
        for name in names:
            if name not in known:
                raise unknown("metric", name, known, where=where)


def _metrics(env: VectorEnv, settings: Settings) -> list[str]:
    """Returns the metrics that an episode of random play reports."""
    teams: dict[str, Any] = {"all": Scripted(RandomPolicy(env.groups), explore=True)}
    seed = seeding.evaluation_seed(settings.seed, "metrics")
    limit = Limit(settings.evaluation_max_steps, "random play, for the names of metrics")
    return list(evaluate(env, teams, 1, seed, limit=limit)["metrics"])


def last_environment(run: Run) -> VectorEnv:
    """Makes an environment of the last stage, of as many copies as are evaluated at once; on any
    rank alone."""
    copies = min(32, run.stages.settings_of(-1).evaluation_episodes)
    order = partial(agent_order.arrange, saved=agent_order.read(run.directory))
    return OrderedTask(run.stages.task(-1), order)(copies, run.device)


def load_state(run: Run, state: State) -> None:
    """Enters the stage of a checkpoint.

    Args:
        run: the run, just built.
        state: the state of the checkpoint.
    """
    saved = state.get("stage", {"number": 0, "passed": False})  # older runs have none
    if saved["number"] != run.stages.number:
        enter(run, saved["number"])
    run.stages.passed = saved["passed"]
