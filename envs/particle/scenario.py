"""What a particle world is about: its bodies, what agents see and earn, and what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from marl.envs.checks import check_count
from marl.envs.particle.physics import Body, Colour, Physics
from marl.errors import UserError
from marl.types import EntityGraph, EntitySpec, register

LOCAL_RATIO = 0.5  # mpe2's default share of an agent's own reward


@register
@dataclass(frozen=True)
class State:
    """Everything that decides what comes next, noise apart."""

    position: Tensor  # [B, E, 2] agents, then landmarks
    velocity: Tensor  # [B, N, 2] of the agents
    message: Tensor  # [B, N, C] as sent in the last step
    chosen: Tensor  # [B, K] int64, what the episode drew (goals, keys) or counts (goods)
    steps: Tensor  # [B] int64 since the episode began
    totals: Tensor  # [B, M] the measures so far


class Outcome(NamedTuple):
    """What a step led to; told at once, since its parts are made of the same distances."""

    reward: Tensor  # [B, N] every agent's
    measures: Sequence[Tensor] = ()  # [B] each: the step's, in the order of ``measures``
    terminated: Tensor | None = None  # [B] bool; None where only time ends an episode


class Scenario:
    """The base of all: positions drawn in a square.

    A scenario is built once, by its options, and then asked only for pure functions of ``State``.
    ``measures`` names its episode metrics and how steps add up: sum, mean or last.
    """

    agents: Sequence[Body]
    landmarks: Sequence[Body] = ()
    channels = 0  # C, numbers of a message
    choices: Sequence[int] = ()  # K numbers drawn for an episode, the k-th below choices[k]
    event_noise = 0  # uniform numbers in [0, 1) that every step needs
    landmark_range = 1.0  # landmarks are drawn within this of the middle, metres
    measures: ClassVar[Mapping[str, str]] = {}
    physics: Physics
    legacy: bool  # whether bodies move and agents earn as in OpenAI's MPE
    rest: Tensor  # [N, N - 1] for every agent the indices of the others

    def bind(self, device: torch.device, dtype: torch.dtype, legacy: bool) -> None:
        """Builds what stays the same from step to step."""
        self.legacy = legacy
        self.physics = Physics(self.agents, self.landmarks, device, dtype, legacy)
        self.rest = others(len(self.agents), device)

    @property
    def noise_size(self) -> int:
        """Uniform numbers in [0, 1) that an episode begins with."""
        return 2 * (len(self.agents) + len(self.landmarks)) + len(self.choices)

    def start(self, noise: Tensor) -> State:
        """A new episode from ``noise [B, noise_size]``."""
        batch, agents = noise.shape[0], len(self.agents)
        entities = agents + len(self.landmarks)
        places, draws = noise[:, : 2 * entities], noise[:, 2 * entities :]
        position = places.unflatten(1, (entities, 2)) * 2 - 1
        if self.landmark_range != 1:
            shrunk = position[:, agents:] * self.landmark_range
            position = torch.cat([position[:, :agents], shrunk], dim=1)
        chosen = [(draws[:, k] * n).long().clamp(max=n - 1) for k, n in enumerate(self.choices)]
        return State(
            position=position,
            velocity=position.new_zeros(batch, agents, 2),
            message=position.new_zeros(batch, agents, self.channels),
            chosen=torch.stack(chosen, 1) if chosen else noise.new_zeros(batch, 0).long(),
            steps=torch.zeros(batch, dtype=torch.int64, device=noise.device),
            totals=position.new_zeros(batch, len(self.measures)),
        )

    def places(self, state: State) -> tuple[Tensor, Tensor]:
        """Positions of the agents ``[B, N, 2]`` and of the landmarks."""
        agents = len(self.agents)
        return state.position[:, :agents], state.position[:, agents:]

    def to_others(self, agents: Tensor) -> Tensor:
        """From each of the agents to the others, ``[B, N, N - 1, 2]``."""
        return agents[:, self.rest] - agents.unsqueeze(2)

    def chosen_landmark(self, state: State, choice: int) -> Tensor:
        """Where the landmark is that the episode's ``choice``-th number names, ``[B, 1, 2]``."""
        index = state.chosen[:, choice, None, None].expand(-1, -1, 2)
        return self.places(state)[1].gather(1, index)

    def happen(self, state: State, noise: Tensor) -> State:
        """What happens after bodies have moved, with ``noise [B, event_noise]``."""
        return state

    def entities(self) -> EntitySpec | None:
        """What the graph tells of an entity; None where there is no graph."""
        return None

    def graph(self, state: State) -> EntityGraph | None:
        """The entities as a graph, without the groups' places in it; None where it is not told."""
        return None

    def observe(self, state: State) -> Tensor | Sequence[Tensor]:
        """What all agents see, ``[B, N, O]``, or a sequence of ``[B, n, O]`` where it differs in
        length from group to group."""
        raise NotImplementedError

    def outcome(self, state: State) -> Outcome:
        """What a step led to."""
        raise NotImplementedError

    def goals(self, state: State) -> Sequence[tuple[int, int]]:
        """For pictures: each agent that has a goal in this episode, and the landmark that it is, by
        their numbers. ``state`` is of one world, without the axis B, here and in ``looks``."""
        return ()

    def looks(self, state: State) -> list[Colour]:
        """For pictures: what every entity looks like now."""
        return [body.colour for body in (*self.agents, *self.landmarks)]


def ways(origins: Tensor, ends: Tensor) -> Tensor:
    """From each of ``[B, R, 2]`` to each of ``[B, C, 2]``: ``[B, R, C, 2]``."""
    return ends.unsqueeze(1) - origins.unsqueeze(2)


def nearest(seen: Tensor, away: Tensor, count: int) -> Tensor:
    """Of ``seen [B, N, M, F]`` the ``count`` with the least ``away [B, N, M]``, nearest first, and
    zeros where there are fewer: ``[B, N, count, F]``."""
    order = away.argsort(dim=-1, stable=True)[..., :count].unsqueeze(-1)
    found = seen.gather(2, order.expand(-1, -1, -1, seen.shape[-1]))
    return F.pad(found, (0, 0, 0, count - found.shape[2]))


def in_view(ways: Tensor, count: int | None) -> Tensor:
    """All of ``ways [B, N, M, 2]``, in their order, or the ``count`` nearest."""
    return ways if count is None else nearest(ways, ways.square().sum(-1), count)


def others(size: int, device: torch.device) -> Tensor:
    """The indices of all but the i-th, in order, ``[size, size - 1]``."""
    index = torch.arange(size, device=device).expand(size, size)
    return index[index != index.T].reshape(size, size - 1)


def check_neighbours(num_agent_neighbors: object, num_landmark_neighbors: object) -> None:
    """Raises UserError where one is neither None, all are seen, nor a whole number from 1 on."""
    for kind, value in (("agent", num_agent_neighbors), ("landmark", num_landmark_neighbors)):
        if value is not None:
            check_count(f"num_{kind}_neighbors", value)


def check_stage(stage: object, stages: int) -> None:
    """Raises UserError where ``stage`` is neither None nor the number of one of the ``stages``."""
    if stage is None:
        return
    check_count("curriculum_stage", stage, least=0)
    if stage not in range(stages):
        raise UserError(f"curriculum_stage={stage} is out of range; expected 0 to {stages - 1}")


def check_legacy_ratio(legacy: bool, local_ratio: float) -> None:
    """Raises UserError where OpenAI's rewards are to be weighted, which all agents share."""
    if legacy and local_ratio != LOCAL_RATIO:
        raise UserError(
            f"local_ratio={local_ratio} means nothing with legacy=true, where all agents earn the "
            f"sum of what each does; leave it out"
        )
