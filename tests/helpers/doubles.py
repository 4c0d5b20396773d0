"""Native environments and networks in float64, to compare ways of computing the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from marl.envs.task import Task
from marl.types import tree_map


@contextmanager
def default_doubles() -> Iterator[None]:
    """Builds networks in float64 within a block."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


class Doubles:
    """A task whose environments observe and pay in float64.

    A step draws the random numbers of a pure step, whether or not episodes end.
    """

    def __init__(self, task: Task):
        self.task = task

    def __call__(self, num_envs: int, device: torch.device) -> Any:
        env: Any = self.task(num_envs, device)
        kind = type(env)

        def cast(tree: Any) -> Any:
            return tree_map(lambda x: x.double() if x.is_floating_point() else x, tree)

        def casting(name: str) -> Any:
            return lambda self, *args: cast(getattr(kind, name)(self, *args))

        names = ("reset", "step", "pure_step", "draw_ahead")
        env.__class__ = type(kind.__name__, (kind,), {name: casting(name) for name in names})
        if hasattr(env, "_checks_ends"):
            env._checks_ends = env._checks_ends and not getattr(env, "_may_terminate", True)
        return env
