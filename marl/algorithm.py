"""What an algorithm is, what it is built from, and what its team reads off a rollout."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from marl.errors import UserError, unknown
from marl.networks import Model
from marl.policies import Policy, act
from marl.types import AgentGroup, Carry, Metrics, Observation, PolicyStep, Rollout

if TYPE_CHECKING:
    from marl.replay import Replay

REWARDS = ("own", "team_sum", "team_mean")


@dataclass(frozen=True)
class Setting:
    """What an algorithm is built from."""

    team: Mapping[str, AgentGroup]  # the groups that learn with it
    everyone: Mapping[str, AgentGroup]  # all groups of the environment
    state_size: int | None  # of Observation.state
    num_envs: int  # B
    steps: int  # T of a rollout
    iterations: int  # updates in the whole run, for schedules
    model: Model
    critic_model: Model
    policies: Mapping[str, Policy]  # every team's, by team; read-only
    generator: torch.Generator  # the algorithm's own random numbers, on the run's device
    replay: Replay | None = None  # the run's, where a team asks for it

    @property
    def device(self) -> torch.device:
        return self.generator.device


class Algorithm(Protocol):
    """Learns for a whole team: acts decentralized, updates from the joint rollout of all groups."""

    @property
    def policy(self) -> Policy: ...

    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep: ...

    def update(self, rollout: Rollout) -> Metrics:
        """Learns from the rollout. The metrics are scalars on the device."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class AlgorithmConfig(Protocol):
    """Hyperparameters: a dataclass whose fields the command line sets and checks.

    One with a class attribute ``replays = True`` gets the run's replay, in ``Setting.replay``. One
    with a method ``first_update()`` tells the frames after which it begins to learn.
    """

    def policy(self, setting: Setting) -> Policy:
        """A policy alone, to load a checkpoint into and play."""
        ...

    def build(self, setting: Setting) -> Algorithm: ...


class Scripted:
    """A team whose policy stays as it is; ``explore`` overrides the word of whoever asks it to
    act."""

    def __init__(self, policy: Policy, explore: bool | None):
        self.policy, self.explore = policy, explore

    def act(
        self,
        obs: Observation,
        carry: Carry,
        start: Tensor,
        generator: torch.Generator,
        explore: bool = True,
    ) -> PolicyStep:
        explore = explore if self.explore is None else self.explore
        return act(self.policy, obs, carry, start, generator, explore)

    def update(self, rollout: Rollout) -> Metrics:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"policy": self.policy.state_dict()} if isinstance(self.policy, nn.Module) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if isinstance(self.policy, nn.Module):
            self.policy.load_state_dict(state["policy"])


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


def check_word(name: str, value: str, choices: Iterable[str]) -> None:
    """Raises UserError where ``value`` is none of ``choices``."""
    if value not in choices:
        raise unknown(name, value, choices)


def check_range(config: object, **bounds: tuple[float, float]) -> None:
    """Raises UserError where a field of ``config`` lies outside its (low, high); None passes."""
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            expected = f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise UserError(f"{name}={value} is out of range; expected {expected}")
