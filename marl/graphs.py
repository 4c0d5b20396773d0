"""What is read off the graph of an environment's entities."""

from __future__ import annotations

import torch
from torch import Tensor

from marl.types import Graph

AGENT = 0  # the kind of an agent


def edges(graph: Graph) -> tuple[Tensor, Tensor]:
    """Who hears whom, ``[..., E, E]`` bool, row ``i`` being what entity ``i`` hears, and how far
    apart they are, ``[..., E, E]``.

    Entities within ``radius`` of each other are connected, nobody with itself or with what is not
    there; with ``directed`` only agents hear (Nayak et al. 2023, InforMARL, section 4.1).
    """
    way = graph.position.unsqueeze(-3) - graph.position.unsqueeze(-2)
    distance = way.square().sum(-1).sqrt()
    there = graph.mask.unsqueeze(-1) & graph.mask.unsqueeze(-2)
    itself = torch.eye(graph.mask.shape[-1], dtype=torch.bool, device=graph.mask.device)
    heard = there & ~itself & (distance <= graph.radius)
    if graph.directed:
        heard = heard & (graph.kind == AGENT).unsqueeze(-1)
    return heard, distance
