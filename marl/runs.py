"""Run directories: what a run was made of, where it ran, and how to load its policies again."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from marl import checkpoint, order, ranks, versions
from marl.algorithm import Algorithm, Scripted, Setting
from marl.config import from_plain, relocate
from marl.env import VectorEnv
from marl.errors import UserError, unknown
from marl.order import Order
from marl.policies import Policy
from marl.seeding import generator
from marl.teams import Shape, Team, setting

PACKAGES = (
    "torch",
    "numpy",
    "vmas",
    "pettingzoo",
    "mpe2",
    "torch-geometric",
    "hydra-core",
    "wandb",
)


def check(directory: Path) -> None:
    """Raises UserError where ``directory`` is not a run's."""
    if not directory.is_dir():
        raise UserError(f"there is no run directory {str(directory)!r}")
    if not (directory / "config.json").exists():
        raise UserError(f"{str(directory)!r} is not a run directory: it has no config.json")


def read_config(directory: Path) -> dict[str, Any]:
    """The configuration of a run, as the objects it was built from.

    Raises:
        UserError: the directory is not a run's.
    """
    check(directory)
    path = directory / "config.json"
    try:
        config = from_plain(json.loads(path.read_text()))
    except (json.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{str(path)!r} is not a run's configuration: {error}") from None
    if not isinstance(config, dict) or not {"task", "settings", "teams"} <= config.keys():
        raise UserError(
            f"{str(path)!r} is not a run's configuration: it needs task, settings, teams"
        )
    relocate(config, partial(_moved, directory))
    return config


def _moved(directory: Path, reference: str) -> str:
    """Where what a run refers to is now: where it was, or where it would be if it was moved
    together with the run."""
    try:
        before = json.loads((directory / "provenance.json").read_text())["directory"]
    except (OSError, ValueError, KeyError):  # a run of an older version does not know
        return reference
    if Path(reference).exists() or before is None:
        return reference
    there = Path(os.path.normpath(directory.absolute() / os.path.relpath(reference, before)))
    return str(there) if there.exists() else reference


def resumable(directory: Path) -> int:
    """Returns the version of learning of a run that is to be resumed (``marl.versions``).

    Raises:
        UserError: the directory is not a run's, or its version is another that learns otherwise.
    """
    check(directory)
    version = versions.learning_of(directory)
    if version != versions.LEARNING:
        versions.check_resumable(directory, version, read_config(directory))
    return version


def write_json(path: Path, value: Any) -> None:
    checkpoint.write_atomic(path, (json.dumps(value, indent=2) + "\n").encode())


def provenance(directory: Path | None = None) -> dict[str, Any]:
    """Versions, commit, hardware and command: what a figure needs beside it; and where it was."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed[package] = None
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "directory": None if directory is None else str(directory.absolute()),
        "commit": git_commit(),
        "python": platform.python_version(),
        "packages": installed,
        "platform": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ranks": ranks.SIZE,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def git_commit() -> str | None:
    """The commit of the source tree, with ``+dirty`` where it has changes; None outside of one."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+dirty" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(where: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=where, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


# --------------------------------------------------------------------------------- loading policies


def newest(
    path: Path, device: torch.device, best: str | None = None
) -> tuple[Path, Path, dict[str, Any]]:
    """The run directory, checkpoint file and state that ``path`` (a run, or one of its files)
    stands for: a run's newest, or the one at which its team ``best`` was best (empty for its only
    team)."""
    if path.suffix == ".pt":
        return path.absolute().parent.parent, path, checkpoint.load(path, device)
    checkpoints = checkpoint.Checkpoints(path / "checkpoints")
    teams = read_config(path)["teams"]
    if best is None:
        return path, *checkpoints.load_last(device)
    if not best and len(teams) > 1:
        raise UserError(f"{str(path)!r} has several teams; say whose best: {', '.join(teams)}")
    team = best or next(iter(teams))
    if team not in teams:
        raise unknown("team", team, teams, where=f" in run {str(path)!r}")
    chosen = checkpoints.best(team)
    if chosen is None:
        raise UserError(f"{str(path)!r} holds no best checkpoint of team {team!r}")
    return path, chosen, checkpoint.load(chosen, device)


def load_policy(path: Path, source: str, target: Setting) -> Policy:
    """The policy of team ``source`` of an earlier run, for the groups of ``target``.

    Raises:
        UserError: no such run or team, networks of other shapes, or of other agents.
    """
    if not path.exists():
        raise UserError(
            f"there is no run or checkpoint file {str(path)!r}, whose policy a frozen team plays"
        )
    directory, _, state = newest(path, target.device)
    config = read_config(directory)
    teams: dict[str, Team] = config["teams"]
    if not source:
        names = [name for name, team in teams.items() if set(team.groups or []) == set(target.team)]
        source = names[0] if names else ""
    if source not in teams:
        raise unknown(
            "team", source or "/".join(target.team), teams, where=f" in run {str(path)!r}"
        )
    agents, version = config.get("agents"), versions.learning(config)
    return restore_policy(teams[source], state["teams"][source], target, path, agents, version)


def restore_policy(
    team: Team,
    state: Mapping[str, Any],
    target: Setting,
    path: Path,
    agents: Order | None,
    learning: int,
) -> Policy:
    """The policy in ``state``, for the groups of ``target``, where its run had these ``agents``
    (None for a run that does not tell) and learned by version ``learning``."""
    if "policy" not in state:
        raise UserError(f"the team of {str(path)!r} holds no policy to load")
    groups = {name: versions.as_seen(group, learning) for name, group in target.team.items()}
    target = replace(target, model=team.model, critic_model=team.critic_model, team=groups)
    policy = team.algorithm.policy(target)
    try:
        policy.load_state_dict(state["policy"])
    except RuntimeError:
        raise UserError(
            f"the policy of {str(path)!r} does not fit here: groups {list(target.team)} see or do "
            "something else than when it was trained"
        ) from None
    build = lambda groups: team.algorithm.policy(replace(target, team=groups))  # noqa: E731
    order.check_places(target.team, agents, path, build)
    policy.requires_grad_(False)
    return policy


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
        chosen = setting(env, name, team, Shape(), {}, generator(env.device, 0, "team", name))
        if "policy" in states[name]:
            policy = restore_policy(team, states[name], chosen, path, agents, learning)
            playing[name] = Scripted(policy, None)
        else:
            playing[name] = team.algorithm.build(chosen)
    return playing
