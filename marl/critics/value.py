"""Value critics, with an explicit scope: what a critic reads, and whose value it gives.

Values have shape ``[..., K]``, with one *head* for each agent of the team in the order of its
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
from marl.networks.base import Model, Network, apply_network, build_for
from marl.networks.by_group import ByGroup
from marl.policies.base import initial_carry
from marl.types import AgentGroup, Carry, Observation, TensorSpec


class ValueCritic(Protocol):
    """A function of the observation that estimates the return; an ``nn.Module``."""

    @property
    def heads(self) -> int:
        """K, the number of heads."""
        ...

    @property
    def last_layers(self) -> list[nn.Module]:
        """Linear layers that give the values, one for each of the critic's networks.

        Raises:
            UserError: a network does not name its last layer.
        """
        ...

    def initial_carry(self, num_envs: int) -> Carry:
        """Returns zero memories for ``num_envs`` environments; empty without memory."""
        ...

    def __call__(
        self, obs: Observation, carry: Carry, start: Tensor | None
    ) -> tuple[Tensor, Carry]:
        """Computes the values of all steps.

        Args:
            obs: ``[T, B, ...]``; any leading axes without memory.
            carry: the memories before the first step.
            start: ``[T, B]`` bool, True where an episode begins; None without memory.

        Returns:
            The values ``[T, B, K]``, and the memories after the last step.
        """
        ...


class LocalCritic(nn.Module):
    """Critic of scope ``agent``: every agent's value from its own observation.

    Args:
        groups: the groups whose agents are valued.
        model: hyperparameters of the networks, one per group.
    """

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
            value, memory = apply_network(
                self.networks[name], obs.groups[name].obs, obs.graph, carry.get(name), start
            )
            values.append(value.squeeze(-1))
            if memory is not None:
                memories[name] = memory
        return torch.cat(values, dim=-1), memories


class CentralCritic(nn.Module):
    """Critic of scopes ``team``, ``all`` and ``state``: values from a joint observation.

    Args:
        groups: the groups whose observations are read.
        state_size: S of the state ``[..., S]`` that is read in place of observations; None to read
            those.
        heads: K of its values ``[..., K]``. One head gives the team's value; several give those of
            its agents, which a one-hot index in the input tells apart.
        model: hyperparameters of the network.
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
    """Builds the critic of a scope for a team.

    Args:
        scope: what the critic reads.
        team: the groups whose agents it values.
        everyone: all groups of the environment.
        state_size: S of ``Observation.state [..., S]``; None in environments without a state.
        heads: K of its values ``[..., K]``: 1, or one for each agent of the team. A local critic
            always has one for each agent.
        model: hyperparameters of its networks.

    Raises:
        UserError: the scope reads a state, and the environment has none.
    """
    if scope.local:
        return LocalCritic(team, model)
    groups, size = scope.groups(team, everyone), scope.state_size(state_size)
    return CentralCritic(groups, state_size=size, heads=heads, model=model)
