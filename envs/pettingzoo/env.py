"""Copies of any PettingZoo parallel environment, stepped together.

Agents may differ, die and appear. An agent that dies is ``terminated`` in its last step, one that
is truncated alone shows its last observation in ``next_obs``; from then on ``alive`` is False and
its observation zero. What the environment pays it after that is passed on.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.env import copy_seeds
from marl.envs.groups import find_teams
from marl.envs.pettingzoo import factories
from marl.envs.pettingzoo.copies import Copies
from marl.envs.pettingzoo.factories import names
from marl.envs.pettingzoo.groups import build_groups, group_layout, valid_action
from marl.envs.pettingzoo.layout import Arena, Factory, Frame, Layout, Runner, carve, size_of
from marl.envs.pettingzoo.probe import probe
from marl.envs.pettingzoo.randomness import peeked
from marl.envs.pettingzoo.report import Report
from marl.envs.pettingzoo.workers import Workers
from marl.errors import UserError
from marl.types import AgentGroup, GroupObservation, Observation, Transition

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
    **kwargs: Any,
) -> PettingZooEnv:
    """The task ``name``: ``mpe2/<name>``, ``pettingzoo/<registry id>`` or ``module:factory``.

    ``kwargs`` go to the environment; ``mortal`` None knows which tasks keep all their agents.

    Raises:
        UserError: an unknown or turn-based environment, unusable spaces, arguments it does not
            take, or a missing package, with the command that installs it.
    """
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
    """``num_envs`` copies of the environment that ``make`` makes; see ``marl.env.VectorEnv``.

    Args:
        make: makes one ParallelEnv; for workers, importable by name or a ``partial`` of such.
        max_steps: a time limit on top of the environment's own.
        groups: group -> agents, instead of the default by name prefix and spaces.
        workers: processes that the copies are divided over; 0 steps them here.
        state: whether to give the environment's own ``state()``, flattened.
        mortal: whether agents may be absent; False drops ``alive``, and an absence raises.

    ``info`` holds the numbers of the agents' infos: the mean over agents, summed over the episode;
    0 where an episode does not tell one. Those that a probe of 32 random steps met are there from
    the first step on, others from where they first appear. ``state_dict`` is None: environments in
    Python can be saved only by pickling, and loading a pickle runs code. A resumed run restarts its
    episodes from new seeds.
    """

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
        self.groups = build_groups(profile, groups, mortal)
        self.teams = find_teams(self.groups)
        self.state_size = profile.state_size
        self._layout = Layout(
            num_envs,
            tuple(group_layout(group, profile) for group in self.groups.values()),
            profile.state_size,
            max_steps,
        )
        self._metrics = list(profile.info)  # those met so far
        self._runner: Runner
        if workers:
            self._runner = Workers(make, self._layout, workers, peeked())
            self._arrays = self._runner.arrays
        else:
            self._arrays = carve(self._layout, Arena(bytearray(size_of(self._layout))))
            self._runner = Copies(make, self._layout, self._arrays, range(num_envs), peeked())
        self._started = self._warned = False

    def reset(self, seed: int) -> Observation:
        self._arrays.seed[:] = copy_seeds(seed, self.num_envs)
        self._warn(self._runner.reset())
        self._started = True
        return self._observation()

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        """One step of every copy. Actions of the absent are ignored.

        Raises:
            ValueError: a living agent's action outside its space.
            EnvironmentFault: an observation, reward, state or info that is not finite, or an
                observation outside of its space; names agent, copy and step.
            WorkerError: an environment failed in a worker, or the worker was killed.
        """
        if not self._started:
            raise RuntimeError("step() before reset(seed)")
        for group, arrays in zip(self.groups.values(), self._arrays.groups, strict=True):
            arrays.action[...] = valid_action(group, action[group.name], arrays.now.alive)
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
            raise IndexError(f"copy {index} of {self.num_envs}")
        return self._runner.render(index)

    def cannot_draw(self) -> str:
        """Returns why ``render`` gives no picture, ``""`` where it does. Episodes start anew."""
        self.reset(0)
        return self._runner.cannot_draw()

    def close(self) -> None:
        self._runner.close()

    def _warn(self, report: Report) -> Report:
        """Shows the first warning: one copy tells for all."""
        if report.warnings and not self._warned:
            self._warned = True
            warnings.warn(report.warnings[0], stacklevel=3)
        return report

    # ----------------------------------------------------------------------- arrays to tensors

    def _info(self, ended: Mapping[int, Mapping[str, float]]) -> dict[str, Tensor]:
        """The metrics ``[B]`` of the episodes that ended, by row."""
        known = {
            **dict.fromkeys(self._metrics),
            **{k: None for told in ended.values() for k in told},
        }
        self._metrics = list(known)
        values = torch.zeros(len(known), self.num_envs)
        for row, told in ended.items():
            values[:, row] = torch.tensor([told.get(name, 0.0) for name in known])
        return dict(zip(known, values.to(self.device), strict=True))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.copy()).to(self.device)

    def _observation(self) -> Observation:
        return Observation(
            {
                name: self._seen(group, arrays.now)
                for (name, group), arrays in zip(
                    self.groups.items(), self._arrays.groups, strict=True
                )
            },
            self._tensor(self._arrays.state) if self.state_size is not None else None,
        )

    def _ended(self) -> np.ndarray:
        """The rows ``[B]`` whose episode is done, or some agent's of them was truncated."""
        cut = [arrays.truncated.any(1) for arrays in self._arrays.groups]
        return np.logical_or.reduce([self._arrays.done, *cut])

    def _successor(self, ended: np.ndarray) -> Observation:
        """The final frames where something ended, the current ones elsewhere."""
        frames = {
            name: self._seen(group, _merged(ended, arrays.final, arrays.now))
            for (name, group), arrays in zip(self.groups.items(), self._arrays.groups, strict=True)
        }
        if self.state_size is None:
            return Observation(frames)
        state = _where(self._arrays.done, self._arrays.final_state, self._arrays.state)
        return Observation(frames, self._tensor(state))

    def _seen(self, group: AgentGroup, frame: Frame) -> GroupObservation:
        return GroupObservation(
            self._tensor(frame.obs),
            self._tensor(frame.mask) if group.masked else None,
            self._tensor(frame.alive) if group.mortal else None,
        )


def _merged(ended: np.ndarray, final: Frame, now: Frame) -> Frame:
    return Frame(
        _where(ended, final.obs, now.obs),
        _where(ended, final.mask, now.mask),
        _where(ended, final.alive, now.alive),
    )


def _where(rows: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The ``rows`` (``[B]`` bool) of ``one``, the rest of the ``other``."""
    merged = other.copy()
    merged[rows] = one[rows]
    return merged


def _check_counts(num_envs: int, max_steps: int | None, workers: int) -> None:
    for name, value, least in (("num_envs", num_envs, 1), ("workers", workers, 0)):
        if value < least:
            raise UserError(f"{name} is {value}; expected {least} or more")
    if max_steps is not None and max_steps < 1:
        raise UserError(f"max_steps is {max_steps}; expected 1 or more, or null for none")
