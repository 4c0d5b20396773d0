"""The absolute metric (Gorsane et al. 2022) of a run's best checkpoints.

The best checkpoint of each learning team is played again, over many more episodes than chose it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from marl.env import VectorEnv
from marl.training import build, checkpoint, policy_file
from marl.training.checkpoint import Checkpoints, frames_of
from marl.training.evaluation import Limit, evaluate
from marl.training.joint_evaluation import play
from marl.training.settings import Settings
from marl.training.stored_groups import groups_to_plain
from marl.training.teams import Team
from marl.utils.seeding import evaluation_seed


def measure(directory: Path, env: VectorEnv, specs: Mapping[str, Team], settings: Settings) -> None:
    """Writes ``absolute.json``, unless the file exists and is up to date.

    ``policy.safetensors`` beside it holds the policies that it measured.

    For each team that learns it holds the frame at which the team was best, the returns of greedy
    play there (``returns`` and ``metrics`` as of ``play``), and those of ``sampled`` play.

    Args:
        directory: the run's directory.
        env: environment to play in.
        specs: teams of the run, by name.
        settings: the run's settings, with the number of episodes; for 0 nothing is written.
    """
    path = directory / "absolute.json"
    checkpoints = Checkpoints(directory / "checkpoints")
    best_of = {name: best for name in specs if (best := checkpoints.best(name))}
    if not settings.absolute_episodes or _is_current(path, best_of, settings.absolute_episodes):
        return
    seed, results, states = evaluation_seed(settings.seed, "absolute"), {}, {}
    limit = Limit(settings.evaluation_max_steps, "absolute metric")
    for name, best in best_of.items():
        state = checkpoint.load(best, env.device)
        teams = build.load_teams(env, specs, state["teams"], best)
        greedy = play(env, teams, settings.absolute_episodes, seed, limit=limit)
        random = evaluate(env, teams, settings.absolute_episodes, seed, True, limit)
        states[name] = state
        results[name] = {"frames": state["frames"], **greedy, "sampled": random["returns"]}
    if states:
        spaces = groups_to_plain(env.groups, env.state_size)
        policy_file.write(directory / policy_file.NAME, states, spaces, specs)
    checkpoint.write_atomic(path, (json.dumps(results) + "\n").encode())


def _is_current(path: Path, best_of: Mapping[str, Path], episodes: int) -> bool:
    """Returns whether the file holds this number of episodes of these best checkpoints."""
    if not path.exists():
        return False
    results = json.loads(path.read_text())
    measured = {n: (team["frames"], len(team["returns"][n])) for n, team in results.items()}
    return all(measured.get(n) == (frames_of(best), episodes) for n, best in best_of.items())


def remove_results(directory: Path) -> None:
    """Removes the measurements and pictures of a run's former end from its directory."""
    for name in ("absolute.json", policy_file.NAME, "curve.png", "video.mp4"):
        (directory / name).unlink(missing_ok=True)
