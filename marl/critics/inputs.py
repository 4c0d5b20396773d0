"""Inputs of critics: their scope, and the joint observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from marl.errors import UserError
from marl.networks.base import Flat, Model, observation_norm
from marl.networks.by_group import ByGroup
from marl.networks.entity_graph import ego_indices
from marl.networks.observation_norm import ObservationNorm
from marl.types import AgentGroup, Observation, TensorSpec


@dataclass(frozen=True)
class CriticScope:
    """What a team's critics read. ``SCOPES`` holds one for every word of a configuration."""

    #: True if each agent has a critic of its own observation; False for one critic of all of them.
    local: bool = False
    #: True if critics read the environment's state in place of observations.
    reads_state: bool = False
    #: True if action values read the actions of all teams, and not of their own team only.
    reads_actions_of_others: bool = False

    def groups(
        self, team: Mapping[str, AgentGroup], everyone: Mapping[str, AgentGroup]
    ) -> Mapping[str, AgentGroup]:
        """Returns the groups whose observations the critics read; ``team`` if they read the state.

        Args:
            team: the groups of the team.
            everyone: all groups of the environment.
        """
        return team if self.reads_state else self.acting_groups(team, everyone)

    def acting_groups(
        self, team: Mapping[str, AgentGroup], everyone: Mapping[str, AgentGroup]
    ) -> Mapping[str, AgentGroup]:
        """Returns the groups whose actions action values read.

        Args:
            team: the groups of the team.
            everyone: all groups of the environment.
        """
        return everyone if self.reads_actions_of_others else team

    def observation(
        self, obs: Observation, team: Mapping[str, AgentGroup], everyone: Mapping[str, AgentGroup]
    ) -> Observation:
        """Returns the part of an observation that the team's policy and value critics read.

        Args:
            obs: the observation of all groups, whose tensors are not copied.
            team: the groups of the team.
            everyone: all groups of the environment.
        """
        groups = {name: obs.groups[name] for name in self.groups(team, everyone)}
        return Observation(groups, obs.state if self.reads_state else None, obs.graph)

    def state_size(self, size: int | None) -> int | None:
        """Returns the length of the state that the critics read; None if they do not read it.

        Args:
            size: S of ``Observation.state``; None in environments without a state.

        Raises:
            UserError: they read the state, and the environment has none.
        """
        if not self.reads_state:
            return None
        if size is None:
            raise UserError(
                "critic 'state' needs an environment that gives its state, and this one does not; "
                "take critic 'all', which concatenates the observations of all agents"
            )
        return size


#: The scopes by the words of a configuration (``critic: team``).
SCOPES = {
    "agent": CriticScope(local=True),
    "team": CriticScope(),
    "all": CriticScope(reads_actions_of_others=True),
    "state": CriticScope(reads_state=True, reads_actions_of_others=True),
}


class JointObservation(nn.Module):
    """The input of a central critic, ``[..., features]``.

    It is the observations of groups side by side, or the environment's state. With a model that
    reads the graph it is the mean over all agents' nodes or, if not ``pooled``, every agent's own
    node and observation.

    Args:
        groups: the groups whose observations are read.
        state_size: S of the state ``[..., S]`` that is read in place of observations; None to read
            those.
        model: hyperparameters of the critic: whether it reads the graph and normalises
            observations, and how it reads images.
        pooled: True if the graph is read as one mean.
    """

    def __init__(
        self,
        groups: Mapping[str, AgentGroup],
        *,
        state_size: int | None,
        model: Model,
        pooled: bool = False,
    ):
        super().__init__()
        self.reads_state, self.pooled = state_size is not None, pooled
        self.graph: Any = None  # an encoder
        if not self.reads_state and getattr(model, "reads_graph", False):
            self.graph = model.encoder_of(next(iter(groups.values())))  # type: ignore[attr-defined]  # it reads
        if self.graph is not None and pooled:
            self.encoders, self.features = ByGroup({}), int(self.graph.width)
            return
        self.state: Any = None  # its normalisation
        if state_size is not None and getattr(model, "normalize_obs", False):
            self.state = ObservationNorm(TensorSpec((state_size,)), None)
        read = {} if self.reads_state else groups
        self.encoders = ByGroup({name: _encoder(g, model) for name, g in read.items()})
        self.features = state_size or sum(
            int(self.encoders[name].features) * group.size  # type: ignore[arg-type]  # an int
            for name, group in groups.items()
        )
        if self.graph is not None:
            self.features += sum(group.size for group in groups.values()) * int(self.graph.width)

    def forward(self, obs: Observation) -> Tensor:
        if self.reads_state:
            assert obs.state is not None
            return obs.state if self.state is None else self.state(obs.state)
        if self.graph is not None and self.pooled:
            return self.graph.pool(obs.graph)
        parts = [enc(obs.groups[name].obs).flatten(-2) for name, enc in self.encoders.items()]
        if self.graph is not None:
            assert obs.graph is not None, "this critic reads the graph"
            egos = [row for name in self.encoders for row in ego_indices(obs.graph, name)]
            parts.append(self.graph.encode_egos(obs.graph, egos).flatten(-2))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


class HeadIndex(nn.Module):
    """Appends a one-hot index that tells heads apart; a single head gets none.

    It maps ``[..., 1 or heads, F]`` to ``[..., heads, F + features]``.

    Args:
        heads: number of heads.
    """

    def __init__(self, heads: int):
        super().__init__()
        self.eye: Tensor | None
        self.heads, self.features = heads, heads if heads > 1 else 0
        self.register_buffer("eye", torch.eye(heads) if heads > 1 else None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.eye is None:
            return x
        x = x.expand(*x.shape[:-2], self.heads, -1)
        return torch.cat([x, self.eye.expand(*x.shape[:-1], -1)], dim=-1)


def _encoder(group: AgentGroup, model: Model) -> nn.Module:
    if getattr(model, "normalize_obs", False):
        return observation_norm(group)
    if not group.observation.is_image:
        return Flat(group.observation)
    return model.encoder(group.observation, group.size)
