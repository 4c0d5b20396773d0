"""Loading the policies of a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from marl.algorithm import Context
from marl.errors import UserError, unknown
from marl.policies.base import Policy
from marl.training import agent_order, checkpoint
from marl.training.agent_order import Order
from marl.training.run_directory import read_config
from marl.training.teams import Team
from marl.utils import versions


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


def load_policy(path: Path, source: str, target: Context) -> Policy:
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
    target: Context,
    path: Path,
    agents: Order | None,
    learning: int,
) -> Policy:
    """The policy in ``state``, for the groups of ``target``, where its run had these ``agents``
    (None for a run that does not tell) and learned by version ``learning``."""
    if "policy" not in state:
        raise UserError(f"the team of {str(path)!r} holds no policy to load")
    groups = {name: versions.observed_group(group, learning) for name, group in target.team.items()}
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
    agent_order.check_places(target.team, agents, path, build)
    policy.requires_grad_(False)
    return policy
