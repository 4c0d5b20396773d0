"""Bodies in a square without overlap, for many worlds at once and in a bounded number of tries."""

from __future__ import annotations

import torch
from torch import Tensor

from marl.envs.particle.physics import distances
from marl.types import constant

TRIES = 32
# Steps from one try to the next in shares of the side, the golden ratio's in two dimensions: tries
# of one body never come near each other (Roberts 2018, the R2 sequence).
STRIDE = (0.7548776662466927, 0.5698402909980532)
CROWDED = 0.56  # the most that the discs a body has to keep out of may cover of its square


def place(noise: Tensor, reach: Tensor, apart: Tensor, given: Tensor | None = None) -> Tensor:
    """Positions ``[B, E, 2]``, metres, from uniform ``noise [B, E, 2]`` in [0, 1).

    Body ``i`` lies uniformly within ``reach[i]`` metres of the middle along each axis, and at least
    ``apart[i, j]`` metres from each body ``j`` before it. Who lies too near is moved on by
    ``STRIDE``, whoever found a place stays. As long as ``crowding`` is at most ``CROWDED`` nobody
    was ever seen to need all ``TRIES``; who did would stay where the last one led.

    Args:
        given: ``[B, G, 2]`` bodies in place already. They stand before the others in ``apart
            [G + E, G + E]`` and are not returned.
    """
    batch, bodies, _ = noise.shape
    first = apart.shape[0] - bodies
    rows = apart[first:]  # [E, G + E]
    before = torch.ones_like(rows, dtype=torch.bool).tril(first - 1)
    settled = torch.zeros(batch, bodies, dtype=torch.bool, device=noise.device)
    there = settled.new_ones(batch, first)
    stride = constant(STRIDE, noise)
    position = torch.zeros_like(noise)
    waits = noise.device.type == "cpu" and not torch.compiler.is_compiling()
    for tried in range(TRIES):
        drawn = ((noise + tried * stride) % 1 * 2 - 1) * reach.unsqueeze(-1)
        position = torch.where(settled.unsqueeze(-1), position, drawn)
        everyone = position if given is None else torch.cat([given, position], dim=1)
        holds = torch.cat([there, settled], dim=1).unsqueeze(1) | before  # [B, E, G + E]
        near = (distances(position, everyone) < rows) & holds
        settled = settled | ~near.any(-1)
        if waits and settled.all():
            break
    return position


def crowding(reach: Tensor, apart: Tensor) -> float:
    """The greatest share of a body's square ``[E]`` that those before it may keep it out of."""
    covered = (torch.pi * apart.square()).tril(-1).sum(-1)
    return float((covered[-len(reach) :] / (2 * reach).square()).max())
