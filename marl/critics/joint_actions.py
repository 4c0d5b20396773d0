"""Joint actions in which some agents act anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor

#: Group -> encoded actions ``[..., N, A]``.
Actions: TypeAlias = Mapping[str, Tensor]


def joint_actions(fresh: Actions, base: Actions) -> dict[str, Tensor]:
    """Returns for every agent the joint action in which it plays ``fresh`` and all others ``base``.

    Args:
        fresh: ``[..., N, A]`` by group; H counts the agents of these groups.
        base: ``[..., N, A]`` by group, or ``[..., H, N, A]`` with a joint action for each agent.
            Groups that ``fresh`` lacks always play ``base``.

    Returns:
        ``[..., H, N, A]`` by group.
    """
    first, total = {}, 0
    for name, action in fresh.items():
        first[name] = total
        total += action.shape[-2]
    joint = {}
    for name, action in base.items():
        spread = action
        if action.dim() == next(iter(fresh.values())).dim():
            spread = action.unsqueeze(-3)
            spread = spread.expand(*spread.shape[:-3], total, *spread.shape[-2:])
        if name in fresh:
            agents = torch.arange(action.shape[-2], device=action.device) + first[name]
            same = torch.arange(total, device=action.device).unsqueeze(-1) == agents  # [H, N]
            spread = torch.where(same.unsqueeze(-1), fresh[name].unsqueeze(-3), spread)
        joint[name] = spread
    return joint


def replace_action(actions: Actions, group: str, row: int, action: Tensor) -> dict[str, Tensor]:
    """Returns joint actions with one agent's action replaced.

    Args:
        actions: ``[M, N, A]`` by group.
        group: the agent's group.
        row: the agent's index in its group.
        action: the agent's action, ``[M, 1, A]``.
    """
    team = actions[group]
    changed = torch.cat([team[:, :row], action, team[:, row + 1 :]], dim=1).contiguous()
    return {**actions, group: changed}
