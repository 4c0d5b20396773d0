"""Physics of particle worlds, equal to mpe2's.

The E entities are the N agents, then the landmarks; only agents move. One step is 0.1 s. Colliding
bodies push each other apart by ``100 k log(1 + exp((reach - distance) / k))`` newtons, with k = 1
mm and reach the sum of their radii.
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
    """Properties of one entity.

    Attributes:
        name: of the agent or landmark.
        size: radius, in metres.
        collides: whether it pushes and is pushed.
        accel: force of a full action, in newtons.
        max_speed: limit, in metres per second; None for none.
        mass: in kilograms.
        moves: whether actions and pushes move it; landmarks never move.
        talks: whether it sends a message at every step.
        colour: for pictures.
    """

    name: str
    size: float = 0.05
    collides: bool = True
    accel: float = 5.0
    max_speed: float | None = None
    mass: float = 1.0
    moves: bool = True
    talks: bool = False
    colour: Colour = (0.35, 0.35, 0.85)


class Physics:
    """Motion and contacts of given bodies.

    Args:
        agents: the bodies that act.
        landmarks: the others.
        device: where positions are.
        dtype: of positions.
        legacy: whether bodies move with the new velocity, as in OpenAI's MPE, rather than with the
            old one, as in mpe2 (PettingZoo since 1.23).
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
        self._sizes = size.unsqueeze(-1) + size  # [E, E] distance at which two touch
        colliders = [i for i, body in enumerate(bodies) if body.collides]
        pushed = [i for i in colliders if i < len(agents)]
        self._has_contacts = bool(pushed) and len(colliders) > 1
        self._colliders = torch.tensor(colliders, device=device, dtype=torch.int64)
        self._reach = self._sizes[: len(agents), colliders]  # [N, C]
        # 0 for an agent that nothing can push, and for itself.
        strength = [
            [CONTACT_FORCE * CONTACT_MARGIN * (a in pushed and a != c) for c in colliders]
            for a in range(len(agents))
        ]
        self._strength = torch.tensor(strength, device=device, dtype=dtype)  # [N, C]
        inverse_mass = [[body.moves / body.mass] for body in agents]
        has_unit_mass = all(value == [1] for value in inverse_mass)
        inverse = torch.tensor(inverse_mass, device=device, dtype=dtype)
        self._inverse_mass = None if has_unit_mass else inverse
        limits = [torch.inf if b.max_speed is None else b.max_speed for b in agents]
        limited = any(body.max_speed is not None for body in agents)
        limit = torch.tensor(limits, device=device, dtype=dtype).unsqueeze(-1)
        self._max_speed = limit if limited else None  # [N, 1]

    def step(self, position: Tensor, velocity: Tensor, control: Tensor) -> tuple[Tensor, Tensor]:
        """Computes one step.

        Args:
            position: of all entities, ``[B, E, 2]``, metres.
            velocity: of the agents, ``[B, N, 2]``, metres per second.
            control: force of the agents' actions, ``[B, N, 2]``, newtons.

        Returns:
            Position and velocity a step later.
        """
        agents = velocity.shape[1]
        force = control + self.contact(position, agents) if self._has_contacts else control
        if self._inverse_mass is not None:
            force = force * self._inverse_mass
        new_velocity = self._limit_speed(velocity * (1 - DAMPING) + force * DT)
        new_position = position[:, :agents] + (new_velocity if self.legacy else velocity) * DT
        return torch.cat([new_position, position[:, agents:]], dim=1), new_velocity

    def contact(self, position: Tensor, agents: int) -> Tensor:
        """Computes the contact force on each agent; 0 between two bodies in one place.

        Args:
            position: of all entities, ``[B, E, 2]``, metres.
            agents: N.

        Returns:
            ``[B, N, 2]``, newtons.
        """
        delta = position[:, :agents, None] - position[:, None, self._colliders]  # [B, N, C, 2]
        distance = delta.square().sum(-1).sqrt()
        depth = F.softplus((self._reach - distance) / CONTACT_MARGIN)
        push = self._strength * depth / distance.clamp_min(1e-12)
        return (delta * push.unsqueeze(-1)).sum(2)

    def touching(self, position: Tensor, rows: slice, columns: slice) -> Tensor:
        """Returns which entities overlap; each overlaps itself too.

        Args:
            position: of all entities, ``[B, E, 2]``, metres.
            rows: R entities.
            columns: C entities.

        Returns:
            ``[B, R, C]`` bool.
        """
        distance = distances(position[:, rows], position[:, columns])
        return distance < self._sizes[rows, columns]

    def _limit_speed(self, velocity: Tensor) -> Tensor:
        """Returns velocities within each agent's maximum speed."""
        if self._max_speed is None:
            return velocity
        speed = velocity.square().sum(-1, keepdim=True).sqrt()
        return velocity * (self._max_speed / speed).clamp(max=1.0)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Computes all distances between two sets of points.

    Args:
        a: ``[B, R, 2]``, metres.
        b: ``[B, C, 2]``, metres.

    Returns:
        ``[B, R, C]``, metres.
    """
    return (a.unsqueeze(2) - b.unsqueeze(1)).square().sum(-1).sqrt()
