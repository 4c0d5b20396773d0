"""Actions of VMAS's agents, decoded to the forces and messages of its physics."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from marl.errors import UserError
from marl.types import ActionSpec, Continuous, Discrete, MultiDiscrete


def action_spec(space: Any) -> ActionSpec:
    """Returns the actions of a space of the old ``gym``, which VMAS uses.

    Raises:
        UserError: another kind of space.
    """
    kind = type(space).__name__
    if kind == "Box":
        return Continuous(tuple(space.low.tolist()), tuple(space.high.tolist()))
    if kind == "Discrete":
        return Discrete(int(space.n))
    if kind == "MultiDiscrete":
        return MultiDiscrete(tuple(int(n) for n in space.nvec))
    raise UserError(f"VMAS action space {space}: expected Box, Discrete or MultiDiscrete")


class GroupActions:
    """Applies a group's actions to its agents, in one tensor operation or two for all of them.

    Continuous actions are clamped to their bounds. For discrete ones the physics of each choice is
    computed once, in a table.

    Args:
        agents: VMAS's agents of the group.
        spec: their actions.
        world: VMAS's world.
    """

    def __init__(self, agents: list[Any], spec: ActionSpec, world: Any) -> None:
        channels, device = world.dim_c, world.device
        self._agents = agents
        self._talks = [channels > 0 and not agent.silent for agent in agents]
        self._noisy = any(agent.u_noise or (agent.c_noise and channels) for agent in agents)
        tables = zip(agents, self._talks, strict=True)
        if isinstance(spec, Continuous):
            self._low, self._high = (torch.tensor(b, device=device) for b in (spec.low, spec.high))
            scales = torch.stack([_scale(agent, channels * talks) for agent, talks in tables])
            self._scale = None if bool((scales == 1).all()) else scales.to(device)
            self._decode = self._continuous
            return
        nvec = spec.nvec if isinstance(spec, MultiDiscrete) else ()
        strides = [math.prod(nvec[k + 1 :]) for k in range(len(nvec))]
        self._strides = torch.tensor(strides, device=device) if nvec else None
        self._table = torch.stack([_table(a, channels * talks) for a, talks in tables]).to(device)
        self._rows = torch.arange(len(agents), device=device)[:, None]
        self._decode = self._discrete

    def apply(self, action: Tensor) -> None:
        """Sets ``agent.action.u`` and ``.c`` of every agent from ``action [B, N, *A]``."""
        decoded = self._decode(action)
        for agent, talks, values in zip(self._agents, self._talks, decoded, strict=True):
            if not talks:
                agent.action.u = values
            else:
                size = agent.action.action_size
                agent.action.u, agent.action.c = values[:, :size], values[:, size:]
            if self._noisy:
                _add_noise(agent, talks)

    def _continuous(self, action: Tensor) -> Tensor:
        """Returns forces and messages, ``[N, B, U + C]``, in new memory, for scenarios write to
        it."""
        bounded = torch.clamp(action.to(torch.float32), self._low, self._high)
        scaled = bounded if self._scale is None else bounded * self._scale
        return scaled.transpose(0, 1).contiguous()

    def _discrete(self, action: Tensor) -> Tensor:
        """Returns forces and messages, ``[N, B, U + C]``."""
        flat = action if self._strides is None else (action * self._strides).sum(-1)
        return self._table[self._rows, flat.transpose(0, 1)]


def _scale(agent: Any, channels: int) -> Tensor:
    """Returns the factors of the numbers of an agent's continuous action, ``[U + C]``."""
    return torch.cat([agent.action.u_multiplier_tensor.cpu(), torch.ones(channels)])


def _table(agent: Any, channels: int) -> Tensor:
    """Returns force and one-hot message of each flat choice, ``[n, U + C]``; the last choice varies
    fastest."""
    nvec = list(agent.discrete_action_nvec) + ([channels] if channels else [])
    choices = torch.cartesian_prod(*(torch.arange(n) for n in nvec)).reshape(-1, len(nvec))
    limits = agent.action.u_range_tensor.cpu()
    forces = [_force(choices[:, k], n, limits[k]) for k, n in enumerate(agent.discrete_action_nvec)]
    physical = torch.stack(forces, dim=-1) * agent.action.u_multiplier_tensor.cpu()
    if not channels:
        return physical
    return torch.cat([physical, torch.eye(channels)[choices[:, -1]]], dim=-1)


def _force(choice: Tensor, n: int, limit: Tensor) -> Tensor:
    """Returns the force of each choice: ``n`` evenly spaced ones within ``±limit``.

    Where ``n`` is odd, choice 0 is no force.
    """
    if n % 2:
        middle = n // 2
        choice = torch.where(choice == 0, middle, torch.where(choice <= middle, choice - 1, choice))
    return (choice / (n - 1)) * (2 * limit) - limit


def _add_noise(agent: Any, talks: bool) -> None:
    action = agent.action
    if action.u_noise:
        action.u = action.u + torch.randn(action.u.shape, device=action.u.device) * agent.u_noise
    if talks and agent.c_noise:
        action.c = action.c + torch.randn(action.c.shape, device=action.c.device) * agent.c_noise
