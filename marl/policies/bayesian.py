"""Joint policies along a Bayesian network (Chen & Zhang 2023, eq. 2)::

    pi(a|o) = prod_i pi_i(a_i | o_i, o_k and a_k of every parent k of i)

over an acyclic graph of a team's agents, across its groups. Without edges it is an independent
policy. Sampling is ancestral. Given its noise, an action is a function of the parents' actions, so
that all agents act at once, several times, each time on the actions of the round before; after as
many rounds as the longest path has agents the actions no longer change. The log-probability needs
a single round, on the actions that were taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from marl.errors import UserError
from marl.networks.base import Model, apply_network, build_for, network_input
from marl.networks.by_group import ByGroup
from marl.networks.layers import linear
from marl.policies.base import EMPTY
from marl.policies.dag import (
    BayesianNetworkConfig,
    Bernoulli,
    DagSampler,
    Fixed,
    GraphNoise,
    Learned,
    density,
)
from marl.policies.distributions import Distribution, distribution
from marl.policies.encoding import encode
from marl.policies.independent import IndependentPolicy
from marl.policies.network import NetworkPolicy
from marl.types import (
    ActionSpec,
    AgentGroup,
    Aux,
    Carry,
    Continuous,
    Noise,
    Observation,
    PolicyStep,
    tree_map,
)

#: Prefix of the names of a graph's random numbers, in noise and in aux.
GRAPH = "graph/"


class JointPolicy(NetworkPolicy):
    """A policy whose agents also read what their parents observed and did.

    The parents' messages, ``joint.features`` numbers, are appended to each agent's observation.

    The random numbers of the graph are stored in the ``aux`` of the first group, from which
    ``evaluate`` computes the same graph again, with the current parameters.

    Parents' actions are encoded as critics read them: vectors in [-1, 1] whatever their bounds, and
    zeros for absent agents. Checkpoints without ``version`` were trained on vectors in the
    environment's unit and on the actions of absent agents too, and continue so.

    Args:
        groups: the groups of the team.
        model: hyperparameters of the networks.
        joint: hyperparameters of the graph and the messages.
        make: returns the distribution over the actions of a specification.

    Attributes:
        without_graph: True removes all edges, so that no agent reads anything of another.

    Raises:
        UserError: a group observes images.
    """

    has_graph = True
    without_graph = False
    version: Tensor  # of the encoding of actions
    own_units = False  # True in version 1

    def __init__(
        self,
        groups: Mapping[str, AgentGroup],
        model: Model,
        joint: BayesianNetworkConfig,
        make: Callable[[ActionSpec], Distribution] = distribution,
    ):
        if any(len(group.observation.shape) > 1 for group in groups.values()):
            raise UserError("joint policies read no images; leave algorithm.joint.graph=none")
        more = joint.features
        super().__init__(groups, make, lambda g, size: build_for(model, g, size, 0.01, more))
        self.first = next(iter(groups))
        sizes = {n: g.observation.size + g.action.encoded_size for n, g in groups.items()}
        self.messages = ByGroup(  # every sender has weights of its own
            {n: linear(sizes[n], joint.features, g.size, 2**0.5) for n, g in groups.items()}
        )
        self.bias = nn.Parameter(torch.zeros(joint.features))
        self.graphs = dag_sampler(joint, groups)
        self.sizes = [group.size for group in groups.values()]
        self.register_buffer("version", torch.tensor(2))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        state_dict.setdefault(prefix + "version", torch.tensor(1))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.own_units = int(self.version) == 1

    def _encode(self, action: Mapping[str, Tensor], obs: Observation) -> dict[str, Tensor]:
        if not self.own_units:
            return encode(self.groups, action, obs)
        vectors = {n: action[n] for n, g in self.groups.items() if isinstance(g.action, Continuous)}
        choices = {n: g for n, g in self.groups.items() if n not in vectors}
        return {**vectors, **{n: g.action.encode(action[n]) for n, g in choices.items()}}

    # ------------------------------------------------------------------------------------ the graph

    def noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        graph_noise = self.graphs.noise(num_envs, generator)
        return {
            **super().noise(num_envs, generator),
            **{GRAPH + name: value for name, value in graph_noise.items()},
        }

    def graph(self, obs: Observation, noise: GraphNoise | None) -> Tensor:
        """Computes the graph, over agents in the order of the groups.

        Args:
            obs: ``[..., N, *shape]`` by group.
            noise: random numbers by prefixed name, as in ``noise`` and ``aux``; None, or without
                such names, for the likeliest graph.

        Returns:
            ``[..., N, N]``, 1 at ``[k, i]`` where k is a parent of i.
        """
        context = torch.cat([self._read(name, obs).flatten(-2) for name in self.groups], dim=-1)
        noise = {k.removeprefix(GRAPH): v for k, v in _of_graph(noise).items()}
        graph = self.graphs(context, noise or None)
        return torch.zeros_like(graph) if self.without_graph else graph

    def _step_aux(self, noise: Noise | None, aux: Aux) -> Aux:
        """Returns the ``aux`` of a step, with the random numbers of the graph."""
        return {**aux, self.first: {**aux[self.first], **_of_graph(noise)}}

    def density(self, obs: Observation, aux: Aux) -> Tensor:
        """Computes the number of edges over the largest possible one, with gradient.

        Args:
            obs: ``[..., N, *shape]`` by group.
            aux: what ``act`` returned.

        Returns:
            ``[...]``.
        """
        return density(self.graph(obs, aux[self.first]))

    # ------------------------------------------------------------------------------------- policies

    def _read(self, name: str, obs: Observation) -> Tensor:
        """Returns a group's observations as its network reads them."""
        return network_input(self.networks[name], obs.groups[name].obs.float())

    def _messages(
        self, obs: Observation, action: Mapping[str, Tensor], graph: Tensor | None
    ) -> dict[str, Tensor]:
        """Returns the messages of every agent's parents, ``[..., N, features]`` by group.

        It is one layer over all agents' observations and encoded actions, of which those of agents
        other than the parents are masked. Without a graph nobody has parents.
        """
        if graph is None:
            nothing = torch.relu(self.bias)
            shapes = {n: obs.groups[n].obs.shape[:-1] for n in self.groups}
            return {n: nothing.expand(*shape, -1) for n, shape in shapes.items()}
        sent = [
            layer(torch.cat([self._read(name, obs), action[name]], dim=-1))
            for name, layer in self.messages.items()
        ]
        received = torch.relu(graph.mT @ torch.cat(sent, dim=-2) + self.bias)
        return dict(zip(self.groups, received.split(self.sizes, dim=-2), strict=True))

    def _params(
        self,
        obs: Observation,
        action: Mapping[str, Tensor],
        graph: Tensor | None,
        carry: Carry = EMPTY,
        start: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the distributions' parameters given encoded actions, and memories."""
        messages, params, memories = self._messages(obs, action, graph), {}, {}
        for name in self.groups:
            x = torch.cat([obs.groups[name].obs.float(), messages[name]], dim=-1)
            params[name], memory = apply_network(
                self.networks[name], x, obs.graph, carry.get(name), start
            )
            if memory is not None:
                memories[name] = memory
        return params, memories

    def _no_action(self, obs: Observation) -> dict[str, Tensor]:
        """Returns zeros in place of encoded actions, for the first round."""
        return {
            name: obs.groups[name].obs.new_zeros(
                *obs.groups[name].obs.shape[:-1], group.action.encoded_size, dtype=torch.float32
            )
            for name, group in self.groups.items()
        }

    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        graph = None if self.without_graph else self.graph(obs, noise).unsqueeze(0)
        now = tree_map(lambda x: x.unsqueeze(0), self._team_obs(obs))
        encoded, action, log_prob, aux, memories = self._no_action(now), {}, {}, {}, {}
        for _ in range(1 if graph is None else self.graphs.depth):
            params, memories = self._params(now, encoded, graph, carry, start.unsqueeze(0))
            for name in self.groups:
                action[name], log_prob[name], aux[name] = self.distributions[name].sample(
                    params[name].squeeze(0),
                    obs.groups[name].action_mask,
                    None if noise is None else noise[name],
                )
            encoded = {n: x.unsqueeze(0) for n, x in self._encode(action, obs).items()}
        aux = aux if graph is None else self._step_aux(noise, aux)
        return PolicyStep(action, log_prob, memories, aux)

    def _team_obs(self, obs: Observation) -> Observation:
        """Returns the team's part of an observation."""
        return Observation({name: obs.groups[name] for name in self.groups}, None, obs.graph)

    def remember(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> Carry:
        graph = self.graph(obs, aux[self.first])
        return self._params(obs, self._encode(action, obs), graph, carry, start)[1]

    def distribution_params(self, obs: Observation, noise: Noise = EMPTY) -> dict[str, Tensor]:
        """Computes the distributions' parameters in the last round.

        Args:
            obs: ``[..., N, *shape]`` by group.
            noise: what ``noise`` drew; groups that it lacks act greedily.
        """
        graph, action, params = self.graph(obs, noise), self._no_action(obs), {}
        for _ in range(self.graphs.depth):
            params, _ = self._params(obs, action, graph)
            action, _ = self.rsample(obs, noise, params)
        return params

    def evaluate(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        log_prob, entropy, _ = self.evaluate_with_features(obs, action, carry, start, aux)
        return log_prob, entropy

    def evaluate_with_features(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Computes what ``evaluate`` does, and features of the policy.

        Args:
            obs: ``[T, B, N, *shape]`` by group.
            action: ``[T, B, N, *action shape]`` by group.
            carry: the memories before the first step, ``[B, N, H]`` by group.
            start: ``[T, B]`` bool, True where an episode begins.
            aux: what ``act`` returned, with the leading axes ``[T, B]``.

        Returns:
            Log-probabilities and entropies, ``[T, B, N]`` by group, and features: ``graph`` is
            ``[T, B, N, N]``, the graph that actions were taken along, and ``<group>/params`` the
            parameters of the action distributions, ``[T, B, N, P]``.
        """
        graph, log_prob, entropy = self.graph(obs, aux[self.first]), {}, {}
        params, _ = self._params(obs, self._encode(action, obs), graph, carry, start)
        for name in self.groups:
            log_prob[name], entropy[name] = self.distributions[name].evaluate(
                params[name], obs.groups[name].action_mask, action[name], aux[name]
            )
        features = {f"{name}/params": params[name] for name in self.groups}
        return log_prob, entropy, {"graph": graph, **features}


def _of_graph(noise: GraphNoise | None) -> dict[str, Tensor]:
    """Returns the random numbers of a graph, by their prefixed names."""
    return {k: v for k, v in (noise or {}).items() if k.startswith(GRAPH)}


def dag_sampler(joint: BayesianNetworkConfig, groups: Mapping[str, AgentGroup]) -> DagSampler:
    """Builds the sampler of the graphs over all agents.

    Args:
        joint: hyperparameters; ``graph`` names the sampler.
        groups: the groups of the team.
    """
    agents = sum(group.size for group in groups.values())
    context = sum(group.size * group.observation.size for group in groups.values())
    ones = torch.ones(agents, agents)
    match joint.graph:
        case "none":
            return Fixed(torch.zeros(agents, agents))
        case "line":
            return Fixed(ones.triu(1).tril(1))
        case "full":
            return Fixed(ones.triu(1))
        case "bernoulli":
            return Bernoulli(agents, joint.probability)
        case _:
            return Learned(context, agents)


def team_policy(
    groups: Mapping[str, AgentGroup],
    model: Model,
    joint: BayesianNetworkConfig,
    make: Callable[[ActionSpec], Distribution] = distribution,
) -> IndependentPolicy | JointPolicy:
    """Builds a joint policy, or an independent one with ``joint.graph=none``.

    Args:
        groups: the groups of the team.
        model: hyperparameters of the networks.
        joint: hyperparameters of the graph.
        make: returns the distribution over the actions of a specification.

    Raises:
        UserError: a joint policy with images.
    """
    if joint.graph == "none":
        return IndependentPolicy(groups, model, make)
    return JointPolicy(groups, model, joint, make)
