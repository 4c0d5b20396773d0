"""``mpe/simple_formation`` and ``mpe/simple_line``: agents stand on a circle, or on a line.

- **Task**: N agents take N places, evenly on the circle of 0.5 m around a landmark, from the
  smallest angle of an agent on; or evenly on the line between two landmarks 1.25 m apart, the ends
  taken too. In every step agents are matched with places so that the sum of the distances is least.
- **Agents**: ``agent_0`` to ``agent_{N-1}``.
- **Observation**, ``[6]`` of the circle, ``[8]`` of the line: 0 and 1 velocity, 2 and 3 position,
  from 4 on the offset to each landmark.
- **Actions**: the five moves (``marl.envs.particle.env``).
- **Reward**, shared: minus the mean distance of the agents to their places, each at most 2 m.

Source: mpe2's ``simple_formation_v1`` and ``simple_line_v1``; no differences but those of all
particle worlds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count
from marl.envs.particle.matching import match
from marl.envs.particle.physics import Body, distances
from marl.envs.particle.scenario import Outcome, Scenario, State, offsets

IN_PLACE = 0.05  # metres within which an agent is at its place
MAX_DISTANCE = 2.0  # metres beyond which a distance costs no more
RADIUS = 0.5  # of the circle, metres
LENGTH = 1.25  # of the line, metres
GREY = (0.25, 0.25, 0.25)


class Shape(Scenario):
    """Base class of the two shapes; the module describes them.

    Args:
        N: number of agents.
        terminate_on_success: whether an episode ends where all agents are within 0.05 m of their
            places.

    Raises:
        UserError: ``N`` is no whole number of at least 1.
    """

    #: Radius of an agent, metres.
    size: float
    measures: ClassVar = {
        "distance": "mean",  # to the matched places, averaged over agents, metres
        "in_place": "last",  # share of the agents within 0.05 m of theirs
    }

    def __init__(self, N: int = 4, terminate_on_success: bool = False) -> None:
        check_count("N", N)
        self.terminates = terminate_on_success
        self.agents = [Body(f"agent_{i}", size=self.size) for i in range(N)]

    def targets(self, state: State) -> Tensor:
        """Returns the places to take, ``[B, N, 2]``, metres."""
        raise NotImplementedError

    def observe(self, state: State) -> Tensor:
        agents, landmarks = self.places(state)
        return torch.cat([state.velocity, agents, offsets(agents, landmarks).flatten(2)], dim=-1)

    def outcome(self, state: State) -> Outcome:
        agents, _ = self.places(state)
        cost = distances(agents, self.targets(state))
        distance = cost.gather(2, match(cost).unsqueeze(-1)).squeeze(-1)  # [B, N]
        reward = -distance.clamp(max=MAX_DISTANCE).mean(-1, keepdim=True)
        in_place = distance < IN_PLACE
        return Outcome(
            reward.expand(-1, len(self.agents)),
            (distance.mean(-1), in_place.float().mean(-1)),
            in_place.all(-1) if self.terminates else None,
        )


class SimpleFormation(Shape):
    """Agents evenly on the circle of 0.5 m around a landmark."""

    size = 0.05
    landmarks = (Body("landmark_0", 0.03, collides=False, moves=False, colour=GREY),)
    landmark_range = 0.5

    def targets(self, state: State) -> Tensor:
        return circle(*self.places(state), RADIUS)


class SimpleLine(Shape):
    """Agents evenly on the line between two landmarks 1.25 m apart."""

    size = 0.03
    landmarks = tuple(
        Body(f"landmark_{i}", 0.02, collides=False, moves=False, colour=GREY) for i in range(2)
    )

    def start(self, noise: Tensor) -> State:
        state = super().start(noise)
        agents, uniform = self.places(state)
        return replace(state, position=torch.cat([agents, line_ends(uniform)], dim=1))

    def targets(self, state: State) -> Tensor:
        return between(self.places(state)[1], len(self.agents))


def circle(agents: Tensor, middle: Tensor, radius: float) -> Tensor:
    """Returns places evenly on a circle, the first at the smallest angle of an agent.

    Args:
        agents: positions, one for each place, ``[B, N, 2]``, metres.
        middle: of the circle, ``[B, 1, 2]``, metres.
        radius: metres.

    Returns:
        ``[B, N, 2]``, metres.
    """
    x, y = (agents - middle).unbind(-1)
    first = torch.remainder(torch.atan2(y, x), 2 * math.pi).amin(-1, keepdim=True)
    count = agents.shape[1]
    step = torch.arange(count, device=x.device, dtype=x.dtype) * (2 * math.pi / count)
    angle = first + step  # [B, N]
    return middle + radius * torch.stack([angle.cos(), angle.sin()], dim=-1)


def between(ends: Tensor, count: int) -> Tensor:
    """Returns places evenly on a line, its ends included.

    Args:
        ends: ``[B, 2, 2]``, metres.
        count: how many places.

    Returns:
        ``[B, count, 2]``, metres.
    """
    share = torch.arange(count, device=ends.device) / max(count - 1, 1)
    first, second = ends[:, :1], ends[:, 1:]
    return first + share.to(ends).unsqueeze(-1) * (second - first)


def line_ends(uniform: Tensor) -> Tensor:
    """Returns two ends 1.25 m apart within the square from -1 to 1.

    The first lies near the middle; the second lies in a random direction, turned by five degrees
    until it is in the square.

    Args:
        uniform: random numbers in [-1, 1), ``[B, 2, 2]``.

    Returns:
        ``[B, 2, 2]``, metres.
    """
    first = uniform[:, :1] * 0.25
    degrees = torch.arange(0, 360, 5, device=uniform.device, dtype=uniform.dtype)
    angle = math.pi * (uniform[:, 1:, :1] + 1) + torch.deg2rad(degrees)  # [B, 1, 72]
    candidates = first.unsqueeze(2) + LENGTH * torch.stack([angle.cos(), angle.sin()], dim=-1)
    inside = (candidates.abs() < 1).all(-1).to(torch.uint8).argmax(-1)  # the first, [B, 1]
    second = candidates.squeeze(1).gather(1, inside.unsqueeze(-1).expand(-1, -1, 2))
    return torch.cat([first, second], dim=1)
