"""What critics read: their scope, and the joint observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from marl.errors import UserError
from marl.networks.base import Flat, Model, observation_norm
from marl.networks.by_group import ByGroup
from marl.networks.entity_graph import egos_of
from marl.networks.observation_norm import ObservationNorm
from marl.types import AgentGroup, Observation, TensorSpec


@dataclass(frozen=True)
class CriticScope:
    """What a team's critics read. ``SCOPES`` has one for every word of a configuration."""

    local: bool = False  # each agent's critic that agent alone; else one critic reads them together
    reads_state: bool = False  # the environment's state in place of observations
    reads_actions_of_others: bool = False  # action values: of all teams, not of this one alone

    def groups(
        self, team: Mapping[str, AgentGroup], everyone: Mapping[str, AgentGroup]
    ) -> Mapping[str, AgentGroup]:
        """Returns the groups whose observations they read; ``team`` where they read the state."""
        return team if self.reads_state else self.acting_groups(team, everyone)

    def acting_groups(
        self, team: Mapping[str, AgentGroup], everyone: Mapping[str, AgentGroup]
    ) -> Mapping[str, AgentGroup]:
        """Returns the groups whose actions action values read."""
        return everyone if self.reads_actions_of_others else team

    def observation(
        self, obs: Observation, team: Mapping[str, AgentGroup], everyone: Mapping[str, AgentGroup]
    ) -> Observation:
        """Returns what the team's policy and value critics read of ``obs``, without copies."""
        groups = {name: obs.groups[name] for name in self.groups(team, everyone)}
        return Observation(groups, obs.state if self.reads_state else None, obs.graph)

    def state_size(self, size: int | None) -> int | None:
        """Returns how many numbers of a state of ``size`` they read, None where they read none.

        Raises:
            UserError: they read it and the environment has none.
        """
        if not self.reads_state:
            return None
        if size is None:
            raise UserError(
                "critic 'state' needs an environment that gives its state, and this one does not; "
                "take critic 'all', which concatenates every agent's observation"
            )
        return size


# What the words of a configuration (``critic: team``) mean.
SCOPES = {
    "agent": CriticScope(local=True),
    "team": CriticScope(),
    "all": CriticScope(reads_actions_of_others=True),
    "state": CriticScope(reads_state=True, reads_actions_of_others=True),
}


class JointObservation(nn.Module):
    """What a central critic reads, ``[..., features]``: the observations of groups side by side, or
    the environment's state. With a model that reads the graph, the mean over all agents' nodes, or,
    not ``pooled``, every agent's own node and observation.

    Args:
        seen: the groups whose observations it reads.
        state_size: S of the state ``[..., S]`` in place of observations; None to read those.
        model: of the critic: whether it reads the graph and normalises, and how it reads images.
        pooled: whether the graph comes as one mean.
    """

    def __init__(
        self,
        seen: Mapping[str, AgentGroup],
        *,
        state_size: int | None,
        model: Model,
        pooled: bool = False,
    ):
        super().__init__()
        self.reads_state, self.pooled = state_size is not None, pooled
        self.graph: Any = None  # an encoder
        if not self.reads_state and getattr(model, "reads_graph", False):
            self.graph = model.encoder_of(next(iter(seen.values())))  # type: ignore[attr-defined]  # it reads
        if self.graph is not None and pooled:
            self.encoders, self.features = ByGroup({}), int(self.graph.width)
            return
        self.state: Any = None  # its normalisation
        if state_size is not None and getattr(model, "normalize_obs", False):
            self.state = ObservationNorm(TensorSpec((state_size,)), None)
        groups = {} if self.reads_state else seen
        self.encoders = ByGroup({name: _encoder(g, model) for name, g in groups.items()})
        self.features = state_size or sum(
            int(self.encoders[name].features) * group.size  # type: ignore[arg-type]  # an int
            for name, group in seen.items()
        )
        if self.graph is not None:
            self.features += sum(group.size for group in seen.values()) * int(self.graph.width)

    def forward(self, obs: Observation) -> Tensor:
        if self.reads_state:
            assert obs.state is not None
            return obs.state if self.state is None else self.state(obs.state)
        if self.graph is not None and self.pooled:
            return self.graph.pooled(obs.graph)
        parts = [enc(obs.groups[name].obs).flatten(-2) for name, enc in self.encoders.items()]
        if self.graph is not None:
            assert obs.graph is not None, "this critic reads the graph"
            egos = [row for name in self.encoders for row in egos_of(obs.graph, name)]
            parts.append(self.graph.own(obs.graph, egos).flatten(-2))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


class HeadIndex(nn.Module):
    """Tells heads apart: ``[..., 1 or heads, F]`` to ``[..., heads, F + features]`` with a one-hot
    index; one head stays as it is."""

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
