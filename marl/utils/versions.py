"""Versions of learning: which numbers a run's settings lead to. Importable without torch.

``config.json`` and every checkpoint of a run name the version that it learns by; where the key is
absent it is 1. Policies of every version play as they did. A version is raised by whatever changes
what the same settings and seed learn, and records of different versions are never averaged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marl.errors import UserError
from marl.utils.capabilities import needs_replay

if TYPE_CHECKING:
    from marl.types import AgentGroup

# 1  Up to commit a3ab744.
# 2  Off policy: losses, entropies and beliefs leave out dead agents, and critics read actions, and
#    entropies are counted, in [-1, 1] whatever the bounds of the action space. PettingZoo: what an
#    agent is paid after it left counts, and an agent truncated alone bootstraps from its own last
#    observation; kinds of agents make teams whatever the case of their letters. Value
#    normalisation preserves the differences of the critic's values when its moments move. Images
#    are scaled by the bounds of their space, and those of floats go through convolutions.
LEARNING = 2
LAST_OF = {1: "commit a3ab744"}  # where a run of an older version goes on

# Batched environments in which nobody dies, is truncated alone or sees images, and whose vectors of
# actions lie in [-1, 1] (elsewhere the entropy that is logged is another).
UNCHANGED_SINCE_1 = (
    "games/", "mpe/", "navigation/", "vmas/balance", "vmas/navigation", "vmas/transport",
)  # fmt: skip


def learning(config: Mapping[str, Any]) -> int:
    """Returns the version that a configuration or a checkpoint names."""
    return int(config.get("learning", 1))


def learning_of(folder: Path) -> int:
    """Returns the version of a run's or a record's folder; the current one where its
    ``config.json`` cannot be read, which whoever reads it whole reports."""
    try:
        return learning(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return LEARNING


def check_resumable(directory: Path, version: int, config: Mapping[str, Any]) -> None:
    """Checks that a run of ``version`` with the configuration ``config`` (its objects) learns the
    same under the current version.

    Raises:
        UserError: it would not.
    """
    if version == LEARNING or (version == 1 and same_in_1_and_2(config)):
        return
    where = f"resume it with {LAST_OF[version]}" if version in LAST_OF else "update marl"
    raise UserError(
        f"{str(directory)!r} learns by version {version} and this is version {LEARNING}, under "
        f"which it would go on to other results; {where}, or train it anew (marl evaluate plays it "
        "as ever)"
    )


def as_seen(group: AgentGroup, version: int) -> AgentGroup:
    """Returns the group with its observation as networks of ``version`` read it: in 1 images of
    bytes as numbers of 0 to 255, whatever their bounds, and other images as no images."""
    seen = group.observation
    return group if version > 1 else replace(group, observation=type(seen)(seen.shape, seen.dtype))


def same_in_1_and_2(config: Mapping[str, Any]) -> bool:
    """Returns whether nothing that the run uses was changed by version 2: every team learns on
    policy without value normalisation, in an environment that the list above vouches for."""
    task = str(getattr(config["task"], "name", ""))
    other_units = getattr(config["task"], "kwargs", {}).get("continuous_actions", False)
    return (
        task.startswith(UNCHANGED_SINCE_1)
        and not other_units
        and all(
            getattr(team.algorithm, "normalize_value", None) is False
            and not needs_replay(team.algorithm)
            for team in config["teams"].values()
        )
    )
