"""Whether what copies of an environment wrote are numbers, and where they are not.

Looked at in all copies at once: one by one it would take as long as a small environment's step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from envs.pettingzoo.layout import Arrays, Layout


@dataclass(frozen=True)
class Fault:
    """A number that is not finite."""

    row: int
    fact: str  # whose and what
    after: bool  # seen after the restart, where the row's episode is done


def find_fault(layout: Layout, arrays: Arrays, rows: range) -> Fault | None:
    """The first observation, reward or state of ``rows`` that is not finite."""
    part = slice(rows.start, rows.stop)
    blocks = [array[part] for _, array, _, _ in _places(layout, arrays)]
    if all(np.isfinite(block).all() for block in blocks):
        return None
    for row in rows:
        for words, array, agents, after in _places(layout, arrays):
            if fact := _bad_entry(words, array[row], agents):
                return Fault(row, fact, after)
    raise AssertionError("what was not finite in the block is not in any of its rows")


def _places(
    layout: Layout, arrays: Arrays
) -> Iterator[tuple[str, np.ndarray, tuple[str, ...], bool]]:
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


def _bad_entry(words: str, values: np.ndarray, agents: tuple[str, ...]) -> str:
    bad = np.argwhere(~np.isfinite(values))
    if not len(bad):
        return ""
    first = tuple(bad[0].tolist())
    agent = agents[first[0]] if agents else None
    entry = list(first[1:] if agents else first)
    return words.format(agent=agent, value=values[first], entry=entry)
