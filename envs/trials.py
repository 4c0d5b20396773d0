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
from marl.types import Observation, Transition, tree_tensors

MakeEnv = Callable[[int, torch.device], VectorEnv]
#: Steps of an environment before its state is saved: a prime number, for an episode's time that
#: starts again from 0 must not agree with it by chance.
BEFORE = 7
#: Steps that are repeated after the first end of an episode, with a seed and from a saved state.
AFTER = 5
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
    except (UserError, BrokenPipeError):  # of a reader of the output that has gone
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


def repeats(make: MakeEnv, device: torch.device, seed: int, steps: int = 200) -> bool:
    """Returns whether two environments of one seed play the same under the same actions, until
    shortly after an episode has ended, or for ``steps`` steps."""
    one, other = (_played(make, device, seed, steps) for _ in range(2))
    return _same(one, other)


def restores(make: MakeEnv, device: torch.device, seed: int, steps: int = 200) -> bool | None:
    """Returns whether another environment goes on from a saved state as the first one does, until
    shortly after an episode has ended, or for ``steps`` steps; None where the environment cannot
    save its state."""
    first, second = make(2, device), make(2, device)
    try:
        obs = [t.obs for _, _, t in checked_steps(first, BEFORE, seed)][-1]
        if (state := first.state_dict()) is None:
            return None
        second.reset(seed + 1)
        second.load_state_dict(state)
        return _go_on_equally(first, second, obs, seed, steps)
    finally:
        first.close()
        second.close()


def _go_on_equally(
    first: VectorEnv, second: VectorEnv, obs: Observation, seed: int, steps: int
) -> bool:
    random, left = torch.Generator(first.device).manual_seed(seed), steps
    while left > 0:
        action = _random(first, obs, random)
        one, two = (env.step({n: x.clone() for n, x in action.items()}) for env in (first, second))
        if not _same(one, two):
            return False
        obs, left = one.obs, _left(left, one)
    return True


def _left(left: int, transition: Transition) -> int:
    """Returns how many steps follow: a few after the end of an episode."""
    return min(left - 1, AFTER) if transition.done.any() else left - 1


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


def _played(make: MakeEnv, device: torch.device, seed: int, steps: int) -> list[Any]:
    env, played, left = make(2, device), [], steps
    try:
        for step in checked_steps(env, steps, seed):
            played.append(step)
            if not (left := _left(left, step[2])):
                break
        return played
    finally:
        env.close()


def _same(one: Any, other: Any) -> bool:
    """Returns whether all tensors of two steps, or of two plays, are equal."""
    these, those = list(tree_tensors(one)), list(tree_tensors(other))
    return len(these) == len(those) and all(map(torch.equal, these, those))
