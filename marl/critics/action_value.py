"""Action-value critics with an explicit scope: what a critic reads of observations and actions, and
whose value it gives.

Actions come as critics read them (``AgentGroup.action.encode``), ``[..., N, A]`` by group. They may
have one axis more than the observations, behind the shared ones: then the value is given for every
entry of it.
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
from marl.types import AgentGroup, Observation, TensorSpec

Actions = Mapping[str, Tensor]  # group -> [..., N, A], encoded


class QCritic(Protocol):
    """Q ``[..., H]`` with H the heads: the team's agents, or one for all."""

    heads: int

    def __call__(self, obs: Observation, action: Actions, each: bool = False) -> Tensor:
        """With ``each`` a central critic's head h reads the h-th joint action of ``[..., H, N,
        A]``, and so does a single head, for every h."""
        ...


class LocalQ(nn.Module):
    """Scope ``agent``: every agent's value of its own observation and action."""

    def __init__(self, groups: Mapping[str, AgentGroup], model: Model):
        super().__init__()
        self.groups = dict(groups)
        if any(len(group.observation.shape) > 1 for group in groups.values()):
            raise UserError("critic 'agent' reads no images off-policy; take critic 'team'")
        self.networks = ByGroup(
            {n: build_for(model, g, 1, more=g.action.encoded_size) for n, g in groups.items()}
        )
        self.heads = sum(group.size for group in groups.values())

    def forward(self, obs: Observation, action: Actions, each: bool = False) -> Tensor:
        values = []
        for name in self.groups:
            agent_obs, agent_action = obs.groups[name].obs, action[name]
            if agent_action.dim() > agent_obs.dim():
                agent_obs = agent_obs.unsqueeze(1).expand(*agent_action.shape[:-1], -1)
            x = torch.cat([agent_obs, agent_action], dim=-1)
            values.append(outputs(self.networks[name], x, obs.graph)[0].squeeze(-1))
        return torch.cat(values, dim=-1)


class CentralQ(nn.Module):
    """Scopes ``team``, ``all`` and ``state``: values of the joint observation (or the state) and
    the joint action of groups.

    Args:
        groups: whose observations and actions it reads.
        state_size: S of the state ``[..., S]`` that it reads in place of observations; None to read
            those.
        heads: H of its values ``[..., H]``.
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
        self.names, self.heads = list(groups), heads
        self.joint = JointObservation(groups, state_size=state_size, model=model)
        self.ids = HeadIndex(heads)
        actions = sum(group.action.encoded_size * group.size for group in groups.values())
        size = self.joint.features + actions + self.ids.features
        self.network: Network = model.build(TensorSpec((size,)), 1, heads)

    def forward(self, obs: Observation, action: Actions, each: bool = False) -> Tensor:
        actions = torch.cat([action[name].flatten(-2) for name in self.names], dim=-1)
        joint_obs = self.joint(obs)
        if actions.dim() > joint_obs.dim():
            joint_obs = joint_obs.unsqueeze(1).expand(*actions.shape[:-1], -1)
        x = torch.cat([joint_obs, actions], dim=-1)
        if not each or self.heads == 1:
            x = x.unsqueeze(-2)
        value = self.network(self.ids(x))[0].squeeze(-1)
        return value.squeeze(-1) if each and self.heads == 1 else value


class Ensemble(nn.Module):
    """``K`` critics alike, of different weights: ``[K, ..., H]``."""

    def __init__(self, critics: list[nn.Module]):
        super().__init__()
        self.critics = nn.ModuleList(critics)
        self.heads: int = critics[0].heads  # type: ignore[assignment]  # an int

    def forward(self, obs: Observation, action: Actions, each: bool = False) -> Tensor:
        return torch.stack([critic(obs, action, each) for critic in self.critics])


def q_critics(
    count: int,
    scope: CriticScope,
    *,
    team: Mapping[str, AgentGroup],
    everyone: Mapping[str, AgentGroup],
    state_size: int | None,
    heads: int,
    model: Model,
) -> Ensemble:
    """Returns ``count`` critics of ``scope`` for ``team``, alike but for their weights.

    Args:
        count: K of their values ``[K, ..., H]``.
        scope: what they read.
        team: the groups whose agents they value.
        everyone: all groups of the environment.
        state_size: S of ``Observation.state [..., S]``; None where there is none.
        heads: H: 1, or one for each agent of the team. Local critics have one for each whatever
            this says.
        model: their networks'.

    Raises:
        UserError: the scope reads a state and the environment has none; or a network with memory.
    """

    def critic() -> nn.Module:
        if scope.local:
            return LocalQ(team, model)
        groups, size = scope.acting_groups(team, everyone), scope.state_size(state_size)
        return CentralQ(groups, state_size=size, heads=heads, model=model)

    built = Ensemble([critic() for _ in range(count)])
    if any(getattr(layer, "carry_size", 0) for layer in built.modules()):
        raise UserError(
            "off-policy critics have no memory yet; set model.gru=0, or critic_model.gru=0 where "
            "a critic_model is chosen"
        )
    return built


def joint_actions(fresh: Actions, base: Actions) -> dict[str, Tensor]:
    """For every agent the joint action in which it plays ``fresh`` and all others ``base``: ``[...,
    H, N, A]`` by group, H counting the agents of ``fresh``'s groups. Groups that ``fresh`` lacks
    play ``base``, which may have H too: a joint action for each."""
    first, total = {}, 0
    for name, action in fresh.items():
        first[name] = total
        total += action.shape[-2]
    joint = {}
    for name, action in base.items():
        spread = action
        if action.dim() == next(iter(fresh.values())).dim():
            spread = action.unsqueeze(-3)
            spread = spread.expand(*spread.shape[:-3], total, *spread.shape[-2:])
        if name in fresh:
            agents = torch.arange(action.shape[-2], device=action.device) + first[name]
            same = torch.arange(total, device=action.device).unsqueeze(-1) == agents  # [H, N]
            spread = torch.where(same.unsqueeze(-1), fresh[name].unsqueeze(-3), spread)
        joint[name] = spread
    return joint


def exchanged(actions: Actions, group: str, row: int, action: Tensor) -> dict[str, Tensor]:
    """Returns ``actions [M, N, A]`` by group with one agent's ``action [M, 1, A]`` in its place."""
    team = actions[group]
    changed = torch.cat([team[:, :row], action, team[:, row + 1 :]], dim=1).contiguous()
    return {**actions, group: changed}
