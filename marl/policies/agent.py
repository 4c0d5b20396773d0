"""One agent of a team as a policy of its own, for algorithms that update agents one by one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from marl.errors import UserError
from marl.networks.layers import StackedLinear
from marl.networks.perceptron import PerceptronNetwork
from marl.policies.base import Policy
from marl.policies.independent import IndependentPolicy
from marl.types import Aux, Carry, EntityGraph, Noise, Observation, tree_map, zero_absent


class AgentPolicy:
    """One agent of an ``IndependentPolicy`` whose agents have weights of their own.

    Its parameters are its rows of the stacked ones: leaves that share their memory, so that an
    update of them changes the whole policy, and no other agent's weights. All tensors are
    ``[..., 1, *]``, with an axis N of one agent.

    Args:
        policy: the team's policy.
        group: name of the agent's group.
        row: the agent's index in its group.

    Raises:
        UserError: agents share weights, or weights are not stacked by agent (convolutions).
    """

    def __init__(self, policy: IndependentPolicy, group: str, row: int):
        self.policy, self.group, self.rows = policy, group, slice(row, row + 1)
        self.distribution = policy.distributions[group]
        self.network = policy.networks[group]
        self.unrolled = Unrolled(self.network)
        size = policy.groups[group].size
        self.axis = -1 - len(policy.groups[group].observation.shape)  # N, in observations
        named = dict(self.network.named_parameters())
        stacked = all(value.shape[0] == size for value in named.values())
        if not (stacked and has_own_weights(self.network)):
            raise UserError(
                f"agents of {group!r} cannot be updated one after the other: each needs weights of "
                "its own (model.sharing=per_agent), and convolutions of images are not supported "
                "(model.images=flatten reads images as numbers)"
            )
        # By ``data``, not ``detach``: so a step of one agent leaves graphs of the others' valid.
        self.weights = {k: v.data[self.rows].requires_grad_() for k, v in named.items()}
        buffers = dict(self.network.named_buffers())  # all but ids are the same for all agents
        self.constants = {k: v[self.rows] for k, v in buffers.items() if k.endswith("agent_id")}
        own = {id(named[k]): v for k, v in self.weights.items()}
        own |= {id(v): self.constants.get(k, v) for k, v in buffers.items()}
        # The agent's rows as layers of their own, which are faster to call than functional_call.
        self.layers: list[nn.Module] = []
        plain = type(self.network) is PerceptronNetwork and self.network.agent_id is None
        if plain and not self.network.carry_size:
            network: Any = copy.deepcopy(self.network, own)
            self.layers = [network.encoder, *network.body, network.head]

    @property
    def parameters(self) -> list[Tensor]:
        """Weights of the agent, as leaves."""
        return list(self.weights.values())

    def rsample(
        self, obs: Observation, noise: Noise, params: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Samples the agent's encoded action, with gradient; see ``DifferentiablePolicy.rsample``.

        Args:
            obs: ``[..., N, *shape]`` by group.
            noise: what the team's policy drew, ``[..., N, ...]`` by group.
            params: what ``distribution_params`` returned for ``obs``; None to compute it.

        Returns:
            The encoded action ``[..., 1, A]`` and its log-probability ``[..., 1]``, both 0 if the
            agent is absent.
        """
        params = self.distribution_params(obs) if params is None else params
        mask, alive, agent_noise = self._own_parts(obs, noise)
        action, log_prob = self.distribution.rsample(params, mask, agent_noise)
        return zero_absent(action, alive), zero_absent(log_prob, alive)

    def encoded(self, obs: Observation, noise: Noise, params: Tensor) -> Tensor:
        """Returns the actions of ``rsample`` alone, ``[..., 1, A]``, which takes less time.

        Arguments as in ``rsample``.
        """
        mask, alive, agent_noise = self._own_parts(obs, noise)
        return zero_absent(self.distribution.encoded(params, mask, agent_noise), alive)

    def _own_parts(self, obs: Observation, noise: Noise) -> list[Tensor | None]:
        """Returns the agent's action mask, whether it is alive, and its noise."""
        group, rows = obs.groups[self.group], self.rows
        alive = None if group.alive is None else group.alive[..., rows]
        mask, own_noise = (
            None if x is None else x[..., rows, :]
            for x in (group.action_mask, noise.get(self.group))
        )
        return [mask, alive, own_noise]

    def distribution_params(self, obs: Observation) -> Tensor:
        """Computes the parameters of the agent's action distribution, ``[..., 1, P]``.

        Args:
            obs: ``[..., N, *shape]`` by group.
        """
        return self._params(self._own_obs(obs), obs.graph, None, None)

    def initial_carry(self, num_envs: int) -> Carry:
        """Returns a memory of zeros, ``[B, 1, H]``; empty without memory.

        Args:
            num_envs: B, the number of environments.
        """
        whole = self.policy.initial_carry(num_envs).get(self.group)
        return {} if whole is None else {self.group: whole[:, self.rows]}

    def unroll(self, obs: Observation, carry: Carry, start: Tensor) -> tuple[Tensor, Carry]:
        """Computes the parameters of the agent's action distributions of consecutive steps, and its
        memories after each.

        Args:
            obs: ``[T, B, N, *shape]`` by group.
            carry: the agent's memory before the first step, ``[B, 1, H]``.
            start: ``[T, B]`` bool, True where an episode begins.

        Returns:
            The parameters ``[T, B, 1, P]`` and, by group, the memories ``[T, B, 1, H]``.
        """
        params, memory = self._call(
            self.unrolled, self._own_obs(obs), obs.graph, carry.get(self.group), start, "network."
        )
        return params, {} if memory is None else {self.group: memory}

    def _own_obs(self, obs: Observation) -> Tensor:
        """Returns the agent's observations, ``[..., 1, *shape]``, without copies."""
        return obs.groups[self.group].obs.narrow(self.axis, self.rows.start, 1)

    def select(
        self, obs: Observation, action: Mapping[str, Tensor], aux: Aux
    ) -> tuple[Observation, Mapping[str, Tensor], Aux]:
        """Selects the agent's part of a rollout, without copies.

        Args:
            obs: ``[T, B, N, *shape]`` by group.
            action: ``[T, B, N, *action shape]`` by group.
            aux: ``[T, B, N, *]`` by group.

        Returns:
            The same with ``[T, B, 1, *]``, of the agent's group only.
        """
        parts = (obs.groups[self.group], action[self.group], aux[self.group])
        agent_obs, agent_action, agent_aux = tree_map(lambda x: x[:, :, self.rows], parts)
        name = self.group
        graph = obs.graph if self.network.reads_graph else None
        return Observation({name: agent_obs}, None, graph), {name: agent_action}, {name: agent_aux}

    def select_carry(self, carry: Carry) -> Carry:
        """Selects the agent's memories ``[B, 1, H]`` from those of the team, ``[B, N, H]``."""
        return {n: memory[:, self.rows] for n, memory in carry.items() if n == self.group}

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Tensor, Tensor]:
        """Computes the log-probability and the entropy of the agent's actions, with gradient.

        Args:
            obs: what ``select`` returned, ``[T, B, 1, *shape]``.
            action: what ``select`` returned, ``[T, B, 1, *action shape]``.
            carry: what ``select_carry`` returned, ``[B, 1, H]``.
            start: ``[T, B]`` bool, True where an episode begins.
            aux: what ``select`` returned, ``[T, B, 1, *]``.

        Returns:
            Both ``[T, B, 1]``.
        """
        group = obs.groups[self.group]
        params = self._params(group.obs, obs.graph, carry.get(self.group), start)
        return self.distribution.evaluate(
            params, group.action_mask, action[self.group], aux[self.group]
        )

    def _params(
        self, x: Tensor, graph: EntityGraph | None, memory: Tensor | None, start: Tensor | None
    ) -> Tensor:
        if self.layers and not torch.compiler.is_compiling():
            for layer in self.layers:
                x = layer(x)
            return x
        return self._call(self.network, x, graph, memory, start)[0]

    def _call(
        self,
        module: nn.Module,
        x: Tensor,
        graph: EntityGraph | None,
        memory: Tensor | None,
        start: Tensor | None,
        prefix: str = "",
    ) -> tuple[Tensor, Tensor | None]:
        """Calls the network with the agent's weights, whose names in ``module`` begin with
        ``prefix``."""
        state = {prefix + k: v for k, v in {**self.weights, **self.constants}.items()}
        options = {"graph": graph, "rows": self.rows} if self.network.reads_graph else {}
        return functional_call(module, state, (x, memory, start), options)


class Unrolled(nn.Module):
    """A network whose ``forward`` is ``Network.unroll``, to call with other weights.

    Args:
        network: a ``Network``.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
        return self.network.unroll(*arguments, **options)  # type: ignore[operator]  # a Network


def has_own_weights(network: nn.Module) -> bool:
    """Returns whether every agent has weights of its own."""
    return any(isinstance(layer, StackedLinear) for layer in network.modules())


def agent_policies(policy: Policy) -> list[AgentPolicy]:
    """Returns all agents of an independent policy, in the order of the groups.

    Raises:
        UserError: the policy is not independent, or its agents share weights.
    """
    if not isinstance(policy, IndependentPolicy):
        raise UserError(
            f"agents of a {type(policy).__name__} cannot be updated one after the other: they "
            "have no policies of their own; take an algorithm that updates them together"
        )
    return [
        AgentPolicy(policy, name, row)
        for name, group in policy.groups.items()
        for row in range(group.size)
    ]
