"""Warnings, before a run spends its time, about teams that will not learn as they are set up."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from marl.env import VectorEnv
from marl.training import rivals
from marl.training.settings import Settings
from marl.training.teams import Team


def print_warnings(
    specs: Mapping[str, Team],
    settings: Settings,
    env: VectorEnv,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Prints all warnings about the teams of a run to stderr.

    Args:
        specs: teams of the run, by name.
        settings: the run's settings.
        env: environment to play in at random for some steps; it is not reset afterwards.
        clock: returns seconds, to limit the time of random play.
    """
    rival_warnings = rivals.warnings(specs, env, settings.seed, clock)
    for warning in (*idle_warnings(specs, settings), *rival_warnings):
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
