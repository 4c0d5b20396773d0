"""Action-value critics, with an explicit scope: what a critic reads, and whose value it gives.

Actions are encoded (``AgentGroup.action.encode``), ``[..., N, A]`` by group. They may have one axis
more than the observations, after the first one: then there is a value for every entry of it.

Critics may have a memory, and then estimate Q(o_1 .. o_t, a_1 .. a_t): each step reads an
observation and the action taken in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from marl.critics.inputs import CriticScope, HeadIndex, JointObservation
from marl.critics.joint_actions import Actions
from marl.errors import UserError
from marl.networks.base import Model, Network, apply_network, build_for, unroll_network
from marl.networks.by_group import ByGroup
from marl.policies.base import EMPTY, initial_carry
from marl.types import AgentGroup, Carry, EntityGraph, Observation, TensorSpec, tree_map


class QCritic(Protocol):
    """A function of observation and joint action that estimates the return; an ``nn.Module``.

    Attributes:
        heads: H, the number of heads: the team's agents, or one for all of them.
    """

    heads: int

    def initial_carry(self, num_envs: int) -> Carry:
        """Returns zero memories for ``num_envs`` environments; empty without memory."""
        ...

    def __call__(
        self, obs: Observation, action: Actions, each: bool = False, carry: Carry = EMPTY
    ) -> Tensor:
        """Computes action values.

        Args:
            obs: any leading axes without memory; with it ``[M, ...]``, one step each.
            action: encoded actions by group, ``[..., N, A]``.
            each: True if ``action`` is ``[..., H, N, A]``, one joint action for each head. A
                central critic's head h reads the h-th of them, and a single head reads all.
            carry: the memories before the step, for ``M`` environments.

        Returns:
            ``[..., H]``.
        """
        ...

    def unroll(
        self, obs: Observation, action: Actions, carry: Carry, start: Tensor
    ) -> tuple[Tensor, Carry]:
        """Computes the values of the actions of consecutive steps, and the memories after each.

        Args:
            obs: ``[T, B, ...]``.
            action: encoded actions by group, ``[T, B, N, A]``.
            carry: the memories before the first step.
            start: ``[T, B]`` bool, True where an episode begins.

        Returns:
            The values ``[T, B, H]``, and memories with the leading axes ``[T, B]``.
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

    def initial_carry(self, num_envs: int) -> Carry:
        return initial_carry(self.networks, self.groups, num_envs)

    def forward(
        self, obs: Observation, action: Actions, each: bool = False, carry: Carry = EMPTY
    ) -> Tensor:
        values = [
            _step(self.networks[name], self._input(name, obs, action), obs.graph, carry.get(name))
            for name in self.groups
        ]
        return torch.cat([value.squeeze(-1) for value in values], dim=-1)

    def unroll(
        self, obs: Observation, action: Actions, carry: Carry, start: Tensor
    ) -> tuple[Tensor, Carry]:
        values, memories = [], {}
        for name in self.groups:
            x = self._input(name, obs, action)
            value, memories[name] = unroll_network(
                self.networks[name], x, obs.graph, carry.get(name), start
            )
            values.append(value.squeeze(-1))
        return torch.cat(values, dim=-1), {n: x for n, x in memories.items() if x is not None}

    def _input(self, name: str, obs: Observation, action: Actions) -> Tensor:
        """Returns what a group's network reads, ``[..., N, F]``."""
        agent_obs, agent_action = obs.groups[name].obs, action[name]
        if agent_action.dim() > agent_obs.dim():
            agent_obs = agent_obs.unsqueeze(1).expand(*agent_action.shape[:-1], -1)
        return torch.cat([agent_obs, agent_action], dim=-1)


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
        self.action_sizes = {n: (g.size, g.action.encoded_size) for n, g in groups.items()}
        self.joint = JointObservation(groups, state_size=state_size, model=model)
        self.ids = HeadIndex(heads)
        actions = sum(group.action.encoded_size * group.size for group in groups.values())
        size = self.joint.features + actions + self.ids.features
        self.network: Network = model.build(TensorSpec((size,)), 1, heads)

    def initial_carry(self, num_envs: int) -> Carry:
        size = self.network.carry_size
        device = next(self.parameters()).device
        return {"team": torch.zeros(num_envs, self.heads, size, device=device)} if size else {}

    def forward(
        self, obs: Observation, action: Actions, each: bool = False, carry: Carry = EMPTY
    ) -> Tensor:
        x = self.joint_input(obs, action)
        if not each or self.heads == 1:
            x = x.unsqueeze(-2)
        value = _step(self.network, self.ids(x), None, carry.get("team")).squeeze(-1)
        return value.squeeze(-1) if each and self.heads == 1 else value

    def unroll(
        self, obs: Observation, action: Actions, carry: Carry, start: Tensor
    ) -> tuple[Tensor, Carry]:
        x = self.ids(self.joint_input(obs, action).unsqueeze(-2))
        value, memory = self.network.unroll(x, carry.get("team"), start)
        return value.squeeze(-1), {} if memory is None else {"team": memory}

    def joint_input(self, obs: Observation, action: Actions) -> Tensor:
        """Returns joint observations and actions side by side, ``[..., F]``.

        Args:
            obs: any leading axes.
            action: encoded actions by group, ``[..., N, A]``.
        """
        actions = torch.cat([action[name].flatten(-2) for name in self.names], dim=-1)
        joint_obs = self.joint(obs)
        if actions.dim() > joint_obs.dim():
            joint_obs = joint_obs.unsqueeze(1).expand(*actions.shape[:-1], -1)
        return torch.cat([joint_obs, actions], dim=-1)


def _step(network: nn.Module, x: Tensor, graph: EntityGraph | None, carry: Tensor | None) -> Tensor:
    """Computes the outputs of single steps, from the memories before them.

    Args:
        network: a ``Network``.
        x: ``[..., N, F]``; with memory ``[M, N, F]``, or ``[M, E, N, F]`` for E inputs each.
        graph: the entities, with the same leading axes but E.
        carry: the memories, ``[M, N, H]``; None without memory.

    Returns:
        ``[..., N, outputs]``.
    """
    if carry is None:
        return apply_network(network, x, graph)[0]
    shape = x.shape[:-2]
    if len(shape) > 1:  # every input from the same memories
        carry, graph = tree_map(lambda y: y.repeat_interleave(shape[1], dim=0), (carry, graph))
    start = torch.zeros(1, shape.numel(), dtype=torch.bool, device=x.device)
    rows = x.reshape(1, shape.numel(), *x.shape[-2:])
    graph = tree_map(lambda y: y.unsqueeze(0), graph)
    return apply_network(network, rows, graph, carry, start)[0].unflatten(1, shape).squeeze(0)


class Ensemble(nn.Module):
    """``K`` critics of one kind with different weights, whose values are ``[K, ..., H]``.

    Args:
        critics: the critics.
    """

    def __init__(self, critics: list[nn.Module]):
        super().__init__()
        self.critics = nn.ModuleList(critics)
        self.heads: int = critics[0].heads  # type: ignore[assignment]  # an int

    def initial_carry(self, num_envs: int) -> tuple[Carry, ...]:
        """Returns zero memories of every critic for ``num_envs`` environments."""
        return tuple(critic.initial_carry(num_envs) for critic in self.critics)  # type: ignore[operator]  # a QCritic

    def forward(
        self, obs: Observation, action: Actions, each: bool = False, carry: Sequence[Carry] = ()
    ) -> Tensor:
        carries = carry or [EMPTY] * len(self.critics)
        pairs = zip(self.critics, carries, strict=True)
        return torch.stack([critic(obs, action, each, memory) for critic, memory in pairs])

    def unroll(
        self, obs: Observation, action: Actions, carry: Sequence[Carry], start: Tensor
    ) -> tuple[Tensor, tuple[Carry, ...]]:
        """Computes ``QCritic.unroll`` of every critic: values ``[K, T, B, H]``, and memories."""
        pairs = zip(self.critics, carry, strict=True)
        results = [critic.unroll(obs, action, memory, start) for critic, memory in pairs]  # type: ignore[operator]  # a QCritic
        return torch.stack([value for value, _ in results]), tuple(m for _, m in results)


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
        UserError: the scope reads a state and the environment has none.
    """

    def critic() -> nn.Module:
        if scope.local:
            return LocalQ(team, model)
        groups, size = scope.acting_groups(team, everyone), scope.state_size(state_size)
        return CentralQ(groups, state_size=size, heads=heads, model=model)

    return Ensemble([critic() for _ in range(count)])
