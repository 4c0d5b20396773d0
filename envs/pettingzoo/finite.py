"""Whether what copies of an environment wrote are numbers, and where they are not.

Looked at in all copies at once: one by one it would take as long as a small environment's step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from marl.envs.pettingzoo.layout import Agent, Arrays, Layout


@dataclass(frozen=True)
class Fault:
    """A number that is not finite."""

    row: int
    fact: str  # whose and what
    after: bool  # seen after the restart, where the row's episode is done


class Watch:
    """Watches the ``rows`` of ``arrays``: all that can hold numbers that are not finite."""

    def __init__(self, layout: Layout, arrays: Arrays, rows: range) -> None:
        self.rows = rows
        self._places = [place for place in _places(layout, arrays) if place[1].dtype.kind == "f"]
        parts = [array[rows.start : rows.stop] for _, array, _, _ in self._places]
        self._blocks = [part for part in parts if part.size]

    def find(self) -> Fault | None:
        """The first observation, reward or state that is not finite."""
        if all(np.isfinite(block).all() for block in self._blocks):
            return None
        for row in self.rows:
            for words, array, agents, after in self._places:
                if fact := _bad_entry(words, array[row], agents):
                    return Fault(row, fact, after)
        raise AssertionError("what was not finite in the block is not in any of its rows")


def _places(
    layout: Layout, arrays: Arrays
) -> Iterator[tuple[str, np.ndarray, tuple[Agent, ...], bool]]:
    """What is said of a bad entry, the array, the agents of its second axis, and ``Fault.after``;
    what came first in time comes first."""
    groups = list(zip(layout.groups, arrays.groups, strict=True))
    for group, own in groups:
        yield "agent {agent!r} was paid {value}", own.reward, group.agents, False
        yield "agent {agent!r} observes {value} at {entry}", own.final.obs, group.agents, False
    yield "the state is {value} at {entry}", arrays.final_state, (), False
    for group, own in groups:
        yield "agent {agent!r} observes {value} at {entry}", own.now.obs, group.agents, True
    yield "the state is {value} at {entry}", arrays.state, (), True


def _bad_entry(words: str, values: np.ndarray, agents: tuple[Agent, ...]) -> str:
    bad = np.argwhere(~np.isfinite(values))
    if not len(bad):
        return ""
    first = tuple(bad[0].tolist())
    agent = agents[first[0]] if agents else None
    entry = list(first[1:] if agents else first)
    return words.format(agent=agent, value=values[first], entry=entry)
