"""Check that copies of an environment wrote finite numbers only, and where they did not.

All copies are checked at once: one by one it would take as long as a small environment's step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from marl.envs.pettingzoo.layout import Agent, Arrays, Layout


@dataclass(frozen=True)
class Fault:
    """A number that is not finite.

    Attributes:
        row: the copy.
        description: agent, kind and value, as in ``agent 'a' observes nan at [2]``.
        after_restart: whether it belongs to the new episode, where the row's episode is done.
    """

    row: int
    description: str
    after_restart: bool


class FiniteCheck:
    """Checks the ``rows`` of all arrays that can hold numbers that are not finite.

    Args:
        layout: the groups' agents.
        arrays: what the copies write.
        rows: which copies.
    """

    def __init__(self, layout: Layout, arrays: Arrays, rows: range) -> None:
        self.rows = rows
        self._places = [place for place in _places(layout, arrays) if place[1].dtype.kind == "f"]
        parts = [array[rows.start : rows.stop] for _, array, _, _ in self._places]
        self._blocks = [part for part in parts if part.size]

    def find_fault(self) -> Fault | None:
        """Returns the first observation, reward or state that is not finite; None without one."""
        if all(np.isfinite(block).all() for block in self._blocks):
            return None
        for row in self.rows:
            for template, array, agents, after_restart in self._places:
                if description := _bad_entry(template, array[row], agents):
                    return Fault(row, description, after_restart)
        raise AssertionError("a block is not finite, but each of its rows is")


def _places(
    layout: Layout, arrays: Arrays
) -> Iterator[tuple[str, np.ndarray, tuple[Agent, ...], bool]]:
    """Yields a template of the description, the array, the agents of its second axis, and whether
    it belongs to the new episode; in the order of time."""
    groups = list(zip(layout.groups, arrays.groups, strict=True))
    for group, data in groups:
        yield "agent {agent!r} was paid {value}", data.reward, group.agents, False
        yield "agent {agent!r} observes {value} at {entry}", data.final.obs, group.agents, False
    yield "the state is {value} at {entry}", arrays.final_state, (), False
    for group, data in groups:
        yield "agent {agent!r} observes {value} at {entry}", data.current.obs, group.agents, True
    yield "the state is {value} at {entry}", arrays.state, (), True


def _bad_entry(template: str, values: np.ndarray, agents: tuple[Agent, ...]) -> str:
    """Returns the description of the first entry that is not finite, ``""`` without one."""
    bad = np.argwhere(~np.isfinite(values))
    if not len(bad):
        return ""
    first = tuple(bad[0].tolist())
    agent = agents[first[0]] if agents else None
    entry = list(first[1:] if agents else first)
    return template.format(agent=agent, value=values[first], entry=entry)
