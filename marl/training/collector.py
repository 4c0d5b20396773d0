"""Collection of rollouts for learning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from marl.algorithm import Algorithm
from marl.env import VectorEnv, example_step
from marl.learning.rewards import team_mean_reward
from marl.training import finite
from marl.training.rollout_program import RolloutProgram, joint_step, record
from marl.training.rollout_storage import RolloutStorage
from marl.types import (
    Carry,
    Metrics,
    Observation,
    PolicyStep,
    Rollout,
    tree_map,
    tree_tensors,
)
from marl.utils import distributed

Teams = Mapping[str, Algorithm]


def act(
    teams: Teams,
    obs: Observation,
    carry: Carry,
    start: Tensor,
    generator: torch.Generator,
    explore: bool = True,
) -> PolicyStep:
    """Lets all teams act in one step of the environments.

    Args:
        teams: algorithms by team.
        obs: observations of all groups, ``[B, ...]``.
        carry: memories by group, ``[B, N, H]``.
        start: True where an episode begins, ``[B]``.
        generator: random numbers of actions.
        explore: False for greedy actions.

    Returns:
        The step of all groups of all teams.
    """
    steps = [team.act(obs, carry, start, generator, explore) for team in teams.values()]
    return joint_step(steps)


def initial_carry(teams: Teams, num_envs: int) -> Carry:
    """Returns zero memories of all teams' policies, ``[B, N, H]`` by group.

    Args:
        teams: algorithms by team.
        num_envs: B, copies of the environment.
    """
    return {k: v for team in teams.values() for k, v in team.policy.initial_carry(num_envs).items()}


class Collector:
    """Steps an environment with all teams and returns rollouts, in storage allocated once.

    A rollout is valid until the next one, and its numbers are finite. Metrics are means over the
    episodes that ended; the return of a team is the mean over its agents of their summed rewards. A
    metric of the environment that appears late counts 0 in earlier episodes.

    Args:
        env: this rank's copies of the environment.
        teams: algorithms by team.
        steps: T, steps of a rollout.
        seed: seed of the environment's first reset.
        generator: random numbers of actions.
    """

    def __init__(
        self, env: VectorEnv, teams: Teams, steps: int, seed: int, generator: torch.Generator
    ):
        self.env, self.teams, self.steps, self.generator = env, teams, steps, generator
        self.team_groups = {
            name: [g for g in env.groups if g in team.policy.groups] for name, team in teams.items()
        }
        self.program: RolloutProgram | None = None
        self.storage = RolloutStorage(steps, env.num_envs, env.device)
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Starts new episodes in all copies, from a seed."""
        env = self.env
        self.obs = env.reset(seed)
        self.carry = initial_carry(self.teams, env.num_envs)
        self.start = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
        self.episode_return = torch.zeros(len(self.teams), env.num_envs, device=env.device)

    def example(self) -> Rollout:
        """Returns a rollout of one step, for its shapes; changes no state."""
        random = torch.Generator(self.env.device)
        step = act(self.teams, self.obs, self.carry, self.start, random)
        aux = tree_map(lambda x: x.unsqueeze(0), step.aux)
        return replace(example_step(self.env.groups, self.obs), aux=aux)

    def collect(self) -> tuple[Rollout, Metrics]:
        """Collects the next rollout.

        Returns:
            The rollout, ``[T, B, ...]``, and metrics of the episodes that ended in it, by name.

        Raises:
            EnvironmentFault: a number from the environment is not finite
                (``marl.training.finite``).
        """
        first_carry = self.carry
        if self.program is None:
            for t in range(self.steps):
                self._step(t)
        else:
            now = self.obs, self.carry, self.start
            now = self.program.play(now, self.generator, self.storage.store_block)
            self.obs, self.carry, self.start = now
        assert self.storage.rollout is not None
        rollout = replace(self.storage.rollout, carry=first_carry)
        return rollout, self.metrics(rollout, self.storage.info)

    def metrics(self, rollout: Rollout, info: Mapping[str, Tensor]) -> Metrics:
        """Checks a rollout, and returns the metrics of the episodes that ended in it.

        Args:
            rollout: ``[T, B, ...]``.
            info: metrics by name ``[T, B]``, valid where an episode is done.
        """
        info = {name: torch.where(rollout.done, x, 0.0) for name, x in info.items()}
        finite.check_rollout(rollout, info, self.env.groups)
        return self._episode_metrics(rollout, info)

    def _step(self, t: int) -> None:
        step = act(self.teams, self.obs, self.carry, self.start, self.generator)
        transition = self.env.step(step.action)
        self.storage.store(t, record(self.obs, self.start, step, transition), transition.info)
        self.obs, self.carry, self.start = transition.obs, step.carry, transition.done

    def _episode_metrics(self, rollout: Rollout, info: Mapping[str, Tensor]) -> Metrics:
        """Returns means over the episodes that ended in all ranks' rollouts, NaN if none did."""
        done = rollout.done
        count = done.sum().float()
        sums = {"episodes": count}
        groups = self.team_groups.values()
        reward = torch.stack([team_mean_reward(rollout.reward, names) for names in groups])
        returns, self.episode_return = split_episodes(reward, done, self.episode_return)
        for name, team_returns in zip(self.teams, returns, strict=True):
            sums[f"return/{name}"] = team_returns.sum()
        for name in distributed.union(info):  # names that any rank knows
            sums[f"info/{name}"] = info[name].sum() if name in info else torch.zeros_like(count)
        count, *others = distributed.totals(list(sums.values()))
        return dict(zip(sums, [count, *(x / count for x in others)], strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint, the environment's included."""
        return {
            "env": self.env.state_dict(),
            "obs": tree_tensors(self.obs),
            "carry": dict(self.carry),
            "start": self.start,
            "episode_return": self.episode_return,
            "info": list(self.storage.info),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> bool:
        """Restores the state of a checkpoint.

        Returns:
            False if the state of the environment could not be saved; the collector must then be
            restarted (``restart``).
        """
        self.generator.set_state(state["generator"].cpu())
        self.storage.name_info(state["info"])
        if state["env"] is None:
            return False
        self.env.load_state_dict(state["env"])
        slots, saved = tree_tensors(self.obs), state["obs"]
        values = iter(value.to(slot.device) for slot, value in zip(slots, saved, strict=True))
        self.obs = tree_map(lambda _: next(values), self.obs)
        self.carry, self.start = state["carry"], state["start"]
        self.episode_return = state["episode_return"]
        return True


def split_episodes(reward: Tensor, done: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Sums rewards by episode.

    Args:
        reward: rewards of K teams, ``[K, T, B]``.
        done: True where an episode ends, ``[T, B]``.
        before: sums of the running episodes' earlier rewards, ``[K, B]``.

    Returns:
        The sums of the episodes that end, where they end and else 0, ``[K, T, B]``; and the sums of
        the running episodes so far, ``[K, B]``.
    """
    total = before.unsqueeze(1) + reward.cumsum(1)
    steps = torch.arange(done.shape[0], device=done.device).unsqueeze(-1)
    last_end = torch.where(done, steps, -1).cummax(0).values  # the last end up to each step
    padded = torch.cat([torch.zeros_like(total[:, :1]), total], dim=1)  # index -1 + 1: no end yet
    at_end = padded.gather(1, (last_end + 1).expand(total.shape))  # the total at that end
    previous = torch.cat([torch.zeros_like(total[:, :1]), at_end[:, :-1]], dim=1)
    return torch.where(done, total - previous, 0.0), total[:, -1] - at_end[:, -1]
