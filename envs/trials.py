"""Trials of an environment: whether seeds and saved states repeat, and how fast it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from marl.env import VectorEnv, checked_steps, random_action
from marl.errors import UserError
from marl.types import Observation, tree_tensors

MakeEnv = Callable[[int, torch.device], VectorEnv]
#: Steps of an environment that are repeated with its seed, and from its saved state.
REPEATED = 10
#: For how long the speed is measured, at least.
SECONDS = 0.5


@contextmanager
def one_sentence(task: str, doing: str) -> Iterator[None]:
    """Turns any fault of an environment within the block into one sentence.

    Args:
        task: its name.
        doing: what is done within, such as ``random play``.

    Raises:
        UserError: in place of the environment's error.
    """
    try:
        yield
    except UserError:
        raise
    except AssertionError as error:
        if not str(error):
            raise
        words = " ".join(str(error).split())
        raise UserError(
            f"task {task!r} breaks the contract of environments in {doing}: {words}"
        ) from error
    except Exception as error:  # the environment's own, a worker's process among them
        lines = str(error).strip().splitlines() or [""]
        words = " ".join(lines[-1].split())
        place = _place(error)
        raise UserError(
            f"task {task!r} failed in {doing}: {type(error).__name__}: {words}{place}"
        ) from error


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})" if trace else ""


def repeats(make: MakeEnv, device: torch.device, seed: int) -> bool:
    """Returns whether two environments of one seed play the same under the same actions."""
    one, other = (_played(make, device, seed) for _ in range(2))
    return _same(one, other)


def restores(make: MakeEnv, device: torch.device, seed: int) -> bool | None:
    """Returns whether another environment goes on from a saved state as the first one does; None
    where the environment cannot save its state."""
    first, second = make(2, device), make(2, device)
    try:
        steps = list(checked_steps(first, REPEATED, seed))
        if (state := first.state_dict()) is None:
            return None
        second.reset(seed + 1)
        second.load_state_dict(state)
        random, obs = torch.Generator(device).manual_seed(seed), steps[-1][2].obs
        for _ in range(REPEATED):
            action = _random(first, obs, random)
            one, two = (
                env.step({n: x.clone() for n, x in action.items()}) for env in (first, second)
            )
            if not _same(one, two):
                return False
            obs = one.obs
        return True
    finally:
        first.close()
        second.close()


def frames_per_second(env: VectorEnv, seed: int = 0) -> float:
    """Returns the frames per second of random play, those to warm up not counted.

    Args:
        env: the environment; it is reset.
        seed: of the environment and the actions.
    """
    random, obs = torch.Generator(env.device).manual_seed(seed), env.reset(seed)
    obs = env.step(_random(env, obs, random)).obs
    begin, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - begin < SECONDS:
        obs = env.step(_random(env, obs, random)).obs
        steps += 1
        if env.device.type == "cuda":
            torch.cuda.synchronize(env.device)
    return steps * env.num_envs / (time.perf_counter() - begin)


def _random(env: VectorEnv, obs: Observation, generator: torch.Generator) -> dict[str, Tensor]:
    return {n: random_action(g, obs.groups[n], generator) for n, g in env.groups.items()}


def _played(make: MakeEnv, device: torch.device, seed: int) -> list[Any]:
    env = make(2, device)
    try:
        return list(checked_steps(env, REPEATED, seed))
    finally:
        env.close()


def _same(one: Any, other: Any) -> bool:
    pairs = zip(tree_tensors(one), tree_tensors(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
