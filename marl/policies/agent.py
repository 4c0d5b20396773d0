"""One agent of a team, with weights of its own, as a policy that is updated alone."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.func import functional_call

from marl.errors import UserError
from marl.networks.layers import StackedLinear
from marl.policies.base import Policy
from marl.policies.independent import IndependentPolicy
from marl.types import Aux, Carry, EntityGraph, Noise, Observation, tree_map, zero_absent


class AgentPolicy:
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

    def rsample(
        self, obs: Observation, noise: Noise, params: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As ``DifferentiablePolicy``'s, of this agent."""
        group, drawn = obs.groups[self.group], noise.get(self.group)
        mask, drawn = (
            None if x is None else x[..., self.rows, :] for x in (group.action_mask, drawn)
        )
        alive = None if group.alive is None else group.alive[..., self.rows]
        params = self.distribution_params(obs) if params is None else params
        action, log_prob = self.distribution.rsample(params, mask, drawn)
        return zero_absent(action, alive), zero_absent(log_prob, alive)

    def distribution_params(self, obs: Observation) -> Tensor:
        """As ``DifferentiablePolicy``'s, of this agent, ``[..., 1, P]``."""
        x = obs.groups[self.group].obs.narrow(self.axis, self.rows.start, 1)
        return self._params(x, obs.graph, None, None)

    def own(
        self, obs: Observation, action: Mapping[str, Tensor], aux: Aux
    ) -> tuple[Observation, Mapping[str, Tensor], Aux]:
        """What of a rollout ``[T, B, N, ...]`` is the agent's, ``[T, B, 1, ...]``: no copies."""
        parts = (obs.groups[self.group], action[self.group], aux[self.group])
        obs_of_group, own_action, own_aux = tree_map(lambda x: x[:, :, self.rows], parts)
        name = self.group
        graph = obs.graph if self.network.reads_graph else None
        return Observation({name: obs_of_group}, None, graph), {name: own_action}, {name: own_aux}

    def own_carry(self, carry: Carry) -> Carry:
        """Its memories, ``[B, N, H]`` to ``[B, 1, H]``."""
        return {n: memory[:, self.rows] for n, memory in carry.items() if n == self.group}

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Tensor, Tensor]:
        """As ``Policy``'s, of what is its ``own``: ``[..., 1]`` both."""
        group = obs.groups[self.group]
        params = self._params(group.obs, obs.graph, carry.get(self.group), start)
        return self.distribution.evaluate(
            params, group.action_mask, action[self.group], aux[self.group]
        )

    def _params(
        self, x: Tensor, graph: EntityGraph | None, memory: Tensor | None, start: Tensor | None
    ) -> Tensor:
        state = {**self.weights, **self.constants}
        reads = {"graph": graph, "rows": self.rows} if self.network.reads_graph else {}
        return functional_call(self.network, state, (x, memory, start), reads)[0]


def own_weights(network: nn.Module) -> bool:
    """Whether every agent has weights of its own."""
    return any(isinstance(layer, StackedLinear) for layer in network.modules())


def agent_policies(policy: Policy) -> list[AgentPolicy]:
    """All agents of an independent policy, in the order of the groups.

    Raises:
        UserError: a policy whose agents have none of their own, or share weights.
    """
    if not isinstance(policy, IndependentPolicy):
        raise UserError(
            f"the agents of a {type(policy).__name__} do not move one after the other, for they "
            "have no policies of their own; take an algorithm that updates them together"
        )
    return [
        AgentPolicy(policy, name, row)
        for name, group in policy.groups.items()
        for row in range(group.size)
    ]
