"""Values of a joint action in which one agent's action after another changes.

A central critic's first layer reads all observations and actions, so that its cost grows with the
square of the agents. It is linear: with another action a' of agent i in place of a

    W x' + b = W x + b + W_i (a' - a)

where W_i are the columns that read that action. The sums W x + b are computed once, and each change
costs A of the layer's columns. The later layers of K critics are evaluated as one batch.

Axis letters: ``S`` sets of weights (one for each head, or 1), ``U`` units of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marl.critics.action_value import CentralQ, Ensemble
from marl.critics.joint_actions import Actions
from marl.networks.layers import StackedLayerNorm, StackedLinear
from marl.networks.perceptron import PerceptronNetwork
from marl.types import Observation, register

_LINEAR, _NORM = (nn.Linear, StackedLinear), (nn.LayerNorm, StackedLayerNorm)


@register
@dataclass(frozen=True)
class FirstLayer:
    """What K critics' first layers make of a joint action, and the weights to go on with."""

    #: Sums W x + b over all inputs but the index of the head, ``[K, S, M, U]``.
    sums: Tensor
    #: Weights of the index of each head, ``[K, H, 1, U]``; None where networks read none.
    heads: Tensor | None
    #: Weights of all actions that the critics read, ``[K, S, A, U]``.
    columns: Tensor
    #: Weights and biases of the later layers in order, by set ``[K, inputs or 1, U]``.
    later: list[list[Tensor]]


class IncrementalQ:
    """Values of central critics without a new first layer for each change of one agent's action.

    Its values have gradients with respect to the action only, not to the critics' weights.

    Args:
        critics: the critics, for which ``is_incremental`` is true.
        agents: group and row of the agents whose actions change, in the order of the heads.
    """

    def __init__(self, critics: Ensemble, agents: Sequence[tuple[str, int]]):
        self.critics: list[CentralQ] = list(critics.critics)  # type: ignore[arg-type]  # checked
        critic = self.critics[0]
        self.heads, begin, place = critic.heads, 0, {}
        for name in critic.names:
            size, width = critic.action_sizes[name]
            place |= {
                (name, i): slice(begin + i * width, begin + (i + 1) * width) for i in range(size)
            }
            begin += size * width
        self.agents, self.columns = list(agents), [place[agent] for agent in agents]
        self.actions = begin  # the length of all agents' actions
        self.layers = _layers(critic)[1:]  # their kinds; weights come with ``FirstLayer``

    @torch.no_grad()
    def first_layer(self, obs: Observation, action: Actions) -> FirstLayer:
        """Computes the first layers' sums for a joint action.

        Args:
            obs: ``[M, ...]``.
            action: encoded actions of all groups that the critics read, ``[M, N, A]``.
        """
        sums, columns, heads = [], [], []
        for critic in self.critics:
            x = critic.joint_input(obs, action)
            layer, size = _layers(critic)[0], x.shape[-1]
            weight, bias = _matrices(layer)
            rows = x.expand(len(weight), *x.shape)
            sums.append(torch.baddbmm(bias, rows, weight[:, :size]))
            columns.append(weight[:, size - self.actions : size])
            if weight.shape[1] > size:  # the head's index, once more with the model's ``agent_id``
                parts = weight[:, size:].unflatten(1, (-1, self.heads)).sum(1)  # [S, H, U]
                heads.append(parts.diagonal().T if len(parts) > 1 else parts[0])
        later = zip(*map(_later, self.critics), strict=True)
        by_layer = [torch.stack(weights).unbind(1) for weights in later]
        return FirstLayer(
            torch.stack(sums),
            torch.stack(heads).unsqueeze(2) if heads else None,
            torch.stack(columns),
            [list(parts) for parts in zip(*by_layer, strict=True)],
        )

    def replace(self, first: FirstLayer, agent: int, fresh: Tensor, action: Actions) -> FirstLayer:
        """Returns the first layers after one agent's action is replaced.

        Args:
            first: the first layers for ``action``.
            agent: index of the agent.
            fresh: its action instead, ``[M, 1, A]``.
            action: encoded actions by group, ``[M, N, A]``.
        """
        sums, change = first.sums.flatten(0, 1), self._change(agent, fresh, action).squeeze(1)
        columns = first.columns[:, :, self.columns[agent]].flatten(0, 1)
        sums = torch.baddbmm(sums, change.expand(len(sums), *change.shape), columns)
        return replace(first, sums=sums.view_as(first.sums))

    def value(self, first: FirstLayer, agent: int, fresh: Tensor, action: Actions) -> Tensor:
        """Computes the critics' values of joint actions that differ in one agent's action.

        Args:
            first: the first layers for ``action``.
            agent: index of the agent, whose head is evaluated if there is one for each.
            fresh: C actions of the agent instead, ``[M, C, A]`` or the same for all, ``[C, A]``.
            action: encoded actions by group, ``[M, N, A]``.

        Returns:
            ``[K, M, C]``.
        """
        head = agent if self.heads > 1 else 0
        row = head if first.sums.shape[1] > 1 else 0
        columns, sums = first.columns[:, row, self.columns[agent]], first.sums[:, row]
        if first.heads is not None:
            sums = sums + first.heads[:, head]
        change = self._change(agent, fresh, action)
        rows = change.flatten(0, 1).expand(len(sums), -1, -1)  # [K, M C, A]
        x = torch.baddbmm(_repeat(sums, change.shape[1]), rows, columns)
        return self._after_first(x, first.later[row]).unflatten(1, change.shape[:2])

    def _change(self, agent: int, fresh: Tensor, action: Actions) -> Tensor:
        """Returns an agent's fresh actions minus its current one, ``[M, C, A]``."""
        name, row = self.agents[agent]
        return fresh - action[name][:, row : row + 1]

    def _after_first(self, x: Tensor, weights: list[Tensor]) -> Tensor:
        """Computes the values ``[K, M]`` from the first layers' results ``[K, M, U]``."""
        pairs = iter(zip(weights[::2], weights[1::2], strict=True))
        for layer in self.layers:
            if not isinstance(layer, _LINEAR + _NORM):
                x = layer(x)
                continue
            weight, bias = next(pairs)
            if isinstance(layer, _NORM):
                x = F.layer_norm(x, x.shape[-1:]) * weight + bias
            elif weight.shape[-1] == 1:  # faster than a product with one column
                x = (x * weight.transpose(-2, -1)).sum(-1, keepdim=True) + bias
            else:
                x = torch.baddbmm(bias, x, weight)
        return x.squeeze(-1)


def is_incremental(critics: Ensemble) -> bool:
    """Returns whether ``IncrementalQ`` can evaluate these critics.

    They are central, without memory, and their networks begin with a linear layer.
    """
    return all(
        isinstance(critic, CentralQ)
        and type(critic.network) is PerceptronNetwork
        and critic.network.gru is None
        and isinstance(_layers(critic)[0], _LINEAR)
        and len(critic.network.body) > 0
        for critic in critics.critics
    )


def _layers(critic: nn.Module) -> list[nn.Module]:
    """Returns the layers of a critic's network in order."""
    network: PerceptronNetwork = critic.network  # type: ignore[assignment]  # see is_incremental
    return [*network.body, network.head]


def _later(critic: CentralQ) -> list[Tensor]:
    """Returns the weights of all layers but the first, ``[S, ...]``."""
    layers = [layer for layer in _layers(critic)[1:] if isinstance(layer, _LINEAR + _NORM)]
    return [tensor for layer in layers for tensor in _matrices(layer)]


def _matrices(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Returns a layer's weights ``[S, inputs or 1, outputs]`` and bias ``[S, 1, outputs]``."""
    weight, bias = layer.weight.detach(), layer.bias.detach()  # type: ignore[operator]  # tensors
    if isinstance(layer, nn.Linear):
        return weight.T.unsqueeze(0), bias.view(1, 1, -1)
    if isinstance(layer, StackedLinear):
        return weight, bias.unsqueeze(1)
    return weight.reshape(-1, 1, weight.shape[-1]), bias.reshape(-1, 1, bias.shape[-1])


def _repeat(sums: Tensor, times: int) -> Tensor:
    """Returns ``[K, M, U]`` with each row of M so many times."""
    return sums if times == 1 else sums.repeat_interleave(times, dim=1)
