"""Base class of particle worlds: bodies, observations, rewards and measures."""

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
    """State of a world: all that the next step depends on but noise.

    Attributes:
        position: agents, then landmarks, ``[B, E, 2]``, metres.
        velocity: of the agents, ``[B, N, 2]``, metres per second.
        message: of the last step, ``[B, N, C]``.
        chosen: random choices of the episode (goals, keys) or its counts (goods), ``[B, K]`` int64.
        steps: steps since the episode began, ``[B]`` int64.
        totals: the measures so far, ``[B, M]``.
    """

    position: Tensor
    velocity: Tensor
    message: Tensor
    chosen: Tensor
    steps: Tensor
    totals: Tensor


class Outcome(NamedTuple):
    """Result of a step, computed at once, since its parts share the same distances.

    Attributes:
        reward: of every agent, ``[B, N]``.
        measures: ``[B]`` each, in the order of ``Scenario.measures``.
        terminated: whether the episode ended for good, ``[B]`` bool; None where only time ends it.
    """

    reward: Tensor
    measures: Sequence[Tensor] = ()
    terminated: Tensor | None = None


class Scenario:
    """Base class of all scenarios, which places bodies at random in a square.

    A scenario is built once, from its options; then only pure functions of ``State`` are called.
    """

    #: Bodies of the agents; groups follow from their names.
    agents: Sequence[Body]
    #: Bodies of the landmarks.
    landmarks: Sequence[Body] = ()
    #: C, numbers of a message.
    channels = 0
    #: Random choices of an episode: the k-th is below ``choices[k]``.
    choices: Sequence[int] = ()
    #: Number of uniform numbers in [0, 1) that every step uses.
    event_noise = 0
    #: Landmarks are placed within this distance of the middle along each axis, metres.
    landmark_range = 1.0
    #: Names of the episode metrics, and how they add up over steps: ``sum``, ``mean`` or ``last``.
    measures: ClassVar[Mapping[str, str]] = {}
    #: Motion of the bodies, from ``bind`` on.
    physics: Physics
    #: Whether bodies move and agents earn as in OpenAI's MPE, from ``bind`` on.
    legacy: bool
    #: For every agent the indices of the others, ``[N, N - 1]``, from ``bind`` on.
    other_index: Tensor

    def bind(self, device: torch.device, dtype: torch.dtype, legacy: bool) -> None:
        """Builds the tensors that are the same in every step.

        Args:
            device: where the world runs.
            dtype: of positions.
            legacy: whether bodies move and agents earn as in OpenAI's MPE.
        """
        self.legacy = legacy
        self.physics = Physics(self.agents, self.landmarks, device, dtype, legacy)
        self.other_index = other_indices(len(self.agents), device)

    @property
    def noise_size(self) -> int:
        """Number of uniform numbers in [0, 1) that an episode starts from."""
        return 2 * (len(self.agents) + len(self.landmarks)) + len(self.choices)

    def start(self, noise: Tensor) -> State:
        """Returns the state of a new episode, from ``noise [B, noise_size]``."""
        batch, agents = noise.shape[0], len(self.agents)
        entities = agents + len(self.landmarks)
        place_noise, choice_noise = noise[:, : 2 * entities], noise[:, 2 * entities :]
        position = place_noise.unflatten(1, (entities, 2)) * 2 - 1
        if self.landmark_range != 1:
            landmarks = position[:, agents:] * self.landmark_range
            position = torch.cat([position[:, :agents], landmarks], dim=1)
        chosen = [
            (choice_noise[:, k] * n).long().clamp(max=n - 1) for k, n in enumerate(self.choices)
        ]
        return State(
            position=position,
            velocity=position.new_zeros(batch, agents, 2),
            message=position.new_zeros(batch, agents, self.channels),
            chosen=torch.stack(chosen, 1) if chosen else noise.new_zeros(batch, 0).long(),
            steps=torch.zeros(batch, dtype=torch.int64, device=noise.device),
            totals=position.new_zeros(batch, len(self.measures)),
        )

    def places(self, state: State) -> tuple[Tensor, Tensor]:
        """Returns the positions of the agents, ``[B, N, 2]``, and of the landmarks."""
        agents = len(self.agents)
        return state.position[:, :agents], state.position[:, agents:]

    def to_others(self, agents: Tensor) -> Tensor:
        """Returns the offsets from each of ``agents [B, N, 2]`` to the others, ``[B, N, N - 1,
        2]``."""
        return agents[:, self.other_index] - agents.unsqueeze(2)

    def chosen_landmark(self, state: State, choice: int) -> Tensor:
        """Returns the position of the landmark that the episode's ``choice``-th number names.

        Args:
            state: the world.
            choice: index in ``State.chosen``.

        Returns:
            ``[B, 1, 2]``, metres.
        """
        index = state.chosen[:, choice, None, None].expand(-1, -1, 2)
        return self.places(state)[1].gather(1, index)

    def apply_events(self, state: State, noise: Tensor) -> State:
        """Returns the state after what happens once bodies have moved.

        Args:
            state: the world, bodies moved.
            noise: uniform in [0, 1), ``[B, event_noise]``.
        """
        return state

    def entities(self) -> EntitySpec | None:
        """Returns the specification of the graph's entities; None without a graph."""
        return None

    def graph(self, state: State) -> EntityGraph | None:
        """Returns the graph of the entities, without the groups' rows in it; None without one."""
        return None

    def observe(self, state: State) -> Tensor | Sequence[Tensor]:
        """Returns the agents' observations, ``[B, N, O]``.

        Where their lengths differ, a sequence of ``[B, n, O]`` for consecutive agents.
        """
        raise NotImplementedError

    def outcome(self, state: State) -> Outcome:
        """Returns the rewards, measures and end of the step that led to ``state``."""
        raise NotImplementedError

    def goals(self, state: State) -> Sequence[tuple[int, int]]:
        """Returns pairs of an agent and its goal's landmark, by their indices, for pictures.

        ``state`` is that of one world, without the axis B, here and in ``entity_colours``.
        """
        return ()

    def entity_colours(self, state: State) -> list[Colour]:
        """Returns the colours of all entities, for pictures."""
        return [body.colour for body in (*self.agents, *self.landmarks)]


def offsets(origins: Tensor, ends: Tensor) -> Tensor:
    """Returns the offsets from each origin to each end.

    Args:
        origins: ``[B, R, 2]``.
        ends: ``[B, C, 2]``.

    Returns:
        ``[B, R, C, 2]``.
    """
    return ends.unsqueeze(1) - origins.unsqueeze(2)


def nearest(features: Tensor, distance: Tensor, count: int) -> Tensor:
    """Returns the features of the nearest entities, nearest first, and zeros where there are fewer.

    Args:
        features: of M entities for each agent, ``[B, N, M, F]``.
        distance: anything that grows with their distance, ``[B, N, M]``.
        count: how many.

    Returns:
        ``[B, N, count, F]``.
    """
    order = distance.argsort(dim=-1, stable=True)[..., :count].unsqueeze(-1)
    selected = features.gather(2, order.expand(-1, -1, -1, features.shape[-1]))
    return F.pad(selected, (0, 0, 0, count - selected.shape[2]))


def nearest_offsets(offsets: Tensor, count: int | None) -> Tensor:
    """Returns the nearest offsets.

    Args:
        offsets: of M entities from each agent, ``[B, N, M, 2]``.
        count: how many, nearest first; None for all, in their order.

    Returns:
        ``[B, N, count, 2]``, zeros where there are fewer.
    """
    return offsets if count is None else nearest(offsets, offsets.square().sum(-1), count)


def other_indices(size: int, device: torch.device) -> Tensor:
    """Returns, for every i, the indices of all but the i-th, in order.

    Args:
        size: number of indices.
        device: of the result.

    Returns:
        ``[size, size - 1]`` int64.
    """
    index = torch.arange(size, device=device).expand(size, size)
    return index[index != index.T].reshape(size, size - 1)


def check_neighbours(num_agent_neighbors: object, num_landmark_neighbors: object) -> None:
    """Raises UserError where a number of neighbours is neither None (all) nor at least 1.

    Args:
        num_agent_neighbors: of observed agents.
        num_landmark_neighbors: of observed landmarks.
    """
    for kind, value in (("agent", num_agent_neighbors), ("landmark", num_landmark_neighbors)):
        if value is not None:
            check_count(f"num_{kind}_neighbors", value)


def check_stage(stage: object, stages: int) -> None:
    """Raises UserError where a stage of a curriculum does not exist.

    Args:
        stage: its number, from 0 on; None for the last.
        stages: how many there are.
    """
    if stage is None:
        return
    check_count("curriculum_stage", stage, least=0)
    if stage not in range(stages):
        raise UserError(f"curriculum_stage={stage} is out of range; expected 0 to {stages - 1}")


def check_legacy_ratio(legacy: bool, local_ratio: float) -> None:
    """Raises UserError where a weight is set with OpenAI's rewards, which all agents share.

    Args:
        legacy: whether agents earn as in OpenAI's MPE.
        local_ratio: weight of an agent's own part of the reward.
    """
    if legacy and local_ratio != LOCAL_RATIO:
        raise UserError(
            f"local_ratio={local_ratio} has no effect with legacy=true, where all agents earn the "
            "sum of their rewards; leave it out"
        )
