"""A survey of an environment by random play: what it pays, how it ends, who dies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from marl.env import VectorEnv, checked_steps
from marl.types import AgentGroup, Observation, Transition


@dataclass
class Rewards:
    """The rewards of all steps.

    Attributes:
        least: of an agent in a step, by group.
        largest: of an agent in a step, by group.
        mean: over agents and steps, by group.
        shared: whether all agents of a team that are present earn the same, by team.
        cancel: whether what all agents earn sums to zero in every step, and is not always zero.
    """

    least: dict[str, float]
    largest: dict[str, float]
    mean: dict[str, float]
    shared: dict[str, bool]
    cancel: bool


@dataclass
class Survey:
    """Counts what happens in steps of random play.

    Args:
        groups: of agents.
        teams: names of each team's groups.
        num_envs: B, the number of copies.

    Attributes:
        steps: so far.
        lengths: of the episodes that ended, in steps.
        terminated: episodes that ended otherwise than by a limit.
        deaths: agents that were terminated while their episode went on.
        cuts: agents that were truncated while their episode went on.
        allowed: share of the choices that masks allow the agents present, by group with masks.
        metrics: mean over the episodes, by name.
        low: least number of an observation, by group.
        high: largest number of an observation, by group.
    """

    groups: Mapping[str, AgentGroup]
    teams: Mapping[str, tuple[str, ...]]
    num_envs: int
    steps: int = 0
    lengths: list[int] = field(default_factory=list)
    terminated: int = 0
    deaths: int = 0
    cuts: int = 0
    low: dict[str, float] = field(default_factory=dict)
    high: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._age = torch.zeros(self.num_envs, dtype=torch.int64)
        self._rewards: list[dict[str, Tensor]] = []
        self._present: list[dict[str, Tensor]] = []
        self._masks: dict[str, list[float]] = {}
        self._metrics: dict[str, list[float]] = {}

    def add(self, obs: Observation, transition: Transition) -> None:
        """Counts one step.

        Args:
            obs: what the agents acted on.
            transition: the step.
        """
        self.steps += 1
        self._present.append({})
        for name, group in obs.groups.items():
            alive = group.alive
            present = torch.ones(group.obs.shape[:2]).bool() if alive is None else alive.cpu()
            self._look(name, group.obs, group.action_mask, present)
        self._rewards.append({n: r.cpu() for n, r in transition.reward.items()})
        self._end(transition)

    def _look(self, name: str, obs: Tensor, mask: Tensor | None, present: Tensor) -> None:
        self._present[-1][name] = present
        if not present.any():
            return
        values = obs.cpu()[present]
        self.low[name] = min(self.low.get(name, float("inf")), float(values.min()))
        self.high[name] = max(self.high.get(name, -float("inf")), float(values.max()))
        if mask is not None:
            allowed = mask.cpu()[present].float()
            self._masks.setdefault(name, []).append(float(allowed.mean()))

    def _end(self, transition: Transition) -> None:
        self._age += 1
        done = transition.done.cpu()
        cut = torch.cat([x.cpu() for x in transition.truncated.values()], dim=1)
        died = torch.cat([x.cpu() for x in transition.terminated.values()], dim=1)
        self.lengths += self._age[done].tolist()
        self.terminated += int((done & ~cut.any(1)).sum())
        self.deaths += int(died[~done].sum())
        self.cuts += int(cut[~done].sum())
        for name, value in transition.info.items():
            self._metrics.setdefault(name, []).extend(value.cpu()[done].tolist())
        self._age[done] = 0

    @property
    def allowed(self) -> dict[str, float]:
        return {name: sum(x) / len(x) for name, x in self._masks.items()}

    @property
    def metrics(self) -> dict[str, float]:
        return {name: sum(x) / len(x) for name, x in self._metrics.items() if x}

    def rewards(self) -> Rewards:
        """Returns what the rewards of all steps have in common."""
        values = {n: torch.stack([r[n] for r in self._rewards]) for n in self.groups}  # [T, B, N]
        present = {n: torch.stack([p[n] for p in self._present]) for n in self.groups}
        every = torch.cat(list(values.values()), dim=-1)
        size = every.abs().sum(-1)
        cancel = bool((every.sum(-1).abs() <= 1e-4 * size + 1e-6).all() and (size > 0).any())
        shared = {
            team: _alike(*(torch.cat([x[n] for n in names], dim=-1) for x in (values, present)))
            for team, names in self.teams.items()
        }
        return Rewards(
            {n: float(x.min()) + 0.0 for n, x in values.items()},  # without -0
            {n: float(x.max()) + 0.0 for n, x in values.items()},
            {n: float(x.mean()) + 0.0 for n, x in values.items()},
            shared,
            cancel,
        )


def _alike(reward: Tensor, present: Tensor) -> bool:
    """Returns whether the agents present earn the same in every step, both ``[T, B, N]``."""
    high = reward.masked_fill(~present, -torch.inf).amax(-1)
    low = reward.masked_fill(~present, torch.inf).amin(-1)
    return bool(((high - low <= 1e-5 * (1 + high.abs())) | ~present.any(-1)).all())


def play(
    env: VectorEnv, steps: int, seed: int, advance: Callable[[int], None] = lambda count: None
) -> Survey:
    """Plays at random, checks every step against the contract, and counts what happens.

    Args:
        env: the environment; it is reset.
        steps: number of steps.
        seed: of the environment and the actions.
        advance: called after each step with 1.

    Raises:
        AssertionError: it breaks the contract of ``VectorEnv``.
    """
    survey = Survey(env.groups, env.teams, env.num_envs)
    for obs, _, transition in checked_steps(env, steps, seed):
        survey.add(obs, transition)
        _check_masks(obs)
        advance(1)
    return survey


def _check_masks(obs: Observation) -> None:
    for name, group in obs.groups.items():
        if group.action_mask is not None:
            some = group.action_mask.any(-1)
            some = some if group.alive is None else some | ~group.alive
            assert some.all(), f"{name}: the action mask of an agent allows nothing"
