"""Trained policies as one small file, ``policy.safetensors``: the best one of each team of a run.

It holds what acting needs: the weights by name, ``TEAM/PARAMETER``, and beside them the frames of
each team's checkpoint and the groups of the environment. The configuration stays in ``config.json``
beside it. Like a checkpoint, it is read without executing code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from marl.errors import UserError
from marl.training import checkpoint_formats
from marl.training.checkpoint import CorruptCheckpoint
from marl.training.checkpoint_formats import FORMAT, State
from marl.training.teams import Team
from marl.utils.files import write_atomic

NAME = "policy.safetensors"
#: Key of the file's metadata with what is not a tensor.
ABOUT = "marl"


def write(
    path: Path,
    states: Mapping[str, State],
    spaces: Mapping[str, Any],
    specs: Mapping[str, Team],
) -> None:
    """Writes the policies of a run, atomically.

    Args:
        path: the file.
        states: state of each team's best checkpoint, by team.
        spaces: the environment's groups (``stored_groups.groups_to_plain``).
        specs: the teams, whose algorithms are named in the file.
    """
    from safetensors.torch import save

    policies = {name: state["teams"][name].get("policy", {}) for name, state in states.items()}
    tensors = {
        _prefix(team) + name: tensor.detach().cpu().contiguous()
        for team, policy in policies.items()
        for name, tensor in policy.items()
    }
    about = {
        "format": FORMAT,
        "frames": {name: state["frames"] for name, state in states.items()},
        "spaces": spaces,
        "algorithms": {name: type(specs[name].algorithm).__name__ for name in states},
    }
    # One key, for safetensors writes several in a random order, and equal runs leave equal files.
    write_atomic(path, save(tensors, {ABOUT: json.dumps(about)}))


def check_beside(path: Path, state: State, specs: Mapping[str, Team]) -> None:
    """Checks that a policy file lies beside the configuration that it was trained with.

    Args:
        path: the file.
        state: what ``read`` returned.
        specs: the teams of the configuration.

    Raises:
        UserError: other algorithms trained it.
    """
    for name, kind in state["algorithms"].items():
        here = type(specs[name].algorithm).__name__ if name in specs else "nothing"
        if here != kind:
            raise UserError(
                f"{str(path)!r} holds what {kind} has trained of team {name!r}, and config.json "
                f"beside it is of {here}; keep the file with its own config.json"
            )


def read(path: Path, device: torch.device) -> State:
    """Returns what ``write`` was given, like the state of a checkpoint.

    Args:
        path: the file.
        device: where the tensors are to be.

    Returns:
        The state, with ``teams``, ``frames`` of the newest team's checkpoint, ``frames_by_team``,
        and ``spaces``.

    Raises:
        CorruptCheckpoint: the file is damaged, or not one of marl's.
        UserError: the file does not exist, or a newer version of marl wrote it.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(f"policy file {str(path)!r} does not exist")
    try:
        with safe_open(path, "pt", device="cpu") as file:
            about = json.loads((file.metadata() or {})[ABOUT])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state = _state(about, tensors, device)
    except (SafetensorError, OSError, LookupError, ValueError, TypeError, AttributeError,
            RecursionError):  # fmt: skip
        raise CorruptCheckpoint(
            f"{str(path)!r} is not a policy file of this program, or it is damaged"
        ) from None
    return checkpoint_formats.read(state, path)


def _state(about: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> State:
    frames = {team: int(count) for team, count in about["frames"].items()}
    return {
        "format": int(about["format"]),
        "frames": max(frames.values()),
        "frames_by_team": frames,
        "spaces": about["spaces"],
        "teams": {team: {"policy": _policy(tensors, _prefix(team), device)} for team in frames},
        "algorithms": dict(about.get("algorithms", {})),
    }


def _policy(tensors: Mapping[str, Tensor], prefix: str, device: torch.device) -> State:
    return {
        name.removeprefix(prefix): tensor.to(device)
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _prefix(team: str) -> str:
    return f"{quote(team, safe='')}/"
