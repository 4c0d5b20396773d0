"""Value critics with an explicit scope: what a critic sees, and whose value it gives.

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
    seen = scope.groups(team, everyone)
    return CentralCritic(seen, scope.state_size(state_size), heads, model)
