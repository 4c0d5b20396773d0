"""Graph transformers (Shi et al. 2021, UniMP, equations 1-4), over all pairs or a list of edges.

Axis letters: ``E`` entities, ``I`` egos, ``R`` receivers, ``H`` features, ``L`` edges.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from marl.networks.layers import linear


class GraphTransformer(nn.Module):
    """TransformerConv with distances on the edges and a weight for the root (Shi et al. 2021).

    out_i = relu(W_s x_i + mean over heads of sum_j a_ij (W_v x_j + w_e d_ij)),
    a_ij = softmax over j of (W_q x_i) (W_k x_j + w_e d_ij) / sqrt(H)

    Args:
        width: H, the number of features.
        heads: number of attention heads.
        stacked: number of egos that get weights of their own; None for shared weights.
    """

    def __init__(self, width: int, heads: int, stacked: int | None):
        super().__init__()
        self.width, self.heads, self.stacked = width, heads, stacked
        self.query, self.key, self.value = (
            linear(width, heads * width, stacked, 1.0) for _ in range(3)
        )
        self.skip = linear(width, width, stacked, 1.0)
        weight = torch.randn(heads * width) / math.sqrt(width)
        self.edge = nn.Parameter(weight if stacked is None else weight.repeat(stacked, 1))
        self._conv: list[Any] = []  # torch-geometric's module, built by ``sparse``

    def forward(self, x: Tensor, senders: Tensor, mask: Tensor, distance: Tensor) -> Tensor:
        """Computes the receivers' next nodes, over all pairs.

        Args:
            x: the receivers' nodes, ``[..., R, I, H]``.
            senders: all entities' nodes, ``[..., E, I, H]``.
            mask: the edges, ``[..., R, E, 1 or I, 1]`` bool.
            distance: the lengths of the edges, ``[..., R, E, 1 or I, 1]``.
        """
        parts = (self.heads, self.width)
        query = self.query(x).unflatten(-1, parts).unsqueeze(-4)  # [..., R, 1, I, heads, H]
        key, value = (f(senders).unflatten(-1, parts) for f in (self.key, self.value))
        edge = self.edge.unflatten(-1, parts)  # [(I,) heads, H]
        score = (query * key.unsqueeze(-5)).sum(-1) + distance * (query * edge).sum(-1)
        score = (score / math.sqrt(self.width)).masked_fill(~mask, -1e9)
        attention = torch.softmax(score, dim=-3).masked_fill(~mask, 0.0)  # [..., R, E, I, heads]
        out = (attention.unsqueeze(-1) * value.unsqueeze(-5)).sum(-4)
        out = out + (attention * distance).sum(-3).unsqueeze(-1) * edge
        return torch.relu(self.skip(x) + out.mean(-2))

    def sparse(self, x: Tensor, edge_index: Tensor, distance: Tensor) -> Tensor:
        """Computes the next nodes over a list of edges.

        Args:
            x: ``[M, H]``.
            edge_index: senders and receivers, ``[2, L]`` int64.
            distance: ``[L, 1]``.
        """
        from torch_geometric.nn import TransformerConv

        if not self._conv:
            self._conv.append(
                TransformerConv(self.width, self.width, self.heads, concat=False, edge_dim=1)
            )
        layers = {"query": self.query, "key": self.key, "value": self.value, "skip": self.skip}
        weights: dict[str, Tensor] = {"lin_edge.weight": self.edge.unsqueeze(-1)}
        weights |= {f"lin_{n}.{k}": v for n, m in layers.items() for k, v in m.named_parameters()}
        return torch.relu(functional_call(self._conv[0], weights, (x, edge_index, distance)))
