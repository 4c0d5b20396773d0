"""Rollouts of several seeds at once, in environments side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from marl.algorithm import StackedAlgorithm
from marl.env import PureEnv, pure_env
from marl.training.collector import Collector
from marl.training.rollout_program import RolloutProgram
from marl.training.rollout_storage import RolloutStorage
from marl.types import Carry, Noise, Rollout, Transition, tree_map
from marl.utils.programs import Prepare


class SideBySide:
    """The environments of S seeds as one of ``S * B`` copies, which steps them at once.

    Args:
        envs: alike, of B copies each.
    """

    def __init__(self, envs: Sequence[PureEnv]):
        self.envs, first = list(envs), envs[0]
        self.num_envs, self.device = len(envs) * first.num_envs, first.device
        self.groups, self.teams = first.groups, first.teams

    @property
    def pure_state(self) -> Any:
        return joined([env.pure_state for env in self.envs])

    @pure_state.setter
    def pure_state(self, state: Any) -> None:
        for env, part in zip(self.envs, parted(state, len(self.envs)), strict=True):
            env.pure_state = part

    def draw_ahead(self, steps: int) -> Any:
        return joined([env.draw_ahead(steps) for env in self.envs], axis=1)

    def pure_step(
        self, state: Any, action: Mapping[str, Tensor], chance: Any
    ) -> tuple[Any, Transition]:
        return self.envs[0].pure_step(state, action, chance)


def joined(trees: Sequence[Any], axis: int = 0) -> Any:
    """Returns the tensors of alike trees side by side along an axis."""
    return tree_map(lambda *parts: torch.cat(parts, axis), *trees)


def parted(tree: Any, count: int) -> list[Any]:
    """Returns as many trees of equal parts, along the first axis, of the tensors of one."""
    apart = tree_map(lambda x: x.unflatten(0, (count, -1)), tree)
    return [tree_map(lambda x, n=number: x[n], apart) for number in range(count)]


class StackedProgram(RolloutProgram):
    """Plays rollouts of S seeds, with the noise of each seed's own random numbers.

    Args:
        collectors: of the seeds.
        env: their environments.
        teams: stacked algorithms by team.
        prepare: how blocks are run.
        failed: called with the error if a block cannot be run so.
    """

    def __init__(
        self,
        collectors: Sequence[Collector],
        env: SideBySide,
        teams: Mapping[str, StackedAlgorithm],
        prepare: Prepare,
        failed: Callable[[Exception], None],
    ):
        super().__init__(env, teams, collectors[0].steps, prepare, failed)  # type: ignore[arg-type]  # they decide and step, which is all that blocks need
        self._own = [
            (c, RolloutProgram(e, c.teams, c.steps, prepare, failed))  # type: ignore[arg-type]  # pure actors
            for c, e in zip(collectors, env.envs, strict=True)
        ]

    def _noise(self, num_envs: int, generator: torch.Generator) -> list[Noise]:
        drawn = [own._noise(c.env.num_envs, c.generator) for c, own in self._own]
        return joined(drawn, axis=1)


class StackedCollector:
    """Collects the next rollouts of S collectors, and moves their state past them.

    Args:
        collectors: of the seeds, whose environments are ``PureEnv``.
        teams: stacked algorithms by team.
        prepare: how blocks of steps are run.
        failed: called with the error if a block cannot be run so.
    """

    def __init__(
        self,
        collectors: Sequence[Collector],
        teams: Mapping[str, StackedAlgorithm],
        prepare: Prepare,
        failed: Callable[[Exception], None],
    ):
        self.collectors, first = list(collectors), collectors[0]
        env = SideBySide([cast(PureEnv, pure_env(c.env)) for c in collectors])
        self.storage = RolloutStorage(first.steps, env.num_envs, env.device)
        self.program = StackedProgram(collectors, env, teams, prepare, failed)

    def collect(self) -> tuple[list[tuple[Rollout, dict[str, Tensor]]], Rollout]:
        """Collects the next rollout of every seed.

        Returns:
            Each seed's rollout and the metrics of its steps, for ``Collector.metrics``; and all
            rollouts, ``[S, T, B, ...]`` with memories ``[S, B, ...]``.
        """
        collectors, count, storage = self.collectors, len(self.collectors), self.storage
        carries: list[Carry] = [c.carry for c in collectors]
        now = joined([(c.obs, c.carry, c.start) for c in collectors])
        now = self.program.play(now, collectors[0].generator, storage.store_block)
        for c, part in zip(collectors, parted(now, count), strict=True):
            c.obs, c.carry, c.start = part
        assert storage.rollout is not None
        apart, info = tree_map(
            lambda x: x.unflatten(1, (count, -1)).movedim(1, 0).contiguous(),
            (storage.rollout, storage.info),
        )
        rollout = replace(apart, carry=tree_map(lambda *rows: torch.stack(rows), *carries))
        parts = [tree_map(lambda x, s=s: x[s], (rollout, info)) for s in range(count)]
        for c, (_, own) in zip(collectors, parts, strict=True):
            c.storage.info = own
        return parts, rollout
