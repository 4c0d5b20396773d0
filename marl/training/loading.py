"""Loading of policies from run directories and checkpoint files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from marl.algorithm import Context
from marl.errors import UserError, unknown
from marl.policies.base import Policy
from marl.training import agent_order, checkpoint, policy_file, zoo
from marl.training.agent_order import Order
from marl.training.run_directory import read_config
from marl.training.teams import Team
from marl.utils import versions


def load_checkpoint(
    path: Path, device: torch.device, best: str | None = None
) -> tuple[Path, Path, dict[str, Any]]:
    """Loads a checkpoint of a run, or the policies of a record.

    Args:
        path: a run directory, one of its checkpoint files, a policy file (``policy_file``), a
            record that holds one, or a name of the zoo.
        device: where the tensors are to be.
        best: of a directory, loads the checkpoint at which this team was best, empty for its only
            team; None for the newest checkpoint.

    Returns:
        The run directory, the checkpoint file and its state.

    Raises:
        UserError: the run, the team or the checkpoint does not exist, or the team is not named and
            the run has several.
    """
    if path.suffix == ".pt":
        return directory_of(path), path, checkpoint.load(path, device)
    if file := policies_of(path):
        return file.parent, file, _load_policies(file, device, best)
    checkpoints = checkpoint.Checkpoints(path / "checkpoints")
    teams = read_config(path)["teams"]
    if best is None:
        return path, *checkpoints.load_last(device)
    if not best and len(teams) > 1:
        raise UserError(
            f"{str(path)!r} has several teams; name the one whose best checkpoint is meant: "
            f"{', '.join(teams)}"
        )
    team = best or next(iter(teams))
    if team not in teams:
        raise unknown("team", team, teams, where=f" in run {str(path)!r}")
    file = checkpoints.best(team)
    if file is None:
        raise UserError(f"{str(path)!r} holds no best checkpoint of team {team!r}")
    return path, file, checkpoint.load(file, device)


def policies_of(path: Path) -> Path | None:
    """Returns the policy file that ``path`` means: a name of the zoo, the file itself, or a record
    that holds one; None of runs and their checkpoints.

    Raises:
        UserError: the zoo has no such policy.
    """
    if zoo.is_name(path):
        return zoo.find(path)
    if path.suffix == ".safetensors":
        return path
    file = path / policy_file.NAME
    return file if file.is_file() and not (path / "checkpoints").is_dir() else None


def _load_policies(file: Path, device: torch.device, best: str | None) -> dict[str, Any]:
    """Loads a policy file; teams that are not in it did not learn."""
    state = policy_file.read(file, device)
    if best and best not in state["teams"]:
        raise unknown("team", best, state["teams"], where=f" in {str(file)!r}")
    specs = read_config(file.parent)["teams"]
    policy_file.check_beside(file, state, specs)
    others = {name: {} for name in specs}
    return {**state, "teams": others | state["teams"]}


def named_checkpoint(
    path: Path, word: str, team: str, device: torch.device
) -> tuple[Path, dict[str, Any]]:
    """Loads the checkpoint of a run that a word names; every rank reads rank 0's file.

    Args:
        path: a run directory, or what else ``load_checkpoint`` takes.
        word: of a directory: ``best``, the team's best checkpoint, or the newest if it has none;
            ``last``, the newest that is intact; or the name of a file in ``checkpoints/``.
        team: name of the team.
        device: where the tensors are to be.

    Returns:
        The checkpoint file and its state.

    Raises:
        UserError: the checkpoint does not exist, or is corrupt.
    """
    if path.suffix == ".pt":
        return path, checkpoint.load(path, device)
    if file := policies_of(path):
        if word != "best":
            raise UserError(
                f"{str(path)!r} holds best policies only; leave out checkpoint={word!r}"
            )
        return file, _load_policies(file, device, None)
    checkpoints = checkpoint.Checkpoints(path / "checkpoints")
    if word == "best" and (best := checkpoints.best(team)):
        return best, checkpoint.load(best, device)
    if word in ("best", "last"):
        return checkpoints.load_newest(device)
    file = path / "checkpoints" / word
    if not file.exists():
        known = sorted(p.name for p in file.parent.glob("*.pt"))
        raise unknown("checkpoint", word, ["best", "last", *known], where=f" of {str(path)!r}")
    return file, checkpoint.load(file, device)


def directory_of(path: Path) -> Path:
    """Returns the run directory or record of ``path``, which is one, one of its files, or a name
    of the zoo."""
    if file := policies_of(path):
        return file.parent
    return path.absolute().parent.parent if path.suffix == ".pt" else path


def load_policy(path: Path, source: str, target: Context) -> Policy:
    """Loads the policy of one team of an earlier run.

    Args:
        path: a run directory, or one of its checkpoint files.
        source: name of the team; empty for the one with the groups of ``target``.
        target: context that the policy is to play in.

    Raises:
        UserError: the run or the team does not exist, or its policy has networks of other shapes or
            learned for other agents.
    """
    if not path.exists() and not zoo.is_name(path):
        raise UserError(
            f"run or checkpoint file {str(path)!r} of a frozen team does not exist; give the path "
            "of a run directory or of one of its checkpoint files"
        )
    directory, _, state = load_checkpoint(path, target.device)
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
    """Builds a policy and restores it from a checkpoint; its parameters are frozen.

    Args:
        team: the team of the earlier run.
        state: the team's state in the checkpoint.
        target: context that the policy is to play in.
        path: the run or checkpoint, for errors.
        agents: the order of agents that the run recorded; None if it has no record.
        learning: version of learning of the run (``marl.utils.versions``).

    Raises:
        UserError: the state holds no policy, or one that does not fit the groups of ``target``.
    """
    if "policy" not in state:
        raise UserError(f"the team of {str(path)!r} holds no policy to load")
    groups = {name: versions.observed_group(group, learning) for name, group in target.team.items()}
    target = replace(target, model=team.model, critic_model=team.critic_model, team=groups)
    policy = team.algorithm.policy(target)
    try:
        policy.load_state_dict(state["policy"])
    except RuntimeError:
        raise UserError(
            f"the policy of {str(path)!r} does not fit here: groups {list(target.team)} have other "
            "observations or actions than when it was trained"
        ) from None
    build = lambda groups: team.algorithm.policy(replace(target, team=groups))  # noqa: E731
    agent_order.check_places(target.team, agents, path, build)
    policy.requires_grad_(False)
    return policy
