"""Several networks of one input side by side, such as the members of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from marl.networks.base import Network


class EnsembleNetwork(Network):
    """Networks of one input, whose outputs and memories lie side by side.

    Args:
        networks: E networks of the same shape.
    """

    def __init__(self, networks: Sequence[Network]):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.carry_size = sum(network.carry_size for network in networks)
        self.reads_graph = networks[0].reads_graph

    def forward(
        self, x: Tensor, carry: Tensor | None = None, start: Tensor | None = None, **graph: Any
    ) -> tuple[Tensor, Tensor | None]:
        out, memories = self.unroll(x, carry, start, **graph)
        return out, carry if memories is None else memories[-1]

    def unroll(
        self, x: Tensor, carry: Tensor | None, start: Tensor | None, **graph: Any
    ) -> tuple[Tensor, Tensor | None]:
        count = len(self.networks)
        carries = [None] * count if carry is None else carry.chunk(count, -1)
        outputs, memories = [], []
        for network, own in zip(self.networks, carries, strict=True):
            out, memory = network.unroll(x, own, start, **graph)  # type: ignore[operator]  # it is
            outputs.append(out)
            memories.append(memory)
        return torch.cat(outputs, dim=-1), None if carry is None else torch.cat(memories, dim=-1)
