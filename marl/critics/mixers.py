"""Mixers: a team's value Q_tot from the utilities q_i of its agents (value decomposition).

``Sum`` and ``MonotonicMixer`` rise with every utility, so that each agent's own best action is part
of the best joint one. ``DuplexMixer`` keeps that property for all games, and
``UnconstrainedMixer`` gives it up.

All layers have torch's default initialisation, as in the authors' code (PyMARL): weights and biases
uniform within 1 / sqrt(inputs). The hypernetworks multiply utilities with the *size* of their
outputs, so that a mixing network starts with small positive weights; orthogonal weights of gain
sqrt(2), as in ``marl.networks``, would start it with a gain that grows with the number of agents.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from marl.critics.inputs import JointObservation
from marl.networks.layers import StackedLinear
from marl.types import Observation

POSITIVE = 1e-10  # keeps QPLEX's weights and importances above 0


class Mixer(Protocol):
    """A function of observation and utilities that gives the team's value; an ``nn.Module``.

    Attributes:
        reads_choices: whether ``best`` and ``action`` are read, as by QPLEX; others get ``q`` in
            their places.
    """

    reads_choices: bool = False

    def __call__(self, obs: Observation, q: Tensor, best: Tensor, action: Tensor) -> Tensor:
        """Computes the value of a joint action.

        Args:
            obs: any leading axes.
            q: utilities of the actions taken, ``[..., N]`` with the N agents of all groups of the
                team.
            best: each agent's largest utility of an allowed action, ``[..., N]``.
            action: the team's encoded actions side by side, ``[..., N * A]``.

        Returns:
            Q_tot, ``[..., 1]``.
        """
        ...


class Sum(nn.Module):
    """The sum of utilities, VDN (Sunehag et al. 2018); Q_tot = sum_i q_i.

    Args:
        mean: True for the mean in place of the sum, as in DecQN (Seyde et al. 2023) and REValueD
            (Ireland & Montana 2024): utilities are then of the size of Q_tot.
    """

    reads_choices = False

    def __init__(self, mean: bool = False):
        super().__init__()
        self.mean = mean

    def forward(self, obs: Observation, q: Tensor, best: Tensor, action: Tensor) -> Tensor:
        return q.mean(-1, keepdim=True) if self.mean else q.sum(-1, keepdim=True)


class MonotonicMixer(nn.Module):
    """The mixing network of QMIX (Rashid et al. 2018, section 4.1), with dQ_tot / dq_i >= 0.

    h = elu(q W_1 + b_1) and Q_tot = h W_2 + V, where ``W_1 [N, units] >= 0``,
    ``W_2 [units, 1] >= 0``, b_1 and V are functions of the joint observation.

    Args:
        joint: the joint observation.
        agents: N.
        units: units of the hidden layer h.
        hyper_units: units of the hidden layer of the networks that give W_1 and W_2.
        hyper_layers: 2 for such a hidden layer, 1 for linear functions.
    """

    reads_choices = False

    def __init__(
        self,
        joint: JointObservation,
        agents: int,
        *,
        units: int = 32,
        hyper_units: int = 64,
        hyper_layers: int = 2,
    ):
        super().__init__()
        self.joint, self.units = joint, units
        hidden = [hyper_units] * (hyper_layers - 1)
        self.first = relu_mlp(joint.features, *hidden, agents * units)  # W_1
        self.offset = nn.Linear(joint.features, units)  # b_1
        self.second = relu_mlp(joint.features, *hidden, units)  # W_2
        self.value = relu_mlp(joint.features, units, 1)  # V

    def forward(self, obs: Observation, q: Tensor, best: Tensor, action: Tensor) -> Tensor:
        state = self.joint(obs)
        first = self.first(state).abs().unflatten(-1, (-1, self.units))  # [..., N, units]
        hidden = F.elu((q.unsqueeze(-1) * first).sum(-2) + self.offset(state))
        rest = (hidden * self.second(state).abs()).sum(-1, keepdim=True)
        return rest + self.value(state)


class DuplexMixer(nn.Module):
    """The duplex dueling network of QPLEX (Wang et al. 2021, section 3.2).

    Q_tot = sum_i (w_i q_i + v_i) + sum_i (lambda_i - 1) sg[w_i (q_i - max q_i)]

    with w_i > 0 and v_i of the joint observation, and importances lambda_i > 0 of joint observation
    and joint action. That is the sum of the agents' best values and of their advantages times
    lambda_i: any function of the joint action whose maximum each agent finds alone. ``sg`` stops
    gradients, so that utilities and w_i learn by the plain sum only, and lambda_i by the rest. The
    -1 is there because the plain sum has each advantage once.

    Args:
        joint: the joint observation.
        agents: N.
        actions: N * A, the length of the team's encoded actions side by side.
        heads: terms of each lambda_i.
        layers: layers of their networks. The authors take 10 heads of 3 layers in matrix games, and
            4 of 1 in StarCraft.
        units: units of all hidden layers.
    """

    reads_choices = True

    def __init__(
        self,
        joint: JointObservation,
        agents: int,
        actions: int,
        *,
        heads: int = 4,
        layers: int = 1,
        units: int = 64,
    ):
        super().__init__()
        self.joint, size = joint, joint.features
        hidden = [units] * (layers - 1)
        self.weight = relu_mlp(size, units, agents)  # w_i
        self.value = relu_mlp(size, units, agents)  # v_i
        self.key = HeadedMLP(heads, size, *hidden, 1)
        self.of_agent = HeadedMLP(heads, size, *hidden, agents)
        self.of_action = HeadedMLP(heads, size + actions, *hidden, agents)

    def forward(self, obs: Observation, q: Tensor, best: Tensor, action: Tensor) -> Tensor:
        state = self.joint(obs)
        weight = self.weight(state).abs() + POSITIVE
        plain = weight * q + self.value(state)
        advantage = (weight * (q - best)).detach()
        extra = (self.importance(state, action) - 1) * advantage
        return (plain + extra).sum(-1, keepdim=True)

    def importance(self, state: Tensor, action: Tensor) -> Tensor:
        """Computes lambda_i, a sum over heads of abs(key) sigmoid(agent_i) sigmoid(action_i).

        Args:
            state: the joint observation, ``[..., F]``.
            action: the team's encoded actions side by side, ``[..., N * A]``.

        Returns:
            ``[..., N]``.
        """
        key = self.key(state).abs() + POSITIVE  # [..., heads, 1]
        of_action = self.of_action(torch.cat([state, action], dim=-1))
        return (key * self.of_agent(state).sigmoid() * of_action.sigmoid()).sum(-2)


class UnconstrainedMixer(nn.Module):
    """The central Q* of weighted QMIX (Rashid et al. 2020): any function of state and utilities.

    Q_tot = f(state, q) + V(state). The best joint action is in general not made of the agents' own
    best actions.

    Args:
        joint: the joint observation.
        agents: N.
        units: units of all hidden layers.
        layers: hidden layers of f; V has one.
    """

    reads_choices = False

    def __init__(self, joint: JointObservation, agents: int, *, units: int = 256, layers: int = 3):
        super().__init__()
        self.joint = joint
        self.rest = relu_mlp(joint.features + agents, *[units] * layers, 1)  # f
        self.value = relu_mlp(joint.features, units, 1)  # V

    def forward(self, obs: Observation, q: Tensor, best: Tensor, action: Tensor) -> Tensor:
        state = self.joint(obs)
        return self.rest(torch.cat([state, q], dim=-1)) + self.value(state)


class HeadedMLP(nn.Module):
    """Networks of one input with different weights, in batched products.

    It maps ``[..., F]`` to ``[..., heads, outputs]``.

    Args:
        heads: number of networks.
        sizes: length of their input, units of their hidden layers, length of their output.
    """

    def __init__(self, heads: int, *sizes: int):
        super().__init__()
        self.heads = heads
        self.layers = nn.Sequential()
        for inputs, outputs in pairwise(sizes):
            self.layers.append(StackedLinear([nn.Linear(inputs, outputs) for _ in range(heads)]))
            self.layers.append(nn.ReLU())
        del self.layers[-1]  # no activation follows the output

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.unsqueeze(-2).expand(*x.shape[:-1], self.heads, -1))


def relu_mlp(*sizes: int) -> nn.Sequential:
    """Builds linear layers with ReLU between them, with torch's default initialisation.

    Args:
        sizes: length of the input, units of the hidden layers, length of the output.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
