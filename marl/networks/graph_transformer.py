"""Graph transformers (Shi et al. 2021, UniMP, equations 1-4), over all pairs or a list of edges.

Axis letters: ``E`` entities, ``I`` egos, ``R`` receivers, ``H`` features, ``L`` edges.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from marl.networks.layers import StackedLinear, linear


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
        x, senders = (nodes.transpose(-3, -2) for nodes in (x, senders))  # [..., I, R or E, H]
        mask, distance = (y.transpose(-3, -4).movedim(-2, -4) for y in (mask, distance))
        by_head = (self.heads, self.width + 2)
        queries = _affine(x, *self._query_weights()).unflatten(-1, by_head)
        query, of_distance, bias = queries.split(
            (self.width, 1, 1), dim=-1
        )  # [..., I, R, heads, *]
        of_distance, bias = (y.squeeze(-1).unsqueeze(-3) for y in (of_distance, bias))
        score = senders @ query.flatten(-3, -2).mT  # [..., I, E, R heads]
        score = score.unflatten(-1, x.shape[-2:-1] + by_head[:1])
        score = (score + distance * of_distance + bias) / math.sqrt(self.width)
        # Not over the last axis, a short one: that is several times as slow on a CPU.
        attention = torch.softmax(score.masked_fill(~mask, -1e9), dim=-3)  # [..., I, E, R, heads]
        nodes = (attention.flatten(-2).mT @ senders).unflatten(-2, score.shape[-2:])
        lengths = (attention * distance).sum(-3).unsqueeze(-1)
        received = torch.cat([nodes, lengths, torch.ones_like(lengths)], dim=-1)
        received = received * mask.any(-3).unsqueeze(-1)  # 0 without edges
        out = _affine(received.flatten(-2), *self._value_weights())
        return torch.relu(_affine(x, *_matrix(self.skip)) + out).transpose(-3, -2)

    def _query_weights(self) -> tuple[Tensor, Tensor]:
        """Returns what maps a receiver's node to its products with the senders' nodes, with
        distances and with 1: W_q W_k, W_q w_e and W_q b_k of each head, ``[S, H, heads (H + 2)]``.
        """
        (query, query_bias), (key, key_bias) = map(self._by_head, (self.query, self.key))
        factors = torch.cat([key.mT, self._edge().mT, key_bias.mT], dim=-1)
        weight, bias = query @ factors, query_bias @ factors  # [S, heads, H or 1, H + 2]
        return weight.transpose(1, 2).flatten(-2), bias.transpose(1, 2).flatten(-2)

    def _value_weights(self) -> tuple[Tensor, None]:
        """Returns what maps each head's sums of nodes, distances and attention to the output."""
        value, bias = self._by_head(self.value)
        weight = torch.cat([value, self._edge(), bias], dim=-2)  # [S, heads, H + 2, H]
        return weight.flatten(1, 2) / self.heads, None

    def _by_head(self, layer: nn.Module) -> tuple[Tensor, Tensor]:
        """Returns weights ``[S, heads, H, H]`` and bias ``[S, heads, 1, H]``; S is 1 or I."""
        weight, bias = _matrix(layer)
        parts = (self.heads, self.width)
        return weight.unflatten(-1, parts).transpose(1, 2), bias.unflatten(-1, parts).transpose(
            1, 2
        )

    def _edge(self) -> Tensor:
        """Returns the weights of distances, ``[S, heads, 1, H]``."""
        return self.edge.reshape(-1, self.heads, 1, self.width)

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


def _matrix(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Returns the weights ``[S, inputs, outputs]`` and the bias ``[S, 1, outputs]`` of a layer."""
    weight: Any = layer.weight
    bias: Any = layer.bias
    if isinstance(layer, StackedLinear):
        return weight, bias.unsqueeze(1)
    return weight.T.unsqueeze(0), bias.view(1, 1, -1)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns ``x [..., I, R, inputs]`` times weights of S = 1 or I, ``[..., I, R, outputs]``."""
    if len(weight) == 1:
        return nn.functional.linear(x, weight[0].T, None if bias is None else bias[0, 0])
    out = torch.einsum("...irh,iho->...iro", x, weight)
    return out if bias is None else out + bias
