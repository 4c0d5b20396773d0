"""Where the numbers of many environment copies lie in one block of memory, shared or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from marl.envs.pettingzoo.report import Report
from marl.envs.pettingzoo.spaces import ActionDecoder, Encoder

Agent: TypeAlias = Hashable  # an environment's own id of an agent, mostly text
LINE = 64  # bytes; arrays start on cache lines of their own


@dataclass(frozen=True)
class GroupLayout:
    """One agent group, as the copies fill it."""

    agents: tuple[Agent, ...]
    encoders: tuple[Encoder, ...]  # one per agent
    decoders: tuple[ActionDecoder, ...]
    obs: tuple[tuple[int, ...], str]  # shape, dtype
    action: tuple[tuple[int, ...], str]
    nvec: tuple[int, ...]  # choices under a mask; empty where nothing is masked
    mortal: bool


@dataclass(frozen=True)
class Layout:
    num_envs: int
    groups: tuple[GroupLayout, ...]
    state_size: int | None
    max_steps: int | None


@dataclass(frozen=True)
class Frame:
    """What the agents of one group see at one moment."""

    obs: np.ndarray  # [B, N, *shape]
    mask: np.ndarray  # [B, N, M] bool
    alive: np.ndarray  # [B, N] bool


@dataclass(frozen=True)
class GroupArrays:
    action: np.ndarray  # [B, N, *shape]
    reward: np.ndarray  # [B, N] float32
    terminated: np.ndarray  # [B, N] bool
    truncated: np.ndarray  # [B, N] bool
    now: Frame  # to act on
    final: Frame  # the true successor; valid in rows that are done or where agents were truncated


@dataclass(frozen=True)
class Arrays:
    groups: tuple[GroupArrays, ...]
    seed: np.ndarray  # [B] int64, of the next reset
    done: np.ndarray  # [B] bool
    state: np.ndarray  # [B, S] float32
    final_state: np.ndarray  # [B, S] float32, valid in rows that are done


class Runner(Protocol):
    """Fills the arrays: in this process, or in others.

    Raises:
        EnvironmentFault: the environment gave what cannot be learned from.
    """

    def reset(self) -> Report: ...

    def step(self) -> Report: ...

    def render(self, index: int) -> np.ndarray: ...

    def cannot_draw(self) -> str: ...

    def close(self) -> None: ...


Factory = Callable[..., Any]  # -> a PettingZoo ParallelEnv


class Arena:
    """Arrays cut one after the other from a block of memory; without one, only counts the bytes."""

    def __init__(self, memory: Any = None) -> None:
        self.memory = memory
        self.used = 0

    def take(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        count, start = math.prod(shape), self.used
        self.used += -(-count * np.dtype(dtype).itemsize // LINE) * LINE
        if self.memory is None or count == 0:
            return np.zeros(shape if count == 0 else 0, dtype)
        return np.frombuffer(self.memory, dtype, count, start).reshape(shape)


def carve(layout: Layout, arena: Arena) -> Arrays:
    """All arrays of ``layout``; the same calls in the same order in every process."""
    batch, state_size = layout.num_envs, layout.state_size or 0
    return Arrays(
        groups=tuple(_carve_group(group, batch, arena) for group in layout.groups),
        seed=arena.take((batch,), "int64"),
        done=arena.take((batch,), "bool"),
        state=arena.take((batch, state_size), "float32"),
        final_state=arena.take((batch, state_size), "float32"),
    )


def _carve_group(group: GroupLayout, num_envs: int, arena: Arena) -> GroupArrays:
    rows = (num_envs, len(group.agents))
    return GroupArrays(
        action=arena.take((*rows, *group.action[0]), group.action[1]),
        reward=arena.take(rows, "float32"),
        terminated=arena.take(rows, "bool"),
        truncated=arena.take(rows, "bool"),
        now=_carve_frame(group, rows, arena),
        final=_carve_frame(group, rows, arena),
    )


def _carve_frame(group: GroupLayout, rows: tuple[int, int], arena: Arena) -> Frame:
    return Frame(
        obs=arena.take((*rows, *group.obs[0]), group.obs[1]),
        mask=arena.take((*rows, sum(group.nvec)), "bool"),
        alive=arena.take(rows, "bool"),
    )


def size_of(layout: Layout) -> int:
    """Bytes that the arrays of ``layout`` need."""
    arena = Arena()
    carve(layout, arena)
    return arena.used
