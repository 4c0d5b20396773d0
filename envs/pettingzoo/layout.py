"""Layout of the arrays of many environment copies in one block of memory, shared or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from marl.envs.pettingzoo.actions import ActionDecoder
from marl.envs.pettingzoo.report import Report
from marl.envs.pettingzoo.spaces import Encoder

Agent: TypeAlias = Hashable  # an environment's own id of an agent, mostly text
LINE = 64  # bytes; arrays start on cache lines of their own


@dataclass(frozen=True)
class GroupLayout:
    """Layout of one agent group's arrays.

    Attributes:
        agents: ids, in the order of the axis N.
        encoders: one for each agent.
        decoders: one for each agent.
        obs: shape and numpy type of an agent's observation.
        action: shape and numpy type of an agent's action.
        nvec: number of actions of each masked choice; empty without masks.
        mortal: whether agents may be absent.
    """

    agents: tuple[Agent, ...]
    encoders: tuple[Encoder, ...]
    decoders: tuple[ActionDecoder, ...]
    obs: tuple[tuple[int, ...], str]
    action: tuple[tuple[int, ...], str]
    nvec: tuple[int, ...]
    mortal: bool


@dataclass(frozen=True)
class Layout:
    """Layout of all arrays.

    Attributes:
        num_envs: B, of all workers together.
        groups: in the order of the environment's groups.
        state_size: S of the environment's state; None without one.
        max_steps: time limit of an episode, in steps; None for the environment's own.
    """

    num_envs: int
    groups: tuple[GroupLayout, ...]
    state_size: int | None
    max_steps: int | None


@dataclass(frozen=True)
class Frame:
    """Observations of one group at one moment.

    Attributes:
        obs: observations, ``[B, N, *O]``.
        mask: True where an action is allowed, ``[B, N, sum(nvec)]`` bool.
        alive: whether an agent is present, ``[B, N]`` bool.
    """

    obs: np.ndarray
    mask: np.ndarray
    alive: np.ndarray


@dataclass(frozen=True)
class GroupArrays:
    """Arrays of one group.

    Attributes:
        action: actions of the next step, ``[B, N, *A]``.
        reward: rewards of the last step, ``[B, N]`` float32.
        terminated: whether an agent's return ended for good, ``[B, N]`` bool.
        truncated: whether an agent's return was cut, ``[B, N]`` bool.
        current: observations to act on next.
        final: the true successors, valid in rows that are done or where agents were truncated.
    """

    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    current: Frame
    final: Frame


@dataclass(frozen=True)
class Arrays:
    """All arrays.

    Attributes:
        groups: in the order of the layout's.
        seed: seeds of the next reset, ``[B]`` int64.
        done: whether an episode ended, ``[B]`` bool.
        state: the environment's state to act on next, ``[B, S]`` float32.
        final_state: the state that an episode ended with, ``[B, S]`` float32; valid in rows that
            are done.
    """

    groups: tuple[GroupArrays, ...]
    seed: np.ndarray
    done: np.ndarray
    state: np.ndarray
    final_state: np.ndarray


class Runner(Protocol):
    """Runs the copies and fills the arrays, in this process or in others.

    ``reset`` and ``step`` raise EnvironmentFault where an environment gives what cannot be learned
    from.
    """

    def reset(self) -> Report:
        """Starts an episode of every copy from the seeds in the arrays."""
        ...

    def step(self) -> Report:
        """Steps every copy by the actions in the arrays."""
        ...

    def render(self, index: int) -> np.ndarray:
        """Returns a picture of copy ``index``, ``[H, W, 3]`` uint8."""
        ...

    def cannot_draw(self) -> str:
        """Returns why the copies cannot draw themselves, ``""`` where they can; after a reset."""
        ...

    def close(self) -> None:
        """Closes all environments."""
        ...


Factory = Callable[..., Any]  # -> a PettingZoo ParallelEnv


class Arena:
    """Allocator of arrays one after the other in a block of memory.

    Args:
        memory: the block, as a buffer; None to count bytes only.
    """

    def __init__(self, memory: Any = None) -> None:
        self.memory = memory
        self.used = 0

    def take(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """Returns the next array of the block.

        Args:
            shape: of the array.
            dtype: its numpy type.

        Returns:
            The array; an empty one where there is no block.
        """
        count, start = math.prod(shape), self.used
        self.used += -(-count * np.dtype(dtype).itemsize // LINE) * LINE
        if self.memory is None or count == 0:
            return np.zeros(shape if count == 0 else 0, dtype)
        return np.frombuffer(self.memory, dtype, count, start).reshape(shape)


def allocate(layout: Layout, arena: Arena) -> Arrays:
    """Returns all arrays, in every process at the same place of the block.

    Args:
        layout: their sizes.
        arena: the block.
    """
    batch, state_size = layout.num_envs, layout.state_size or 0
    return Arrays(
        groups=tuple(_allocate_group(group, batch, arena) for group in layout.groups),
        seed=arena.take((batch,), "int64"),
        done=arena.take((batch,), "bool"),
        state=arena.take((batch, state_size), "float32"),
        final_state=arena.take((batch, state_size), "float32"),
    )


def _allocate_group(group: GroupLayout, num_envs: int, arena: Arena) -> GroupArrays:
    rows = (num_envs, len(group.agents))
    return GroupArrays(
        action=arena.take((*rows, *group.action[0]), group.action[1]),
        reward=arena.take(rows, "float32"),
        terminated=arena.take(rows, "bool"),
        truncated=arena.take(rows, "bool"),
        current=_allocate_frame(group, rows, arena),
        final=_allocate_frame(group, rows, arena),
    )


def _allocate_frame(group: GroupLayout, rows: tuple[int, int], arena: Arena) -> Frame:
    return Frame(
        obs=arena.take((*rows, *group.obs[0]), group.obs[1]),
        mask=arena.take((*rows, sum(group.nvec)), "bool"),
        alive=arena.take(rows, "bool"),
    )


def size_of(layout: Layout) -> int:
    """Returns the bytes that the arrays of ``layout`` need."""
    arena = Arena()
    allocate(layout, arena)
    return arena.used
