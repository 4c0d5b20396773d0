"""Actions as critics read them: encoded, sampled from several teams' policies."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from marl.errors import UserError
from marl.policies.base import Policy, act
from marl.types import AgentGroup, Carry, Observation, zero_absent

NO_CARRIES: Mapping[str, Carry] = {}


@torch.no_grad()
def encoded_actions(
    policies: Mapping[str, Policy],
    obs: Observation,
    generator: torch.Generator,
    carry: Mapping[str, Carry] = NO_CARRIES,
) -> dict[str, Tensor]:
    """Samples encoded actions of several policies.

    Args:
        policies: the policies by team.
        obs: the observations, ``[B, N, ...]`` by group.
        generator: the generator of the noise.
        carry: the memories before the step by team, ``[B, N, H]`` by group.

    Returns:
        ``[B, N, A]`` by group, zeros for absent agents.

    Raises:
        UserError: a policy has a memory that ``carry`` lacks.
    """
    actions: dict[str, Tensor] = {}
    for name, policy in policies.items():
        memory = carry.get(name, {})
        if policy.initial_carry(1) and not memory:
            raise UserError(
                f"critic 'all' reads the actions of all teams, and the policy of team {name!r} has "
                "a memory, which it cannot use there; take critic 'team', a model with gru=0, or "
                "for both teams one with model.gru above 0 and joint.graph=none"
            )
        batch = len(obs.groups[next(iter(policy.groups))].obs)
        start = torch.full((batch,), not memory, device=generator.device)
        action = act(policy, obs, memory, start, generator, explore=True).action
        actions |= encode(policy.groups, action, obs)
    return actions


def encode(
    groups: Mapping[str, AgentGroup], action: Mapping[str, Tensor], obs: Observation
) -> dict[str, Tensor]:
    """Encodes actions as critics read them.

    Args:
        groups: the groups to encode.
        action: ``[..., N, *action shape]`` by group.
        obs: the observations in which they were taken, which tell who was absent.

    Returns:
        ``[..., N, A]`` by group, zeros for absent agents.
    """
    return {
        name: zero_absent(group.action.encode(action[name]), obs.groups[name].alive)
        for name, group in groups.items()
    }
