"""What tests of the replay stand on: stamped rollouts, a naive n-step return, and an algorithm that
only looks at what it draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from marl.algorithm import Context
from marl.envs.task import Task
from marl.experiment import Experiment, Settings
from marl.learning.rewards import REWARDS
from marl.policies.base import Policy
from marl.policies.fixed import Scripted
from marl.policies.random import RandomPolicy
from marl.training.collector import Collector
from marl.training.rollout_storage import RolloutStorage
from marl.types import Metrics, Observation, Rollout, tree_map
from tests.helpers.builders import CPU, randomly
from tests.helpers.experiments import SHORT
from tests.helpers.toy_envs import mortal

COPIES = 4


def rollouts(steps: Sequence[int]) -> Iterator[Rollout]:
    """Rollouts of so many steps, one after the other, with deaths, truncations, terminations and
    random rewards. An observation tells its step and copy, ``t + b / 8``; a successor that no
    next step shows ``+ 0.5``."""
    env, random, done = mortal(COPIES, CPU), torch.Generator().manual_seed(5), 0
    collector = Collector(env, randomly(env), 1, 2, random)
    for count in steps:
        collector.steps, collector.storage = count, RolloutStorage(count, COPIES, CPU)
        rollout, _ = collector.collect()
        stamp = torch.arange(done, done + count).unsqueeze(-1) + torch.arange(COPIES) / 8
        reward = {k: torch.randn(x.shape, generator=random) for k, x in rollout.reward.items()}
        after = stamp + torch.where(apart(rollout), 0.5, 1.0)
        seen, later = _stamped(rollout.obs, stamp), _stamped(rollout.next_obs, after)
        yield replace(rollout, obs=seen, next_obs=later, reward=reward)
        done += count


def apart(rollout: Rollout) -> Tensor:
    """Where an episode ended or an agent was truncated, ``[T, B]``."""
    return rollout.done | torch.stack([x.any(-1) for x in rollout.truncated.values()]).any(0)


def _stamped(obs: Observation, stamp: Tensor) -> Observation:
    groups = {
        name: replace(seen, obs=stamp[..., None, None].expand_as(seen.obs))
        for name, seen in obs.groups.items()
    }
    return replace(obs, groups=groups)


def stamps(obs: Observation) -> Tensor:
    """What ``rollouts`` wrote into the observations, ``[...]``."""
    return obs.groups["left"].obs[..., 0, 0]


def joined(parts: Sequence[Rollout]) -> Rollout:
    """Rollouts in a row as one."""
    first, *rest = (replace(part, carry={}) for part in parts)
    return tree_map(lambda *leaves: torch.cat(leaves), first, *rest)


@dataclass(frozen=True)
class NaiveReturn:
    reward: list[float]  # of H returns
    discount: list[float]
    last: int  # the step that it ends with


def naive_n_step(
    reward: Tensor, terminated: Tensor, done: Tensor, start: int, steps: int, gamma: float
) -> NaiveReturn:
    """n-step returns from step ``start`` of ``[T, H]``, ``[T, H]`` and ``[T]``, word by word."""
    heads = range(reward.shape[1])
    total, living, length = [0.0 for _ in heads], [True for _ in heads], 0
    for t in range(start, min(start + steps, len(reward))):
        for h in heads:
            if living[h]:
                total[h] += gamma**length * float(reward[t, h])
            living[h] = living[h] and not terminated[t, h]
        length += 1
        if done[t]:
            break
    return NaiveReturn(total, [gamma**length * alive for alive in living], start + length - 1)


# ------------------------------------------------------------------------- an algorithm that draws


@dataclass
class LookingConfig:
    """Plays at random and reports what it draws from the replay."""

    needs_replay: ClassVar[bool] = True

    def policy(self, context: Context) -> Policy:
        return RandomPolicy(context.team)

    def build(self, context: Context) -> Looking:
        return Looking(self.policy(context), context)


class Looking(Scripted):
    def __init__(self, policy: Policy, context: Context):
        super().__init__(policy, explore=True)
        self.context = context

    def update(self, rollout: Rollout) -> Metrics:
        replay, random, team = self.context.replay, self.context.generator, self.context.team
        assert replay is not None
        batch = replay.transitions(replay.draw(16, random), 3, 0.9, team, REWARDS["own"])
        window = replay.take(replay.draw_windows(3, 6, random))
        sums = [x.double().sum() for seen in window.obs.groups.values() for x in [seen.obs]]
        return {
            "reward": batch.reward.mean(),
            "discount": batch.discount.mean(),
            "seen": torch.stack(sums).sum().float(),
            "stored": torch.tensor(float(replay.stored_frames)),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.context.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.context.generator.set_state(state["generator"].cpu())


def looking(directory: Path, task: str = "identity", sinks: Any = None, **settings: Any):
    """A run whose metrics tell what its replay of 25 steps holds; a rollout has 10."""
    return Experiment(
        Task(task if ":" in task else f"tests.helpers.toy_envs:{task}"),
        LookingConfig(),
        settings=Settings(**{**SHORT, "replay_size": 100, "video": False, **settings}),
        directory=directory,
        sinks=sinks,
    )
