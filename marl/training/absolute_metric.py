"""The absolute metric (Gorsane et al. 2022): every learning team's best checkpoint, played anew on
many more episodes than chose it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from marl.env import VectorEnv
from marl.training import build, checkpoint
from marl.training.checkpoint import Checkpoints, frames_of
from marl.training.evaluation import Limit, evaluate
from marl.training.joint_evaluation import play
from marl.training.settings import Settings
from marl.training.teams import Team
from marl.utils.seeding import evaluation_seed


def measure(directory: Path, env: VectorEnv, specs: Mapping[str, Team], settings: Settings) -> None:
    """Writes ``absolute.json``, unless it is there already and up to date: for every team that
    learns, at the frame where it was best, what greedy play earns (``returns`` and ``metrics`` as
    of ``play``), and ``sampled`` play."""
    path = directory / "absolute.json"
    checkpoints = Checkpoints(directory / "checkpoints")
    best_of = {name: best for name in specs if (best := checkpoints.best(name))}
    if not settings.absolute_episodes or _measured(path, best_of, settings.absolute_episodes):
        return
    seed, found = evaluation_seed(settings.seed, "absolute"), {}
    limit = Limit(settings.evaluation_max_steps, "absolute metric")
    for name, best in best_of.items():
        state = checkpoint.load(best, env.device)
        teams = build.load_teams(env, specs, state["teams"], best)
        greedy = play(env, teams, settings.absolute_episodes, seed, limit=limit)
        sampled = evaluate(env, teams, settings.absolute_episodes, seed, True, limit)
        found[name] = {"frames": state["frames"], **greedy, "sampled": sampled["returns"]}
    checkpoint.write_atomic(path, (json.dumps(found) + "\n").encode())


def _measured(path: Path, best_of: Mapping[str, Path], episodes: int) -> bool:
    """Whether the file holds so many episodes of these best checkpoints."""
    if not path.exists():
        return False
    found = json.loads(path.read_text())
    there = {n: (team["frames"], len(team["returns"][n])) for n, team in found.items()}
    return all(there.get(n) == (frames_of(best), episodes) for n, best in best_of.items())


def forget(directory: Path) -> None:
    """Removes what was measured and drawn of a run's end, which is not where it ends any more."""
    for name in ("absolute.json", "curve.png", "video.mp4"):
        (directory / name).unlink(missing_ok=True)
