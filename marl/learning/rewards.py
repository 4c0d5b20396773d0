"""How a team is paid: the rewards, ends and successors that it learns from in a rollout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from marl.types import AgentGroup, Observation, Rollout

Team = Mapping[str, AgentGroup]


class RewardScheme(Protocol):
    """Whose rewards a return sums, and where it ends. ``REWARDS`` has one for every word of a
    configuration.

    H counts its returns: the team's agents in the order of its groups, or 1 for all of them.
    """

    @property
    def per_agent(self) -> bool:
        """Whether every agent has a return of its own."""
        ...

    def reward(self, rollout: Rollout, team: Team) -> Tensor:
        """Returns the rewards, ``[T, B, H]``."""
        ...

    def terminated(self, rollout: Rollout, team: Team) -> Tensor:
        """Returns where a return ends for good, ``[T, B, H]`` bool."""
        ...

    def done(self, rollout: Rollout, team: Team) -> Tensor:
        """Returns where traces stop and n-step windows end, besides where a return ends for good:
        ``[T, B, H]`` bool."""
        ...

    def successor(self, rollout: Rollout, team: Team) -> Observation:
        """Returns ``next_obs`` as the team's critics are to value it.

        There an agent truncated alone still shows its last observation. A return of its own is cut
        with it, and is bootstrapped from that; but a team's return goes on without the agent, as do
        those of other teams, whose successor therefore shows it absent. (A central critic of the
        agents' own rewards is asked once for all agents, so that for this one step it sees their
        cut team-mate still there.)
        """
        ...

    def heads(self, team: Team) -> int:
        """Returns H."""
        ...

    def mask(self, alive: Tensor | None) -> Tensor | None:
        """Returns which of ``alive [..., N]`` critics learn from, None for all: an absent agent has
        no return of its own, and a team's goes on without it."""
        ...


@dataclass(frozen=True)
class OwnReward:
    """Every agent is paid its own reward: its return ends at its death, and is cut where it is
    truncated."""

    per_agent: bool = True

    def reward(self, rollout: Rollout, team: Team) -> Tensor:
        return joined(rollout.reward, team)

    def terminated(self, rollout: Rollout, team: Team) -> Tensor:
        return joined(rollout.terminated, team)

    def done(self, rollout: Rollout, team: Team) -> Tensor:
        return rollout.done.unsqueeze(-1) | joined(rollout.truncated, team)

    def successor(self, rollout: Rollout, team: Team) -> Observation:
        return _without_truncated(rollout, others_than=team)

    def heads(self, team: Team) -> int:
        return sum(group.size for group in team.values())

    def mask(self, alive: Tensor | None) -> Tensor | None:
        return alive


@dataclass(frozen=True)
class TeamReward:
    """All are paid the sum of the agents' rewards, or their mean: the one return ends with an
    episode that truncated none of the team."""

    mean: bool
    per_agent: bool = False

    def reward(self, rollout: Rollout, team: Team) -> Tensor:
        each = joined(rollout.reward, team)
        total = each.sum(-1, keepdim=True)
        return total / each.shape[-1] if self.mean else total

    def terminated(self, rollout: Rollout, team: Team) -> Tensor:
        truncated = joined(rollout.truncated, team)
        return (rollout.done & ~truncated.any(-1)).unsqueeze(-1)

    def done(self, rollout: Rollout, team: Team) -> Tensor:
        return rollout.done.unsqueeze(-1)

    def successor(self, rollout: Rollout, team: Team) -> Observation:
        return _without_truncated(rollout)

    def heads(self, team: Team) -> int:
        return 1

    def mask(self, alive: Tensor | None) -> Tensor | None:
        return None


# What the words of a configuration (``reward: own``) mean.
REWARDS: dict[str, RewardScheme] = {
    "own": OwnReward(),
    "team_sum": TeamReward(mean=False),
    "team_mean": TeamReward(mean=True),
}


def joined(value: Mapping[str, Tensor], team: Iterable[str]) -> Tensor:
    """Returns what groups have ``[..., N]`` each, side by side over all the team's agents."""
    return torch.cat([value[name] for name in team], dim=-1)


def _without_truncated(rollout: Rollout, others_than: Team | None = None) -> Observation:
    """``next_obs`` without the agents that were truncated alone, but for those of one team."""
    going_on = ~rollout.done.unsqueeze(-1)
    gone = {
        name: rollout.truncated[name] & going_on
        for name, group in rollout.next_obs.groups.items()
        if group.alive is not None and name not in (others_than or ())
    }
    return without(rollout.next_obs, gone)


def without(obs: Observation, gone: Mapping[str, Tensor]) -> Observation:
    """``obs`` where the agents ``gone`` (by group, ``[..., N]`` bool) are absent."""
    if not gone:
        return obs
    groups, graph = dict(obs.groups), obs.graph
    for name, absent in gone.items():
        group_obs = groups[name]
        assert group_obs.alive is not None, "only mortal agents can be absent"
        each = absent.reshape(*absent.shape, *[1] * (group_obs.obs.dim() - absent.dim()))
        groups[name] = replace(
            group_obs, obs=group_obs.obs.masked_fill(each, 0), alive=group_obs.alive & ~absent
        )
    if graph is not None:
        mask = graph.mask.clone()
        for name, rows in graph.ego:
            if name in gone:
                mask[..., rows.start : rows.stop] &= ~gone[name]
        graph = replace(graph, mask=mask)
    return replace(obs, groups=groups, graph=graph)


def team_alive(obs: Observation, team: Team) -> Tensor | None:
    """1.0 where an agent is there, ``[..., N]`` over the team's agents; None where all always
    are."""
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
    """The mean over a team's agents, ``[...]`` from ``[..., N]`` by group."""
    parts = [reward[name] for name in groups]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)).mean(-1)
