"""What is said on stderr before a run spends its time: teams that will not learn as they are set
up."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping

from marl.env import VectorEnv
from marl.training import rivals
from marl.training.settings import Settings
from marl.training.teams import Team


def say(
    specs: Mapping[str, Team],
    settings: Settings,
    env: VectorEnv,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Prints every warning there is; ``env`` is played at random for some steps and left so."""
    for sentence in (*idle(specs, settings), *rivals.warnings(specs, env, settings.seed, clock)):
        print(f"marl: warning: {sentence}", file=sys.stderr, flush=True)


def idle(specs: Mapping[str, Team], settings: Settings) -> list[str]:
    """A sentence on each team whose first gradient step is due after the end of the run."""
    frames = settings.iterations * settings.frames_per_iteration
    said = []
    for name, team in specs.items():
        first = getattr(team.algorithm, "first_update", lambda: 0)()
        if first > frames:
            said.append(
                f"team {name!r} will not learn: its first update is due after {first:,} frames "
                f"(warmup={team.algorithm.warmup:,}), and the run ends after {frames:,}; set "
                f"algorithm.warmup={frames // 10}, for instance, or a larger total_frames"
            )
    return said
