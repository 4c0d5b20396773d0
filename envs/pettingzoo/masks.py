"""Action masks of PettingZoo environments: where they are, and how they are written."""

from __future__ import annotations

from typing import Any

import numpy as np

from marl.errors import EnvironmentFault

MASK = "action_mask"


def find_mask(observation: Any, info: Any) -> Any:
    """Returns an agent's action mask, from its observation or else its info; None without one.

    Args:
        observation: what the agent observes; a dict may hold the mask.
        info: the agent's info, a dict or None.
    """
    if isinstance(observation, dict) and MASK in observation:
        return observation[MASK]
    return info.get(MASK) if info else None


def write_mask(value: Any, nvec: tuple[int, ...], out: np.ndarray) -> bool:
    """Writes a mask as flat booleans, True where an action is allowed.

    A choice without an allowed action gets all of them, for a softmax needs one.

    Args:
        value: the environment's mask; None allows everything.
        nvec: number of actions of each choice.
        out: where it is written, ``[sum(nvec)]``.

    Returns:
        False where some choice had no allowed action.

    Raises:
        EnvironmentFault: the mask has another number of entries.
    """
    if value is None:
        out[...] = True
        return True
    if isinstance(value, list | tuple):  # one mask per choice, of different lengths
        value = np.concatenate([np.ravel(part) for part in value])
    if np.size(value) != out.size:
        raise EnvironmentFault(
            f"an action mask has {np.size(value)} entries; expected {out.size}, one for each choice"
        )
    out[...] = np.ravel(value) != 0
    offset, possible = 0, True
    for n in nvec:
        part = out[offset : offset + n]
        if not part.any():
            part[...], possible = True, False
        offset += n
    return possible
