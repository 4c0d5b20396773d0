"""The physics of particle worlds, equal to mpe2's: ``[B, E, 2]`` in, ``[B, E, 2]`` out.

Entities are the agents, ``N``, then the landmarks; only agents move. One step is 0.1 s. Colliders
push each other apart by ``100 k log(1 + exp((reach - distance) / k))`` N with k = 1 mm, reach being
the sum of their radii.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DT = 0.1  # seconds of a step
DAMPING = 0.25  # share of the velocity lost in a step
CONTACT_FORCE = 100.0
CONTACT_MARGIN = 1e-3  # metres

Colour = tuple[float, float, float]  # red, green and blue, 0 to 1


@dataclass(frozen=True)
class Body:
    """What one entity is made of."""

    name: str
    size: float = 0.05  # radius, metres
    collides: bool = True
    accel: float = 5.0  # newtons of a full action
    max_speed: float | None = None  # metres per second
    mass: float = 1.0  # kilograms
    moves: bool = True  # a landmark never does
    talks: bool = False  # sends a message at every step
    colour: Colour = (0.35, 0.35, 0.85)


class Physics:
    """How these bodies move, on one device and in one precision.

    ``legacy`` is the order of OpenAI's MPE, which moves with the new velocity; mpe2 (PettingZoo
    since 1.23) moves with the old one.
    """

    def __init__(
        self,
        agents: Sequence[Body],
        landmarks: Sequence[Body],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        legacy: bool = False,
    ):
        bodies = [*agents, *landmarks]
        self.legacy = legacy
        size = torch.tensor([body.size for body in bodies], device=device, dtype=dtype)
        self._sizes = size.unsqueeze(-1) + size  # [E, E] the distance of two that touch
        colliders = [i for i, body in enumerate(bodies) if body.collides]
        pushed = [i for i in colliders if i < len(agents)]
        self._in_touch = bool(pushed) and len(colliders) > 1
        self._colliders = torch.tensor(colliders, device=device, dtype=torch.int64)
        self._reach = self._sizes[: len(agents), colliders]  # [N, C]
        # 0 for an agent that nothing can push, and for itself.
        strength = [
            [CONTACT_FORCE * CONTACT_MARGIN * (a in pushed and a != c) for c in colliders]
            for a in range(len(agents))
        ]
        self._strength = torch.tensor(strength, device=device, dtype=dtype)  # [N, C]
        yields = [[body.moves / body.mass] for body in agents]  # acceleration by a force
        plain = all(share == [1] for share in yields)
        self._yields = None if plain else torch.tensor(yields, device=device, dtype=dtype)
        limits = [torch.inf if b.max_speed is None else b.max_speed for b in agents]
        limited = any(body.max_speed is not None for body in agents)
        limit = torch.tensor(limits, device=device, dtype=dtype).unsqueeze(-1)
        self._max_speed = limit if limited else None  # [N, 1]

    def step(self, position: Tensor, velocity: Tensor, control: Tensor) -> tuple[Tensor, Tensor]:
        """Entities' ``position [B, E, 2]``, agents' ``velocity`` and ``control [B, N, 2]``
        (newtons) to position and velocity a step later."""
        agents = velocity.shape[1]
        force = control + self.contact(position, agents) if self._in_touch else control
        if self._yields is not None:
            force = force * self._yields
        new_velocity = self._bounded(velocity * (1 - DAMPING) + force * DT)
        moved = position[:, :agents] + (new_velocity if self.legacy else velocity) * DT
        return torch.cat([moved, position[:, agents:]], dim=1), new_velocity

    def contact(self, position: Tensor, agents: int) -> Tensor:
        """The force of all colliders on each agent, ``[B, N, 2]``; 0 between two in one place."""
        delta = position[:, :agents, None] - position[:, None, self._colliders]  # [B, N, C, 2]
        distance = delta.square().sum(-1).sqrt()
        depth = F.softplus((self._reach - distance) / CONTACT_MARGIN)
        push = self._strength * depth / distance.clamp_min(1e-12)
        return (delta * push.unsqueeze(-1)).sum(2)

    def touching(self, position: Tensor, rows: slice, columns: slice) -> Tensor:
        """Whether entities ``rows`` overlap ``columns``, ``[B, R, C]``; each itself too."""
        apart = distances(position[:, rows], position[:, columns])
        return apart < self._sizes[rows, columns]

    def _bounded(self, velocity: Tensor) -> Tensor:
        if self._max_speed is None:
            return velocity
        speed = velocity.square().sum(-1, keepdim=True).sqrt()
        return velocity * (self._max_speed / speed).clamp(max=1.0)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """``[B, R, 2]`` and ``[B, C, 2]`` to ``[B, R, C]``, metres."""
    return (a.unsqueeze(2) - b.unsqueeze(1)).square().sum(-1).sqrt()
