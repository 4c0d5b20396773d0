"""Warnings, before a run spends its time, about teams that will not learn as they are set up."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from marl.algorithm import Algorithm
from marl.env import VectorEnv
from marl.training import rivals, unread
from marl.training.settings import Settings
from marl.training.teams import Team


def print_warnings(
    specs: Mapping[str, Team],
    teams: Mapping[str, Algorithm],
    settings: Settings,
    env: VectorEnv,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Prints all warnings about the teams of a run to stderr.

    Args:
        specs: teams of the run, by name.
        teams: their algorithms.
        settings: the run's settings.
        env: environment to play in at random for some steps; it is not reset afterwards.
        clock: returns seconds, to limit the time of random play.
    """
    rival_warnings = rivals.warnings(specs, env, settings.seed, clock)
    idle = [*idle_warnings(specs, settings), *sequence_warnings(teams, settings)]
    for warning in (*unread.warnings(specs, teams), *idle, *rival_warnings):
        print(f"marl: warning: {warning}", file=sys.stderr, flush=True)


def idle_warnings(specs: Mapping[str, Team], settings: Settings) -> list[str]:
    """Returns a warning for each team whose first gradient step is due after the end of the run.

    Args:
        specs: teams of the run, by name.
        settings: the run's settings.
    """
    frames = settings.iterations * settings.frames_per_iteration
    warnings = []
    for name, team in specs.items():
        first = getattr(team.algorithm, "first_update", lambda: 0)()
        if first > frames:
            warnings.append(
                f"team {name!r} will not learn: its first update is due after {first:,} frames "
                f"(warmup={team.algorithm.warmup:,}), and the run ends after {frames:,}; set "
                f"algorithm.warmup={frames // 10}, for instance, or a larger total_frames"
            )
    return warnings


def sequence_warnings(teams: Mapping[str, Algorithm], settings: Settings) -> list[str]:
    """Returns a warning for each team that learns from longer sequences than the run can store.

    Args:
        teams: algorithms of the run, by team.
        settings: the run's settings.
    """
    total = settings.iterations * settings.steps
    required = {name: getattr(team, "required_steps", 0) for name, team in teams.items()}
    return [
        f"team {name!r} will not learn: its sequences have {steps} steps (burn_in + "
        f"sequence_length), and the run has {total} steps of each environment; set shorter "
        "sequences, fewer num_envs or a larger total_frames"
        for name, steps in required.items()
        if steps > total
    ]
