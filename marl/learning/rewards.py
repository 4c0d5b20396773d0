"""What a team reads off a rollout: rewards, ends and who is alive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from marl.types import AgentGroup, Observation, Rollout

if TYPE_CHECKING:
    pass


REWARDS = ("own", "team_sum", "team_mean")


# ------------------------------------------------------------------ what a team reads off a rollout


def team_reward(rollout: Rollout, team: Mapping[str, AgentGroup], reward: str) -> Tensor:
    """The team's rewards: ``own`` ``[T, B, N]`` over all its agents, else one for all, ``[T, B,
    1]``."""
    own = torch.cat([rollout.reward[name] for name in team], dim=-1)
    if reward == "own":
        return own
    together = own.sum(-1, keepdim=True)
    return together / own.shape[-1] if reward == "team_mean" else together


def team_terminated(rollout: Rollout, team: Mapping[str, AgentGroup], reward: str) -> Tensor:
    """Where returns end for good: at an agent's death for its ``own`` reward, else with an episode
    that truncated none of the team. Shaped as ``team_reward``."""
    if reward == "own":
        return torch.cat([rollout.terminated[name] for name in team], dim=-1)
    truncated = torch.cat([rollout.truncated[name] for name in team], dim=-1)
    return (rollout.done & ~truncated.any(-1)).unsqueeze(-1)


def team_done(rollout: Rollout, team: Mapping[str, AgentGroup], reward: str) -> Tensor:
    """Where traces stop and n-step windows end, besides where returns end for good: at an agent's
    own truncation for its ``own`` reward, and with the episode. Shaped as ``team_reward``."""
    done = rollout.done.unsqueeze(-1)
    if reward != "own":
        return done
    return torch.cat([done | rollout.truncated[name] for name in team], dim=-1)


def team_successor(rollout: Rollout, team: Mapping[str, AgentGroup], reward: str) -> Observation:
    """``next_obs`` as the team's critics are to value it.

    There an agent truncated alone still shows its last observation. Its ``own`` return is cut with
    it, and is bootstrapped from that; but a team's return goes on without the agent, as do those of
    other teams, whose successor therefore shows it absent. (A central critic of own rewards is
    asked once for all agents, so that for this one step it sees their cut team-mate still there.)
    """
    own = team if reward == "own" else ()
    going_on = ~rollout.done.unsqueeze(-1)
    gone = {
        name: rollout.truncated[name] & going_on
        for name, seen in rollout.next_obs.groups.items()
        if seen.alive is not None and name not in own
    }
    return without(rollout.next_obs, gone)


def without(obs: Observation, gone: Mapping[str, Tensor]) -> Observation:
    """``obs`` where the agents ``gone`` (by group, ``[..., N]`` bool) are absent."""
    if not gone:
        return obs
    groups, graph = dict(obs.groups), obs.graph
    for name, absent in gone.items():
        seen = groups[name]
        assert seen.alive is not None, "only mortal agents can be absent"
        each = absent.reshape(*absent.shape, *[1] * (seen.obs.dim() - absent.dim()))
        groups[name] = replace(seen, obs=seen.obs.masked_fill(each, 0), alive=seen.alive & ~absent)
    if graph is not None:
        there = graph.mask.clone()
        for name, rows in graph.ego:
            if name in gone:
                there[..., rows.start : rows.stop] &= ~gone[name]
        graph = replace(graph, mask=there)
    return replace(obs, groups=groups, graph=graph)


def team_alive(obs: Observation, team: Mapping[str, AgentGroup]) -> Tensor | None:
    """1.0 where an agent is there, ``[..., N]`` over the team's agents; None where all always
    are."""
    if not any(group.mortal for group in team.values()):
        return None
    parts = []
    for name in team:
        seen = obs.groups[name]
        alive = seen.alive
        parts.append(
            seen.obs.new_ones(seen.obs.shape[: -len(team[name].observation.shape)])
            if alive is None
            else alive
        )
    return torch.cat([part.float() for part in parts], dim=-1)


def team_mean_reward(reward: Mapping[str, Tensor], groups: list[str]) -> Tensor:
    """The mean over a team's agents, ``[...]`` from ``[..., N]`` by group."""
    parts = [reward[name] for name in groups]
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)).mean(-1)
