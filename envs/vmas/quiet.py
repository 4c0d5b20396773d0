"""A VMAS world whose steps do not wait for the device.

VMAS reads the device in each step: for every entity whether there is gravity, and for every pair of
entities whether any copies of them are near each other, to leave out the others. On a CPU that is
cheap and saves work. On a GPU each reading waits for all that was launched before.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Quiet:
    """Overrides of VMAS's ``World``; a class of its own for each world, whose attributes they use.

    What they remember is kept in the class, apart from the world's attributes, which are saved in
    checkpoints.
    """

    stepping = False
    gravity: tuple[Tensor, int, bool] | None = None  # tensor, its version, whether it is not 0

    def step(self) -> None:
        kind = type(self)
        kind.stepping = True
        try:
            super().step()  # type: ignore[misc]  # of World
        finally:
            kind.stepping = False

    def collides(self, a: Any, b: Any) -> bool:
        """Returns whether two entities can touch; outside of ``step`` whether any copies may now.

        A pair without contact adds forces of 0.
        """
        if not type(self).stepping:
            return super().collides(a, b)  # type: ignore[misc]
        can_move = a.movable or a.rotatable or b.movable or b.rotatable
        shapes = {type(a.shape), type(b.shape)}
        may_touch = a is not b and a.collides(b) and b.collides(a)
        return may_touch and can_move and shapes in self._collidable_pairs  # type: ignore[attr-defined]

    def _apply_gravity(self, entity: Any) -> None:
        if not entity.movable:
            return
        forces: dict[Any, Tensor] = self.forces_dict  # type: ignore[attr-defined]
        if self._has_gravity():
            forces[entity] = forces[entity] + entity.mass * self._gravity  # type: ignore[attr-defined]
        if entity.gravity is not None:
            forces[entity] = forces[entity] + entity.mass * entity.gravity

    def _has_gravity(self) -> bool:
        """Returns whether the world's gravity is not 0; reads it once for as long as it stays."""
        kind, value = type(self), self._gravity  # type: ignore[attr-defined]
        known = kind.gravity
        if known is None or known[0] is not value or known[1] != value._version:
            known = kind.gravity = (value, value._version, bool(torch.any(value != 0)))
        return known[2]


def make_quiet(world: Any) -> None:
    """Changes a ``vmas.simulator.core.World`` so that its steps do not wait for the device.

    Its class keeps its name, by which saved states know it.
    """
    kind = type(world)
    world.__class__ = type(kind.__name__, (_Quiet, kind), {"__module__": kind.__module__})
