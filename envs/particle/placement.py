"""Random placement of bodies without overlap, for many worlds at once, in a bounded number of
tries."""

from __future__ import annotations

import torch
from torch import Tensor

from marl.envs.particle.physics import distances
from marl.types import constant

TRIES = 32
# Step from one try to the next, in shares of the side: the golden ratio's in two dimensions, so
# that the tries of one body never come near each other (Roberts 2018, the R2 sequence).
STRIDE = (0.7548776662466927, 0.5698402909980532)
CROWDED = 0.56  # largest share of a body's square that the discs it must avoid may cover


def place(noise: Tensor, reach: Tensor, apart: Tensor, anchors: Tensor | None = None) -> Tensor:
    """Returns random positions of bodies that keep their distances.

    Body i lies uniformly within ``reach[i]`` of the middle along each axis, and at least ``apart[i,
    j]`` from each body j before it. A body that is too near to another moves on by ``STRIDE``; one
    that has found a place stays. As long as ``crowding`` is at most ``CROWDED`` no body was ever
    observed to need all ``TRIES``; one that did would stay at the last of them.

    Args:
        noise: uniform in [0, 1), ``[B, E, 2]``.
        reach: ``[E]``, metres.
        apart: distances, ``[G + E, G + E]``, metres.
        anchors: G bodies that have a place already, ``[B, G, 2]``, metres. They come before the
            others in ``apart``, and are not returned.

    Returns:
        ``[B, E, 2]``, metres.
    """
    batch, bodies, _ = noise.shape
    first = apart.shape[0] - bodies
    rows = apart[first:]  # [E, G + E]
    before = torch.ones_like(rows, dtype=torch.bool).tril(first - 1)
    settled = torch.zeros(batch, bodies, dtype=torch.bool, device=noise.device)
    anchored = settled.new_ones(batch, first)
    stride = constant(STRIDE, noise)
    position = torch.zeros_like(noise)
    may_stop = noise.device.type == "cpu" and not torch.compiler.is_compiling()
    for attempt in range(TRIES):
        candidate = ((noise + attempt * stride) % 1 * 2 - 1) * reach.unsqueeze(-1)
        position = torch.where(settled.unsqueeze(-1), position, candidate)
        everyone = position if anchors is None else torch.cat([anchors, position], dim=1)
        blocks = torch.cat([anchored, settled], dim=1).unsqueeze(1) | before  # [B, E, G + E]
        near = (distances(position, everyone) < rows) & blocks
        settled = settled | ~near.any(-1)
        if may_stop and settled.all():
            break
    return position


def crowding(reach: Tensor, apart: Tensor) -> float:
    """Returns the largest share of a body's square that the bodies before it may block.

    Args:
        reach: half of the side of each body's square, ``[E]``, metres.
        apart: distances, ``[G + E, G + E]``, metres.
    """
    covered = (torch.pi * apart.square()).tril(-1).sum(-1)
    return float((covered[-len(reach) :] / (2 * reach).square()).max())
