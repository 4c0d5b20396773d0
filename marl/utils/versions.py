"""Versions of learning. Importable without torch.

A version stands for the numbers that the same settings and the same seed lead to: any change of
them raises it. ``config.json`` and every checkpoint of a run name the version that the run learns
by; where the key is absent it is 1. Policies of every version play as they did when they were
trained, and records of different versions are never averaged.
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
#: The last release of each older version, with which its runs can be resumed.
LAST_OF = {1: "commit a3ab744"}

# Batched environments in which no agent dies, is truncated alone or observes images, and whose
# vectors of actions lie in [-1, 1] (elsewhere another entropy is logged).
UNCHANGED_SINCE_1 = (
    "games/", "mpe/", "navigation/", "vmas/balance", "vmas/navigation", "vmas/transport",
)  # fmt: skip


def learning(config: Mapping[str, Any]) -> int:
    """Returns the version of learning that a configuration or a checkpoint names."""
    return int(config.get("learning", 1))


def learning_of(folder: Path) -> int:
    """Returns the version of learning of the run or record in a folder.

    It is the current one if ``config.json`` cannot be read; loading the run reports that error.
    """
    try:
        return learning(json.loads((folder / "config.json").read_text()))
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return LEARNING


def check_resumable(directory: Path, version: int, config: Mapping[str, Any]) -> None:
    """Checks that a run learns the same under the current version of learning.

    Args:
        directory: the run directory.
        version: the run's version of learning.
        config: the run's configuration, as objects.

    Raises:
        UserError: it would learn something else.
    """
    if version == LEARNING or (version == 1 and same_in_1_and_2(config)):
        return
    remedy = f"resume it with {LAST_OF[version]}" if version in LAST_OF else "update marl"
    raise UserError(
        f"{str(directory)!r} learns by version {version} and this is version {LEARNING}, under "
        f"which it would reach other results; {remedy}, or train it again (marl evaluate plays "
        "its policies as before)"
    )


def observed_group(group: AgentGroup, version: int) -> AgentGroup:
    """Returns the group with its observation as networks of a version of learning read it.

    In version 1 images of bytes are numbers of 0 to 255, whatever their bounds, and other images
    are no images.

    Args:
        group: the group, as the environment describes it.
        version: the version of learning.
    """
    spec = group.observation
    return group if version > 1 else replace(group, observation=type(spec)(spec.shape, spec.dtype))


def same_in_1_and_2(config: Mapping[str, Any]) -> bool:
    """Returns whether nothing that a run uses was changed by version 2 of learning.

    This holds if every team learns on-policy without value normalisation, in an environment of
    ``UNCHANGED_SINCE_1``.

    Args:
        config: the run's configuration, as objects.
    """
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
