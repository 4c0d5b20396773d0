"""Parts of the native environments: measures of an episode, restarts, checks of a state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from marl.errors import UserError
from marl.types import AgentGroup, tree_map, tree_tensors

T = TypeVar("T")


class Measures:
    """An episode's measures, and how they add up over its steps.

    Args:
        words: ``sum``, ``mean`` or ``last`` for each measure, by name.
        device: where totals are.
        dtype: of the totals.
    """

    def __init__(self, words: Mapping[str, str], device: torch.device, dtype: torch.dtype):
        self.names = list(words)
        adds = [float(word != "last") for word in words.values()]
        self._adds = torch.tensor(adds, device=device, dtype=dtype)
        means = [word == "mean" for word in words.values()]
        self._averages = torch.tensor(means, device=device)

    def add(self, totals: Tensor, now: Sequence[Tensor]) -> Tensor:
        """Returns the totals after one more step.

        Args:
            totals: totals of M measures so far, ``[B, M]``.
            now: the step's measures, ``[B]`` each.
        """
        if not now:
            return totals
        return totals * self._adds + torch.stack([x.to(totals) for x in now], dim=-1)

    def by_name(self, totals: Tensor, steps: Tensor) -> dict[str, Tensor]:
        """Returns the episode's measures, ``[B]`` float32 each.

        Args:
            totals: totals of M measures, ``[B, M]``.
            steps: the episode's steps so far, ``[B]``.
        """
        means = totals / steps.clamp(min=1).unsqueeze(-1)
        values = torch.where(self._averages, means, totals).float()
        return dict(zip(self.names, values.unbind(-1), strict=True))


def restart_where(done: Tensor, state: T, fresh: T) -> T:
    """Returns the ``fresh`` state where an episode is done, ``state`` elsewhere.

    Args:
        done: ``[B]`` bool.
        state: a tree of tensors ``[B, ...]``.
        fresh: a tree of the same structure.
    """

    def select(old: Tensor, new: Tensor) -> Tensor:
        return torch.where(done.reshape(-1, *[1] * (old.dim() - 1)), new, old)

    return tree_map(select, state, fresh)


class Beginnings:
    """Beginnings of episodes that are computed ahead for the steps of a rollout, many at once.

    Args:
        begin: returns a tree of tensors ``[B, ...]`` from noise ``[B, S]``.
        most: how many beginnings may be computed at once.
    """

    def __init__(self, begin: Callable[[Tensor], Any], most: int = 2**20):
        self._begin, self._most = begin, most
        self._storage: Any = None  # trees of one step each, in one tree [T, ...]

    def of(self, noise: Sequence[Tensor], needed: Sequence[bool], like: Callable[[], Any]) -> Any:
        """Returns a beginning for every step, which holds old numbers where none is needed.

        Args:
            noise: ``[B, S]`` for each step that needs beginnings.
            needed: for each of T steps, whether it does.
            like: returns a tree of the shape of ``begin``'s, for storage.

        Returns:
            The tree ``[T, B, ...]``, valid until the next call.
        """
        steps = [step for step, is_needed in enumerate(needed) if is_needed]
        if self._storage is None or len(tree_tensors(self._storage)[0]) != len(needed):
            self._storage = tree_map(lambda x: x.new_zeros(len(needed), *x.shape), like())
        count = max(1, self._most // len(noise[0])) if noise else 1
        for first in range(0, len(steps), count):
            part = slice(first, first + count)
            rows = part if all(needed) else steps[part]
            batch = (len(noise[part]), len(noise[0]))
            for slot, value in zip(
                tree_tensors(self._storage),
                tree_tensors(self._begin(torch.cat(list(noise[part])))),
                strict=True,
            ):
                slot[rows] = value.unflatten(0, batch)
        return self._storage


def agent_indices(
    groups: Mapping[str, AgentGroup], agents: Sequence[str], device: torch.device
) -> tuple[dict[str, slice | Tensor], slice | Tensor]:
    """Returns each group's indices among all agents, and the indices that bring the groups' agents
    side by side into the order of ``agents``.

    Args:
        groups: of agents, each agent in one.
        agents: names of all.
        device: of the indices; where they follow each other they are a slice, which costs nothing.
    """

    def index(rows: list[int]) -> slice | Tensor:
        first = rows[0]
        if rows == list(range(first, first + len(rows))):
            return slice(first, first + len(rows))
        return torch.tensor(rows, device=device)

    rows = {name: [agents.index(a) for a in group.agents] for name, group in groups.items()}
    joint = [row for part in rows.values() for row in part]
    order = [joint.index(row) for row in range(len(agents))]
    return {name: index(part) for name, part in rows.items()}, index(order)


def for_all_agents(groups: Mapping[str, AgentGroup], flag: Tensor) -> dict[str, Tensor]:
    """Returns the flag of each copy for all of its agents.

    Args:
        groups: of agents.
        flag: ``[B]``.

    Returns:
        ``[B, N]`` by group.
    """
    return {name: flag.unsqueeze(-1).expand(-1, group.size) for name, group in groups.items()}


def check_index(index: int, num_envs: int) -> None:
    """Raises UserError where an environment to render does not exist.

    Args:
        index: of the environment.
        num_envs: how many there are.
    """
    if not 0 <= index < num_envs:
        raise UserError(f"no environment {index} to render; expected 0 to {num_envs - 1}")


def check_copies(steps: Tensor, num_envs: int) -> None:
    """Raises UserError where a saved state has another number of environments.

    Args:
        steps: of the saved state, ``[B]``.
        num_envs: how many are expected.
    """
    if len(steps) != num_envs:
        raise UserError(
            f"the saved state is of {len(steps)} environments, expected {num_envs}; "
            f"set num_envs={len(steps)}"
        )
