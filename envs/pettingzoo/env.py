"""Adapter of PettingZoo: copies of one environment, stepped together.

Task: ``mpe2/<name>``, ``pettingzoo/<registry id>``, ``aec/<registry id>``, or an import path to a
function that returns a ParallelEnv or an AECEnv. Turn-based environments (AEC) are adapted by
``marl.envs.aec.turns``. Agents, observations, actions and rewards are the environment's own:

- **Agents** are grouped by the prefix of their names and their spaces; they may differ, die and
  appear. An agent that dies is ``terminated`` in its last step; one that is truncated alone shows
  its last observation in ``next_obs``. From then on ``alive`` is False and its observation zero.
- **Observation**: float32; a Box as it is, Discrete and MultiDiscrete as one-hot vectors,
  MultiBinary as zeros and ones, a Dict or Tuple as its parts one after the other. Images stay
  images (``marl.envs.pettingzoo.spaces``).
- **Actions**: Discrete, MultiDiscrete or Continuous; continuous ones are clipped to their bounds.
  Masks come from ``observation["action_mask"]`` or ``info["action_mask"]``.
- **Reward**: the environment's, for each agent; an agent that has left may still be paid.

Differences from PettingZoo's own loop: an episode restarts by itself, an end by the environment's
time limit is a truncation only where the environment says so, and the same seed gives the same
episodes in this process and in workers.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.env import copy_seeds
from marl.envs.pettingzoo import factories
from marl.envs.pettingzoo.copies import Copies
from marl.envs.pettingzoo.factories import names
from marl.envs.pettingzoo.groups import build_groups, build_teams, group_layout, valid_action
from marl.envs.pettingzoo.layout import (
    Arena,
    Factory,
    Frame,
    Layout,
    Runner,
    allocate,
    size_of,
)
from marl.envs.pettingzoo.probe import probe
from marl.envs.pettingzoo.randomness import peek_seed
from marl.envs.pettingzoo.report import Report
from marl.envs.pettingzoo.workers import Workers
from marl.errors import UserError
from marl.types import AgentGroup, GroupObservation, Observation, Transition

IGNORES_SEED = (
    "two resets of the environment with the same seed gave other observations, so that runs cannot "
    "be repeated; draw all of its random numbers from a generator that reset(seed) seeds"
)

__all__ = ["PettingZooEnv", "make", "names"]


def make(
    name: str,
    num_envs: int,
    device: str | torch.device = "cpu",
    max_steps: int | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    workers: int = 0,
    state: bool = False,
    mortal: bool | None = None,
    options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> PettingZooEnv:
    """Returns copies of the task ``name``.

    Args:
        name: ``mpe2/<name>``, ``pettingzoo/<registry id>``, ``aec/<registry id>`` or
            ``module:factory``.
        num_envs: B, the number of copies.
        device: where tensors are returned.
        max_steps: a time limit on top of the environment's own, in steps; None without.
        groups: group -> agents, in place of groups by name and spaces.
        workers: processes that the copies are divided over; 0 steps them in this process.
        state: whether to observe the environment's ``state()``.
        mortal: whether agents may be absent; None for False where the task is known to keep
            all its agents, else True.
        options: go to the environment, whatever their names; None for none.
        kwargs: go to the environment too.

    Raises:
        UserError: an unknown environment, unusable spaces, arguments it does not take, or a
            missing package, with the command that installs it.
    """
    kwargs |= options or {}
    factory = factories.factory(name, **kwargs)
    if mortal is None:
        mortal = not factories.IMMORTAL.match(name)
    try:
        return PettingZooEnv(factory, num_envs, device, max_steps, groups, workers, state, mortal)
    except TypeError as error:
        if not kwargs or "argument" not in str(error):
            raise
        raise UserError(f"task {name!r} does not take {kwargs}: {error}") from error


class PettingZooEnv:
    """Copies of one PettingZoo environment; see ``marl.env.VectorEnv``.

    ``info`` holds the numbers of the agents' infos: the mean over agents, summed over the episode,
    and 0 where an episode has none. Numbers that a probe of 32 random steps met are there from the
    first step on, others from their first appearance. ``state_dict`` is None: Python environments
    can be saved by pickling only, and loading a pickle runs code. A resumed run restarts its
    episodes from new seeds.

    Args:
        make: makes one ParallelEnv or AECEnv; for workers, importable by name or a ``partial`` of
            such.
        num_envs: B, the number of copies.
        device: where tensors are returned.
        max_steps: a time limit on top of the environment's own, in steps; None without.
        groups: group -> agents, in place of groups by name prefix and spaces.
        workers: processes that the copies are divided over; 0 steps them in this process.
        state: whether to give the environment's own ``state()``, flattened.
        mortal: whether agents may be absent; False drops ``alive``, and an absence raises.

    Raises:
        UserError: counts out of range, or spaces, names or a state that cannot be used.
    """

    #: Python steps it, which no program of tensors holds.
    steps_on_host = True

    def __init__(
        self,
        make: Factory,
        num_envs: int,
        device: str | torch.device = "cpu",
        max_steps: int | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        workers: int = 0,
        state: bool = False,
        mortal: bool = True,
    ) -> None:
        _check_counts(num_envs, max_steps, workers)
        self.num_envs, self.device = num_envs, torch.device(device)
        profile = probe(make, state)
        if profile.ignores_seed:
            warnings.warn(IGNORES_SEED, stacklevel=2)
        self.groups = build_groups(profile, groups, mortal)
        self.teams = build_teams(profile, self.groups)
        self.state_size = profile.state_size
        self._layout = Layout(
            num_envs,
            tuple(group_layout(group, profile) for group in self.groups.values()),
            profile.state_size,
            max_steps,
        )
        self._metrics = list(profile.info)  # names met so far
        self._runner: Runner
        if workers:
            self._runner = Workers(make, self._layout, workers, peek_seed())
            self._arrays = self._runner.arrays
        else:
            self._arrays = allocate(self._layout, Arena(bytearray(size_of(self._layout))))
            self._runner = Copies(make, self._layout, self._arrays, range(num_envs), peek_seed())
        self._started = self._warned = False

    def reset(self, seed: int) -> Observation:
        self._arrays.seed[:] = copy_seeds(seed, self.num_envs)
        self._warn(self._runner.reset())
        self._started = True
        return self._observation()

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        """Steps every copy; see ``VectorEnv``. Actions of absent agents are ignored.

        Args:
            action: ``[B, N, *A]`` by group.

        Raises:
            ValueError: an action of a present agent outside its space.
            EnvironmentFault: an observation, reward, state or info that is not finite, or an
                observation outside of its space; names agent, copy and step.
            WorkerError: an environment failed in a worker, or the worker was killed.
        """
        if not self._started:
            raise RuntimeError("step() was called before reset(seed); reset the environment first")
        for group, arrays in zip(self.groups.values(), self._arrays.groups, strict=True):
            arrays.action[...] = valid_action(group, action[group.name], arrays.current.alive)
        report = self._warn(self._runner.step())
        groups = dict(zip(self.groups, self._arrays.groups, strict=True))
        obs, ended = self._observation(), self._ended()
        return Transition(
            obs=obs,
            next_obs=self._successor(ended) if ended.any() else obs,
            reward={name: self._tensor(arrays.reward) for name, arrays in groups.items()},
            terminated={name: self._tensor(arrays.terminated) for name, arrays in groups.items()},
            truncated={name: self._tensor(arrays.truncated) for name, arrays in groups.items()},
            done=self._tensor(self._arrays.done),
            info=self._info(report.infos),
        )

    def state_dict(self) -> None:
        return None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise RuntimeError(
            "PettingZoo environments have no state to load; reset them with a new seed"
        )

    def render(self, index: int = 0) -> np.ndarray:
        if not 0 <= index < self.num_envs:
            raise IndexError(f"no copy {index} to render; expected 0 to {self.num_envs - 1}")
        return self._runner.render(index)

    def cannot_draw(self) -> str:
        """Returns why ``render`` gives no picture, ``""`` where it does. Restarts all episodes."""
        self.reset(0)
        return self._runner.cannot_draw()

    def close(self) -> None:
        self._runner.close()

    def _warn(self, report: Report) -> Report:
        """Shows the first warning only: one copy speaks for all."""
        if report.warnings and not self._warned:
            self._warned = True
            warnings.warn(report.warnings[0], stacklevel=3)
        return report

    # ----------------------------------------------------------------------- arrays to tensors

    def _info(self, ended: Mapping[int, Mapping[str, float]]) -> dict[str, Tensor]:
        """Returns the metrics of the episodes that ended, ``[B]`` by name, from those by row."""
        names = {
            **dict.fromkeys(self._metrics),
            **{name: None for metrics in ended.values() for name in metrics},
        }
        self._metrics = list(names)
        values = torch.zeros(len(names), self.num_envs)
        for row, metrics in ended.items():
            values[:, row] = torch.tensor([metrics.get(name, 0.0) for name in names])
        return dict(zip(names, values.to(self.device), strict=True))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.copy()).to(self.device)

    def _observation(self) -> Observation:
        return Observation(
            {
                name: self._group_observation(group, arrays.current)
                for (name, group), arrays in zip(
                    self.groups.items(), self._arrays.groups, strict=True
                )
            },
            self._tensor(self._arrays.state) if self.state_size is not None else None,
        )

    def _ended(self) -> np.ndarray:
        """Returns the rows whose episode is done or in which an agent was truncated, ``[B]``."""
        truncated = [arrays.truncated.any(1) for arrays in self._arrays.groups]
        return np.logical_or.reduce([self._arrays.done, *truncated])

    def _successor(self, ended: np.ndarray) -> Observation:
        """Returns the final frames where something ended, the current ones elsewhere."""
        frames = {
            name: self._group_observation(group, _merge_frames(ended, arrays.final, arrays.current))
            for (name, group), arrays in zip(self.groups.items(), self._arrays.groups, strict=True)
        }
        if self.state_size is None:
            return Observation(frames)
        state = _select_rows(self._arrays.done, self._arrays.final_state, self._arrays.state)
        return Observation(frames, self._tensor(state))

    def _group_observation(self, group: AgentGroup, frame: Frame) -> GroupObservation:
        return GroupObservation(
            self._tensor(frame.obs),
            self._tensor(frame.mask) if group.masked else None,
            self._tensor(frame.alive) if group.mortal else None,
        )


def _merge_frames(ended: np.ndarray, final: Frame, current: Frame) -> Frame:
    """Returns the ``final`` frame in the rows ``ended [B]``, the one to act on elsewhere."""
    return Frame(
        _select_rows(ended, final.obs, current.obs),
        _select_rows(ended, final.mask, current.mask),
        _select_rows(ended, final.alive, current.alive),
    )


def _select_rows(rows: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns ``one`` in the rows ``[B]`` bool, ``other`` elsewhere."""
    merged = other.copy()
    merged[rows] = one[rows]
    return merged


def _check_counts(num_envs: int, max_steps: int | None, workers: int) -> None:
    for name, value, least in (("num_envs", num_envs, 1), ("workers", workers, 0)):
        if value < least:
            raise UserError(f"{name} is {value}; expected {least} or more")
    if max_steps is not None and max_steps < 1:
        raise UserError(f"max_steps is {max_steps}; expected 1 or more, or null for none")
