"""Reward schemes: the rewards, ends and successors in a rollout that a team learns from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from marl.types import AgentGroup, Observation, Rollout

Team = Mapping[str, AgentGroup]


class RewardScheme(Protocol):
    """The rewards that a return sums, and where it ends.

    ``REWARDS`` has the scheme of each word of a configuration. H is the number of returns: one for
    each agent of the team, in the order of its groups, or 1 for all of them.
    """

    @property
    def per_agent(self) -> bool:
        """True if each agent has a return of its own."""
        ...

    def reward(self, rollout: Rollout, team: Team) -> Tensor:
        """Returns the rewards, ``[T, B, H]``.

        Args:
            rollout: ``[T, B, ...]``.
            team: the groups of the team.
        """
        ...

    def terminated(self, rollout: Rollout, team: Team) -> Tensor:
        """Returns where a return ends for good, ``[T, B, H]`` bool.

        Args:
            rollout: ``[T, B, ...]``.
            team: the groups of the team.
        """
        ...

    def done(self, rollout: Rollout, team: Team) -> Tensor:
        """Returns where traces stop and n-step windows end, ``[T, B, H]`` bool.

        They stop where a return is ``terminated`` too, whether or not it is True here.

        Args:
            rollout: ``[T, B, ...]``.
            team: the groups of the team.
        """
        ...

    def successor(self, rollout: Rollout, team: Team) -> Observation:
        """Returns ``next_obs`` as the team's critics are to value it.

        In ``Rollout.next_obs`` an agent that was truncated alone still shows its last observation.
        Its own return is cut there and bootstrapped from that observation; but a team's return
        continues without the agent, as do those of other teams, whose successor therefore shows it
        absent. (A central critic of the agents' own rewards is evaluated once for all agents, so
        that for this one step it reads their truncated team-mate as still present.)

        Args:
            rollout: ``[T, B, ...]``.
            team: the groups of the team.
        """
        ...

    def heads(self, team: Team) -> int:
        """Returns H."""
        ...

    def mask(self, alive: Tensor | None) -> Tensor | None:
        """Returns the mask of critic losses, from ``alive [..., N]``; None for no mask.

        An absent agent has no return of its own; a team's return continues without it.
        """
        ...


@dataclass(frozen=True)
class OwnReward:
    """Pays each agent its own reward.

    Its return ends when it terminates, and is cut where it is truncated.
    """

    per_agent: bool = True

    def reward(self, rollout: Rollout, team: Team) -> Tensor:
        return concat_groups(rollout.reward, team)

    def terminated(self, rollout: Rollout, team: Team) -> Tensor:
        return concat_groups(rollout.terminated, team)

    def done(self, rollout: Rollout, team: Team) -> Tensor:
        return rollout.done.unsqueeze(-1) | concat_groups(rollout.truncated, team)

    def successor(self, rollout: Rollout, team: Team) -> Observation:
        return _remove_truncated(rollout, except_groups=team)

    def heads(self, team: Team) -> int:
        return sum(group.size for group in team.values())

    def mask(self, alive: Tensor | None) -> Tensor | None:
        return alive


@dataclass(frozen=True)
class TeamReward:
    """Pays all agents the sum of their rewards, or the mean.

    The one return ends with an episode that truncated no agent of the team.
    """

    #: True for the mean of the agents' rewards, False for the sum.
    mean: bool
    per_agent: bool = False

    def reward(self, rollout: Rollout, team: Team) -> Tensor:
        rewards = concat_groups(rollout.reward, team)
        total = rewards.sum(-1, keepdim=True)
        return total / rewards.shape[-1] if self.mean else total

    def terminated(self, rollout: Rollout, team: Team) -> Tensor:
        truncated = concat_groups(rollout.truncated, team)
        return (rollout.done & ~truncated.any(-1)).unsqueeze(-1)

    def done(self, rollout: Rollout, team: Team) -> Tensor:
        return rollout.done.unsqueeze(-1)

    def successor(self, rollout: Rollout, team: Team) -> Observation:
        return _remove_truncated(rollout)

    def heads(self, team: Team) -> int:
        return 1

    def mask(self, alive: Tensor | None) -> Tensor | None:
        return None


#: Reward schemes by the words of a configuration (``reward: own``).
REWARDS: dict[str, RewardScheme] = {
    "own": OwnReward(),
    "team_sum": TeamReward(mean=False),
    "team_mean": TeamReward(mean=True),
}


def concat_groups(value: Mapping[str, Tensor], groups: Iterable[str]) -> Tensor:
    """Concatenates a value of several groups along their agents.

    Args:
        value: ``[..., N]`` by group.
        groups: the groups of a team, in order.

    Returns:
        ``[..., N]`` over all agents of the team.
    """
    return torch.cat([value[name] for name in groups], dim=-1)


def _remove_truncated(rollout: Rollout, except_groups: Team | None = None) -> Observation:
    """Returns ``next_obs`` without the agents that were truncated alone, but for some groups."""
    not_done = ~rollout.done.unsqueeze(-1)
    absent = {
        name: rollout.truncated[name] & not_done
        for name, group in rollout.next_obs.groups.items()
        if group.alive is not None and name not in (except_groups or ())
    }
    return remove_agents(rollout.next_obs, absent)


def remove_agents(obs: Observation, absent: Mapping[str, Tensor]) -> Observation:
    """Returns observations in which some agents are absent.

    Args:
        obs: observations of all groups, ``[..., N, *]``.
        absent: True for the agents to remove, ``[..., N]`` by group; groups that it lacks stay.
    """
    if not absent:
        return obs
    groups, graph = dict(obs.groups), obs.graph
    for name, mask in absent.items():
        group_obs = groups[name]
        assert group_obs.alive is not None, "only mortal agents can be absent"
        wide_mask = mask.reshape(*mask.shape, *[1] * (group_obs.obs.dim() - mask.dim()))
        groups[name] = replace(
            group_obs, obs=group_obs.obs.masked_fill(wide_mask, 0), alive=group_obs.alive & ~mask
        )
    if graph is not None:
        mask = graph.mask.clone()
        for name, rows in graph.ego:
            if name in absent:
                mask[..., rows.start : rows.stop] &= ~absent[name]
        graph = replace(graph, mask=mask)
    return replace(obs, groups=groups, graph=graph)


def team_alive(obs: Observation, team: Team) -> Tensor | None:
    """Returns 1.0 where an agent is alive, else 0.0; None for a team whose agents always are.

    Args:
        obs: observations of all groups, ``[..., N, *]``.
        team: the groups of the team.

    Returns:
        ``[..., N]`` over all agents of the team.
    """
    if not any(group.mortal for group in team.values()):
        return None
    parts = []
    for name in team:
        group_obs = obs.groups[name]
        alive = group_obs.alive
        parts.append(
            group_obs.obs.new_ones(group_obs.obs.shape[: -len(team[name].observation.shape)])
            if alive is None
            else alive
        )
    return torch.cat([part.float() for part in parts], dim=-1)


def team_mean_reward(reward: Mapping[str, Tensor], groups: list[str]) -> Tensor:
    """Returns the mean reward of a team's agents, ``[...]``.

    Args:
        reward: ``[..., N]`` by group.
        groups: the groups of the team.
    """
    parts = [reward[name] for name in groups]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)).mean(-1)
