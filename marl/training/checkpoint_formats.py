"""Formats of checkpoints, and readers of older ones.

Each checkpoint names its format. One reader for each older format converts it to the next one, so
that all other code knows the newest format only.

A state dict that renames, drops or adds a key needs a new format from the first release that writes
it: raise ``FORMAT`` and add a reader. Lists of tensors (the replay's storage, the collector's
observations) are in the order of the fields of their classes, and names of random streams never
change: a reader could convert neither.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from marl.errors import UserError

State = dict[str, Any]

# 1  Without a number. Written up to commit cfe369c.
# 2  Keys ``actor_stats`` and ``opponent_models``. Entries that the first versions did not write
#    (the version of learning, self-play, the names of metrics) always exist.
FORMAT = 2


def read(state: State, path: Path) -> State:
    """Returns a checkpoint's state in the newest format.

    Args:
        state: the state as it was written; changed in place.
        path: the checkpoint's file, for the error.

    Raises:
        UserError: a newer version of marl wrote the checkpoint, in a newer format.
    """
    number = state.get("format", 1)
    if number > FORMAT:
        raise UserError(
            f"checkpoint {str(path)!r} has format {number}, and this version of marl reads formats "
            f"up to {FORMAT}; update marl"
        )
    for older in range(number, FORMAT):
        READERS[older](state)
    state["format"] = FORMAT
    return state


def _read_1(state: State) -> None:
    """Converts format 1 to format 2."""
    state.setdefault("learning", 1)
    # Where this is missing, self-play was not used, and its random stream begins at its first use.
    random = torch.Generator().get_state()
    state.setdefault("selfplay", {"pools": {}, "turn": 0, "next": 0, "random": random})
    state.get("collector", {}).setdefault("info", [])
    state.get("evaluations", {}).setdefault("metrics", [])
    for team in state.get("teams", {}).values():
        rename(
            team,
            told="actor_stats",
            believed="opponent_models",
            believed_target="target_opponent_models",
            inference_optimizer="opponent_models_optimizer",
        )
        if "value_norm" in team:  # on-policy
            team.setdefault("auxiliaries", {})


def rename(state: State, **names: str) -> None:
    """Renames those keys of a state that exist, in place.

    Args:
        state: the state.
        names: new name by old name.
    """
    for old, new in names.items():
        if old in state:
            state[new] = state.pop(old)


READERS: dict[int, Callable[[State], None]] = {1: _read_1}  # format -> converts it to the next
