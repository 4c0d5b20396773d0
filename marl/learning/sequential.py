"""Agents that improve one after the other: heterogeneous-agent mirror learning.

Improving all agents at once may make the team worse: each assumes that the others stay as they
are. In sequence each knows what its predecessors have become, and the team's return cannot fall
(HAML: Zhong et al. 2024, "Heterogeneous-Agent Reinforcement Learning"; MEHAML, with entropy: Liu et
al. 2024, "Maximum Entropy Heterogeneous-Agent Reinforcement Learning"). One iteration from the
joint policy pi:

    draw a permutation i_1 ... i_N of the team's agents                              the sequence
    for m = 1 ... N:
        pi_new[i_m] = argmax over p in U(pi[i_m]) of                                 neighbourhood U
            E over states and a[i_1 ... i_(m-1)] ~ pi_new, a[i_m] ~ p of
            objective(state, a[i_1 ... i_m]) - D(p | pi, pi_new[i_1 ... i_(m-1)])    drift D

A drift is never negative, and at p = pi[i_m] it is zero and so is its gradient; a neighbourhood is
closed and contains pi[i_m]. A method is a choice of the three:

    method   objective                            drift D                      neighbourhood U
    HAPPO    advantage A of a[i_1 ... i_m]        max(0, (r - clip(r)) M A)    all policies
    HAA2C    the same                             none                         all policies
    HADDPG   Q, those who follow as they are      none                         all deterministic
    HATD3    the same, of the first of two        none                         all deterministic
    HASAC    min(Q1, Q2) - alpha log p            none                         all policies

where r = p / pi[i_m] and M is the product of pi_new / pi over the predecessors: on policy it makes
actions drawn from pi speak for those of pi_new. Off policy predecessors' actions are drawn anew.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from marl.errors import UserError
from marl.networks.layers import StackedLinear
from marl.policies.independent import IndependentPolicy
from marl.types import Aux, Carry, Graph, Noise, Observation, tree_map, zero_absent
from marl.utils import distributed


class Member:
    """One agent of an IndependentPolicy whose agents have weights of their own, to be moved alone.

    Its parameters are its rows of the stacked ones: leaves that share their memory, so that a step
    of theirs is seen by the whole policy and nobody else's weights move. Everything is ``[..., 1,
    *]``, an axis N of one agent.

    Raises:
        UserError: weights that agents share, or that are not stacked agent by agent (images).
    """

    def __init__(self, policy: IndependentPolicy, group: str, row: int):
        self.group, self.rows = group, slice(row, row + 1)
        self.distribution = policy.distributions[group]
        self.network = policy.networks[group]
        size = policy.groups[group].size
        self.axis = -1 - len(policy.groups[group].observation.shape)  # N, in observations
        named = dict(self.network.named_parameters())
        if any(value.shape[0] != size for value in named.values()) or not own_weights(self.network):
            raise UserError(
                f"agents of {group!r} cannot be updated one after the other: each needs weights of "
                "its own (model.sharing=per_agent), and convolutions of images are not supported "
                "(model.images=flatten reads images as numbers)"
            )
        self.weights = {k: v.detach()[self.rows].requires_grad_() for k, v in named.items()}
        buffers = dict(self.network.named_buffers())  # others than ids are of all agents alike
        self.constants = {k: v[self.rows] for k, v in buffers.items() if k.endswith("agent_id")}

    @property
    def parameters(self) -> list[Tensor]:
        return list(self.weights.values())

    def sample(self, obs: Observation, noise: Noise) -> tuple[Tensor, Tensor]:
        """As IndependentPolicy's, of this agent."""
        return self.encoded(self.numbers(obs), obs, noise)

    def encoded(self, numbers: Tensor, obs: Observation, noise: Noise) -> tuple[Tensor, Tensor]:
        """As IndependentPolicy's, of this agent."""
        seen, drawn = obs.groups[self.group], noise.get(self.group)
        mask, drawn = (
            None if x is None else x[..., self.rows, :] for x in (seen.action_mask, drawn)
        )
        alive = None if seen.alive is None else seen.alive[..., self.rows]
        action, log_prob = self.distribution.encoded(numbers, mask, drawn)
        return zero_absent(action, alive), zero_absent(log_prob, alive)

    def numbers(self, obs: Observation) -> Tensor:
        """As IndependentPolicy's, of this agent, ``[..., 1, P]``."""
        x = obs.groups[self.group].obs.narrow(self.axis, self.rows.start, 1)
        return self._params(x, obs.graph, None, None)

    def own(
        self, obs: Observation, action: Mapping[str, Tensor], aux: Aux
    ) -> tuple[Observation, Mapping[str, Tensor], Aux]:
        """What of a rollout ``[T, B, N, ...]`` is the agent's, ``[T, B, 1, ...]``: no copies."""
        parts = (obs.groups[self.group], action[self.group], aux[self.group])
        seen, played, drawn = tree_map(lambda x: x[:, :, self.rows], parts)
        name = self.group
        graph = obs.graph if self.network.reads_graph else None
        return Observation({name: seen}, None, graph), {name: played}, {name: drawn}

    def own_carry(self, carry: Carry) -> Carry:
        """Its memories, ``[B, N, H]`` to ``[B, 1, H]``."""
        return {n: memory[:, self.rows] for n, memory in carry.items() if n == self.group}

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Tensor, Tensor]:
        """As IndependentPolicy's, of what is its ``own``: ``[..., 1]`` both."""
        seen = obs.groups[self.group]
        params = self._params(seen.obs, obs.graph, carry.get(self.group), start)
        return self.distribution.evaluate(
            params, seen.action_mask, action[self.group], aux[self.group]
        )

    def _params(
        self, x: Tensor, graph: Graph | None, memory: Tensor | None, start: Tensor | None
    ) -> Tensor:
        state = {**self.weights, **self.constants}
        reads = {"graph": graph, "rows": self.rows} if self.network.reads_graph else {}
        return functional_call(self.network, state, (x, memory, start), reads)[0]


def own_weights(network: nn.Module) -> bool:
    """Whether every agent has weights of its own."""
    return any(isinstance(layer, StackedLinear) for layer in network.modules())


def members(policy: IndependentPolicy) -> list[Member]:
    """All agents, in the order of the groups."""
    return [
        Member(policy, name, row)
        for name, group in policy.groups.items()
        for row in range(group.size)
    ]


def update_order(agents: int, generator: torch.Generator) -> list[int]:
    """A fresh random permutation of ``agents`` numbers, one for all ranks. Waits for the device
    once."""
    order = torch.randperm(agents, generator=generator, device=generator.device)
    return distributed.first(order).tolist()
