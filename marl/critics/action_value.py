"""Action-value critics, with an explicit scope: what a critic reads, and whose value it gives.

Actions are encoded (``AgentGroup.action.encode``), ``[..., N, A]`` by group. They may have one axis
more than the observations, after the first one: then there is a value for every entry of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from marl.critics.inputs import CriticScope, HeadIndex, JointObservation
from marl.errors import UserError
from marl.networks.base import Model, Network, apply_network, build_for
from marl.networks.by_group import ByGroup
from marl.types import AgentGroup, Observation, TensorSpec

#: Group -> encoded actions ``[..., N, A]``.
Actions: TypeAlias = Mapping[str, Tensor]


class QCritic(Protocol):
    """A function of observation and joint action that estimates the return; an ``nn.Module``.

    Attributes:
        heads: H, the number of heads: the team's agents, or one for all of them.
    """

    heads: int

    def __call__(self, obs: Observation, action: Actions, each: bool = False) -> Tensor:
        """Computes action values.

        Args:
            obs: any leading axes.
            action: encoded actions by group, ``[..., N, A]``.
            each: True if ``action`` is ``[..., H, N, A]``, one joint action for each head. A
                central critic's head h reads the h-th of them, and a single head reads all.

        Returns:
            ``[..., H]``.
        """
        ...


class LocalQ(nn.Module):
    """Critic of scope ``agent``: every agent's value from its own observation and action.

    Args:
        groups: the groups whose agents are valued.
        model: hyperparameters of the networks, one per group.

    Raises:
        UserError: a group observes images.
    """

    def __init__(self, groups: Mapping[str, AgentGroup], model: Model):
        super().__init__()
        self.groups = dict(groups)
        if any(len(group.observation.shape) > 1 for group in groups.values()):
            raise UserError(
                "critic 'agent' reads no images with off-policy algorithms; take critic 'team'"
            )
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
            values.append(apply_network(self.networks[name], x, obs.graph)[0].squeeze(-1))
        return torch.cat(values, dim=-1)


class CentralQ(nn.Module):
    """Critic of scopes ``team``, ``all`` and ``state``: values of joint observation and action.

    Args:
        groups: the groups whose observations and actions are read.
        state_size: S of the state ``[..., S]`` that is read in place of observations; None to read
            those.
        heads: H of its values ``[..., H]``.
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
    """``K`` critics of one kind with different weights, whose values are ``[K, ..., H]``.

    Args:
        critics: the critics.
    """

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
    """Builds critics of a scope for a team, which differ in their weights only.

    Args:
        count: K of their values ``[K, ..., H]``.
        scope: what they read.
        team: the groups whose agents they value.
        everyone: all groups of the environment.
        state_size: S of ``Observation.state [..., S]``; None in environments without a state.
        heads: H of their values: 1, or one for each agent of the team. Local critics always have
            one for each agent.
        model: hyperparameters of their networks.

    Raises:
        UserError: the scope reads a state and the environment has none; or the networks have a
            memory.
    """

    def critic() -> nn.Module:
        if scope.local:
            return LocalQ(team, model)
        groups, size = scope.acting_groups(team, everyone), scope.state_size(state_size)
        return CentralQ(groups, state_size=size, heads=heads, model=model)

    critics = Ensemble([critic() for _ in range(count)])
    if any(getattr(layer, "carry_size", 0) for layer in critics.modules()):
        raise UserError(
            "off-policy critics have no memory yet; set model.gru=0, or critic_model.gru=0 where "
            "a critic_model is chosen"
        )
    return critics


def joint_actions(fresh: Actions, base: Actions) -> dict[str, Tensor]:
    """Returns for every agent the joint action in which it plays ``fresh`` and all others ``base``.

    Args:
        fresh: ``[..., N, A]`` by group; H counts the agents of these groups.
        base: ``[..., N, A]`` by group, or ``[..., H, N, A]`` with a joint action for each agent.
            Groups that ``fresh`` lacks always play ``base``.

    Returns:
        ``[..., H, N, A]`` by group.
    """
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


def replace_action(actions: Actions, group: str, row: int, action: Tensor) -> dict[str, Tensor]:
    """Returns joint actions with one agent's action replaced.

    Args:
        actions: ``[M, N, A]`` by group.
        group: the agent's group.
        row: the agent's index in its group.
        action: the agent's action, ``[M, 1, A]``.
    """
    team = actions[group]
    changed = torch.cat([team[:, :row], action, team[:, row + 1 :]], dim=1).contiguous()
    return {**actions, group: changed}
