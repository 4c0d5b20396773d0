"""What doing nothing earns on the tasks of a suite, for its tables."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from marl.benchmark.references import DO_NOTHING, FILE
from marl.benchmark.suite import Suite
from marl.errors import UserError
from marl.utils.files import write_atomic

UNDEFINED = "doing nothing is undefined where all choices are actions like any other"


def measure(suite: Suite, results: Path) -> Path:
    """Plays every task of a suite without acting, and writes ``references.json`` into ``results``.

    Tasks whose first choice is an action like any other, such as the games', are left out, with a
    line that says so.

    Raises:
        UserError: doing nothing is undefined in all tasks.
    """
    path = results / FILE
    episodes: dict[str, Any] = {}
    tasks = list(dict.fromkeys(cell.task for cell in suite.cells()))
    for number, task in enumerate(tasks, 1):
        print(f"playing  {task} ({number} of {len(tasks)})", file=sys.stderr, flush=True)
        if played := _do_nothing(suite, task):
            episodes[task] = {DO_NOTHING: played}
        else:
            print(f"none     {task}: {UNDEFINED}", file=sys.stderr, flush=True)
    if not episodes:
        raise UserError(
            f"suite {suite.name!r} has no task that can be played without acting: {UNDEFINED}; "
            "leave out --references"
        )
    results.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(episodes) + "\n").encode())
    return path


def _do_nothing(suite: Suite, task: str) -> dict[str, list[float]] | None:
    """Returns every episode's return by team; None where there is no way of doing nothing."""
    import torch

    from marl.algorithms.scripted import ScriptedConfig
    from marl.cli import compose
    from marl.training.build import build_teams
    from marl.training.evaluation import Limit, evaluate
    from marl.training.teams import RunShape, Team, resolve_teams
    from marl.utils.seeding import evaluation_seed

    cell = next(cell for cell in suite.cells() if cell.task == task)
    run = compose.composed(suite.words(cell))
    env = run.task.for_evaluation()(32, torch.device("cpu"))
    try:
        if not _can_idle(run.task.name, env):
            return None
        idle = ScriptedConfig("marl.algorithms.scripted:idle")
        resolved = resolve_teams(env, run.teams, Team(algorithm=idle))
        teams = {name: Team(team.groups, idle) for name, team in resolved.items()}
        return evaluate(
            env,
            build_teams(env, teams, RunShape(), run.seed),
            run.absolute_episodes,
            evaluation_seed(run.seed, "absolute"),
            limit=Limit(run.evaluation_max_steps, "doing nothing"),
        )["returns"]
    finally:
        env.close()


def _can_idle(task: str, env: Any) -> bool:
    """Whether an action of zero does nothing: a force of zero, or the first choice of the particle
    worlds, of foraging and of VMAS."""
    from marl.types import Continuous

    moves = task.startswith(("foraging/", "mpe/", "mpe2/", "navigation/", "vmas/"))
    return moves or all(isinstance(group.action, Continuous) for group in env.groups.values())
