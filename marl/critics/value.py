"""Value critics with an explicit scope: what a critic reads, and whose value it gives.

A critic's values have shape ``[..., K]``, one per *head*: the team's agents in the order of its
groups, or a single head where one number serves the whole team (a central critic under a team
reward).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from marl.critics.inputs import CriticScope, HeadIndex, JointObservation
from marl.errors import UserError
from marl.networks.base import Model, Network, build_for, outputs
from marl.networks.by_group import ByGroup
from marl.policies.base import initial_carry
from marl.types import AgentGroup, Carry, Observation, TensorSpec


class ValueCritic(Protocol):
    @property
    def heads(self) -> int:
        """K."""
        ...

    @property
    def last_layers(self) -> list[nn.Module]:
        """The linear layers that give the values, of all its networks.

        Raises:
            UserError: a network does not name its own.
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
        self.networks = ByGroup(
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


class CentralCritic(nn.Module):
    """Scopes ``team``, ``all`` and ``state``: values from the joint observation of groups, or from
    the environment's state.

    Args:
        groups: whose observations it reads.
        state_size: S of the state ``[..., S]`` that it reads in place of them; None to read them.
        heads: K of its values ``[..., K]``: 1 is the team's value; several are its agents', which a
            one-hot index in the input distinguishes.
        model: its network's.
    """

    def __init__(
        self,
        groups: Mapping[str, AgentGroup],
        *,
        state_size: int | None,
        heads: int,
        model: Model,
    ):
        super().__init__()
        self.heads = heads
        self.joint = JointObservation(groups, state_size=state_size, model=model, pooled=True)
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


def _last_layer(network: nn.Module) -> nn.Module:
    layer = getattr(network, "head", None)
    if not all(isinstance(getattr(layer, x, None), nn.Parameter) for x in ("weight", "bias")):
        raise UserError(
            f"the critic's network {type(network).__name__} has no head: normalize_value needs the "
            "linear layer (weight and bias) that gives the values, to rescale it; keep that as "
            "self.head, or set algorithm.normalize_value=false"
        )
    return layer  # type: ignore[return-value]  # with weight and bias


def value_critic(
    scope: CriticScope,
    *,
    team: Mapping[str, AgentGroup],
    everyone: Mapping[str, AgentGroup],
    state_size: int | None,
    heads: int,
    model: Model,
) -> ValueCritic:
    """Returns the critic of ``scope`` for ``team``.

    Args:
        scope: what it reads.
        team: the groups whose agents it values.
        everyone: all groups of the environment.
        state_size: S of ``Observation.state [..., S]``; None where there is none.
        heads: K of its values ``[..., K]``: 1, or one for each agent of the team. A local critic
            has one for each whatever this says.
        model: its network's.

    Raises:
        UserError: the scope reads a state, and the environment has none.
    """
    if scope.local:
        return LocalCritic(team, model)
    groups, size = scope.groups(team, everyone), scope.state_size(state_size)
    return CentralCritic(groups, state_size=size, heads=heads, model=model)
