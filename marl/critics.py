"""Value critics with an explicit scope: what a critic sees, and whose value it gives.

A critic's values have shape ``[..., K]``, one per *head*: the team's agents in the order of its
groups, or a single head where one number serves the whole team (a central critic under a team
reward).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from marl.errors import UserError
from marl.graphs import egos_of
from marl.networks import Flat, Model, Network, build_for, observation_norm, outputs
from marl.observation_norm import ObservationNorm
from marl.policies import initial_carry
from marl.types import AgentGroup, Carry, Observation, TensorSpec

SCOPES = ("agent", "team", "all", "state")


class ValueCritic(Protocol):
    @property
    def heads(self) -> int:
        """K."""
        ...

    @property
    def last_layers(self) -> list[nn.Module]:
        """The linear layers that give the values, of all its networks.

        Raises:
            UserError: a network does not tell its own.
        """
        ...

    def initial_carry(self, num_envs: int) -> Carry: ...

    def __call__(
        self, obs: Observation, carry: Carry, start: Tensor | None
    ) -> tuple[Tensor, Carry]:
        """Values ``[..., K]`` and memories after the last step."""
        ...


class LocalCritic(nn.Module):
    """Scope ``agent``: every agent's value from its own observation."""

    def __init__(self, groups: Mapping[str, AgentGroup], model: Model):
        super().__init__()
        self.groups = dict(groups)
        self.networks = nn.ModuleDict(
            {name: build_for(model, group, 1) for name, group in groups.items()}
        )
        self.heads = sum(group.size for group in groups.values())

    @property
    def last_layers(self) -> list[nn.Module]:
        return [_last_layer(network) for network in self.networks.values()]

    def initial_carry(self, num_envs: int) -> Carry:
        return initial_carry(self.networks, self.groups, num_envs)

    def forward(self, obs: Observation, carry: Carry, start: Tensor | None) -> tuple[Tensor, Carry]:
        values, memories = [], {}
        for name in self.groups:
            value, memory = outputs(
                self.networks[name], obs.groups[name].obs, obs.graph, carry.get(name), start
            )
            values.append(value.squeeze(-1))
            if memory is not None:
                memories[name] = memory
        return torch.cat(values, dim=-1), memories


class JointObservation(nn.Module):
    """What a central critic sees: the observations of ``seen`` groups side by side, or the
    environment's state; ``[..., features]``. With a model that reads the graph, the mean over all
    agents' nodes, or, not ``pooled``, every agent's own node and observation."""

    def __init__(
        self,
        seen: Mapping[str, AgentGroup],
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
            self.encoders, self.features = nn.ModuleDict(), int(self.graph.width)
            return
        self.state: Any = None  # its normalisation
        if state_size is not None and getattr(model, "normalize_obs", False):
            self.state = ObservationNorm(TensorSpec((state_size,)), None)
        groups = {} if self.reads_state else seen
        self.encoders = nn.ModuleDict({name: _encoder(g, model) for name, g in groups.items()})
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


class CentralCritic(nn.Module):
    """Scopes ``team``, ``all`` and ``state``: values from the joint observation of ``seen`` groups,
    or from the environment's state. With one head it is the team's value; with several each
    agent's, told apart by a one-hot index in the input."""

    def __init__(
        self, seen: Mapping[str, AgentGroup], state_size: int | None, heads: int, model: Model
    ):
        super().__init__()
        self.heads = heads
        self.joint = JointObservation(seen, state_size, model, pooled=True)
        self.ids = HeadIndex(heads)
        size = self.joint.features + self.ids.features
        self.network: Network = model.build(TensorSpec((size,)), 1, heads)

    @property
    def last_layers(self) -> list[nn.Module]:
        return [_last_layer(self.network)]

    def initial_carry(self, num_envs: int) -> Carry:
        size = self.network.carry_size
        device = next(self.parameters()).device
        return {"team": torch.zeros(num_envs, self.heads, size, device=device)} if size else {}

    def forward(self, obs: Observation, carry: Carry, start: Tensor | None) -> tuple[Tensor, Carry]:
        x = self.ids(self.joint(obs).unsqueeze(-2))
        value, memory = self.network(x, carry.get("team"), start)
        return value.squeeze(-1), {} if memory is None else {"team": memory}


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


def _last_layer(network: nn.Module) -> nn.Module:
    layer = getattr(network, "head", None)
    if not all(isinstance(getattr(layer, x, None), nn.Parameter) for x in ("weight", "bias")):
        raise UserError(
            f"the critic's network {type(network).__name__} has no head: normalize_value needs the "
            "linear layer (weight and bias) that gives the values, to rescale it; keep that as "
            "self.head, or set algorithm.normalize_value=false"
        )
    return layer  # type: ignore[return-value]  # with weight and bias


def _encoder(group: AgentGroup, model: Model) -> nn.Module:
    if getattr(model, "normalize_obs", False):
        return observation_norm(group)
    if not group.observation.is_image:
        return Flat(group.observation)
    return model.encoder(group.observation, group.size)


def value_critic(
    scope: str,
    team: Mapping[str, AgentGroup],
    everyone: Mapping[str, AgentGroup],
    state_size: int | None,
    own_rewards: bool,
    model: Model,
) -> ValueCritic:
    """The critic of ``scope`` for ``team``, with a head per agent where rewards are the agents'
    own.

    Raises:
        UserError: scope ``state`` in an environment that has none.
    """
    if scope == "agent":
        return LocalCritic(team, model)
    check_state(scope, state_size)
    heads = sum(group.size for group in team.values()) if own_rewards else 1
    seen = everyone if scope == "all" else team
    return CentralCritic(seen, state_size if scope == "state" else None, heads, model)


def check_state(scope: str, state_size: int | None) -> None:
    """Raises UserError where a critic should read a state that there is none of."""
    if scope == "state" and state_size is None:
        raise UserError(
            "critic 'state' needs an environment that gives its state, and this one does not; "
            "take critic 'all', which concatenates every agent's observation"
        )
