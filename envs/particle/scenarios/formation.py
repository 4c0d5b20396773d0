"""Agents stand in a shape: on a circle around a landmark, or on the line between two. Each is
matched with one place, so that the sum of the distances is least."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count
from marl.envs.particle.matching import match
from marl.envs.particle.physics import Body, distances
from marl.envs.particle.scenario import Outcome, Scenario, State, ways

IN_PLACE = 0.05  # metres
FARTHEST = 2.0  # metres beyond which a distance costs no more
RADIUS = 0.5  # of the circle, metres
LENGTH = 1.25  # of the line, metres
GREY = (0.25, 0.25, 0.25)


class RunShape(Scenario):
    """All earn minus the mean distance of the ``N`` agents to their places, each at most 2 m. They
    see their own velocity and place and where the landmarks are. An end by success, where it is
    asked for, needs everyone within 0.05 m of a place."""

    size: float  # of an agent, metres
    measures: ClassVar = {
        "distance": "mean",  # to the matched places, averaged over agents, metres
        "in_place": "last",  # share of the agents within 0.05 m of theirs
    }

    def __init__(self, N: int = 4, terminate_on_success: bool = False) -> None:
        check_count("N", N)
        self.ends = terminate_on_success
        self.agents = [Body(f"agent_{i}", size=self.size) for i in range(N)]

    def targets(self, state: State) -> Tensor:
        """The places to be taken, ``[B, N, 2]``."""
        raise NotImplementedError

    def observe(self, state: State) -> Tensor:
        agents, landmarks = self.places(state)
        return torch.cat([state.velocity, agents, ways(agents, landmarks).flatten(2)], dim=-1)

    def outcome(self, state: State) -> Outcome:
        agents, _ = self.places(state)
        cost = distances(agents, self.targets(state))
        away = cost.gather(2, match(cost).unsqueeze(-1)).squeeze(-1)  # [B, N]
        reward = -away.clamp(max=FARTHEST).mean(-1, keepdim=True)
        there = away < IN_PLACE
        measures = (away.mean(-1), there.float().mean(-1))
        return Outcome(
            reward.expand(-1, len(self.agents)), measures, there.all(-1) if self.ends else None
        )


class SimpleFormation(RunShape):
    """Evenly on the circle of 0.5 m around a landmark, from the smallest angle of an agent on."""

    size = 0.05
    landmarks = (Body("landmark_0", 0.03, collides=False, moves=False, colour=GREY),)
    landmark_range = 0.5

    def targets(self, state: State) -> Tensor:
        return circle(*self.places(state), RADIUS)


class SimpleLine(RunShape):
    """Evenly on the line between two landmarks 1.25 m apart, the ends taken too."""

    size = 0.03
    landmarks = tuple(
        Body(f"landmark_{i}", 0.02, collides=False, moves=False, colour=GREY) for i in range(2)
    )

    def start(self, noise: Tensor) -> State:
        state = super().start(noise)
        agents, drawn = self.places(state)
        return replace(state, position=torch.cat([agents, line_ends(drawn)], dim=1))

    def targets(self, state: State) -> Tensor:
        return between(self.places(state)[1], len(self.agents))


def circle(agents: Tensor, middle: Tensor, radius: float) -> Tensor:
    """As many places as ``agents [B, N, 2]``, evenly on the circle around ``middle [B, 1, 2]``, the
    first at the smallest angle of an agent."""
    x, y = (agents - middle).unbind(-1)
    first = torch.remainder(torch.atan2(y, x), 2 * math.pi).amin(-1, keepdim=True)
    count = agents.shape[1]
    step = torch.arange(count, device=x.device, dtype=x.dtype) * (2 * math.pi / count)
    angle = first + step  # [B, N]
    return middle + radius * torch.stack([angle.cos(), angle.sin()], dim=-1)


def between(ends: Tensor, count: int) -> Tensor:
    """``count`` places evenly on the line between ``ends [B, 2, 2]``, these taken too."""
    share = torch.arange(count, device=ends.device) / max(count - 1, 1)
    first, second = ends[:, :1], ends[:, 1:]
    return first + share.to(ends).unsqueeze(-1) * (second - first)


def line_ends(drawn: Tensor) -> Tensor:
    """Two ends 1.25 m apart from ``drawn [B, 2, 2]`` in [-1, 1): the first near the middle, the
    second in a random direction, turned by five degrees until it lies in the square."""
    first = drawn[:, :1] * 0.25
    degrees = torch.arange(0, 360, 5, device=drawn.device, dtype=drawn.dtype)
    angle = math.pi * (drawn[:, 1:, :1] + 1) + torch.deg2rad(degrees)  # [B, 1, 72]
    tried = first.unsqueeze(2) + LENGTH * torch.stack([angle.cos(), angle.sin()], dim=-1)
    inside = (tried.abs() < 1).all(-1).to(torch.uint8).argmax(-1)  # the first, [B, 1]
    second = tried.squeeze(1).gather(1, inside.unsqueeze(-1).expand(-1, -1, 2))
    return torch.cat([first, second], dim=1)
