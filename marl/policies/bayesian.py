"""Joint policies along a Bayesian network (Chen & Zhang 2023, eq. 2):

    pi(a|o) = prod_i pi_i(a_i | o_i, o_k and a_k of every parent k of i)

over an acyclic graph of a team's agents, across its groups. Without edges it is an independent
policy. Sampling is ancestral: with its noise given an action is a function of its parents', so that
all agents act at once, again and again, each time on what the others did last; after as many
rounds as the longest path has agents, nothing changes any more. The log-probability needs a single
round, on the actions that were taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from marl.errors import UserError
from marl.networks.base import Model, build_for, normalized, outputs
from marl.networks.by_group import ByGroup
from marl.networks.layers import linear
from marl.policies.base import NOTHING, encode
from marl.policies.dag import (
    BayesianNetworkConfig,
    Bernoulli,
    DagSampler,
    Draw,
    Fixed,
    Learned,
    density,
)
from marl.policies.distributions import Distribution, distribution
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

GRAPH = "graph/"  # before the names of a graph's random numbers, in noise and in aux


class JointPolicy(NetworkPolicy):
    """Behind its own observation every agent reads what its parents saw and did, in
    ``joint.features`` numbers. ``without_graph`` leaves all edges out: nobody knows of anybody.

    The random numbers behind the graph are kept in the ``aux`` of the first group, from which
    ``evaluate`` draws the same graph again, with the parameters as they are then.

    Parents' actions are read as critics read them: vectors in [-1, 1] whatever their bounds, zeros
    of the absent. Checkpoints without ``version`` were trained on vectors in the environment's own
    units and on the absent's actions too, and go on so.
    """

    without_graph = False
    version: Tensor  # of how actions are read
    own_units = False  # version 1

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
        self.messages = ByGroup(  # of every sender, of weights of its own
            {n: linear(sizes[n], joint.features, g.size, 2**0.5) for n, g in groups.items()}
        )
        self.bias = nn.Parameter(torch.zeros(joint.features))
        self.graphs = graphs(joint, groups)
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
        drawn = self.graphs.noise(num_envs, generator)
        return {
            **super().noise(num_envs, generator),
            **{GRAPH + name: value for name, value in drawn.items()},
        }

    def graph(self, obs: Observation, noise: Draw | None) -> Tensor:
        """``G [..., N, N]``, ``G[k, i]`` of agents in the order of the groups; ``noise`` under
        prefixed names, greedy where it is None or holds none."""
        seen = torch.cat([self._read(name, obs).flatten(-2) for name in self.groups], dim=-1)
        drawn = {k.removeprefix(GRAPH): v for k, v in (noise or {}).items() if k.startswith(GRAPH)}
        found = self.graphs(seen, drawn or None)
        return torch.zeros_like(found) if self.without_graph else found

    def _step_aux(self, noise: Noise | None, actions: Aux) -> Aux:
        """What of one step ``evaluate`` needs."""
        drawn = {k: v for k, v in (noise or {}).items() if k.startswith(GRAPH)}
        first = {**actions[self.first], **drawn}
        return {**actions, self.first: first}

    def density(self, obs: Observation, aux: Aux) -> Tensor:
        """The share of the possible edges that are there, ``[...]``, with gradient."""
        return density(self.graph(obs, aux[self.first]))

    # ------------------------------------------------------------------------------------- policies

    def _read(self, name: str, obs: Observation) -> Tensor:
        """The group's observations as its network reads them."""
        return normalized(self.networks[name], obs.groups[name].obs.float())

    def _messages(
        self, obs: Observation, action: Mapping[str, Tensor], graph: Tensor
    ) -> dict[str, Tensor]:
        """What every agent's parents tell it, ``[..., N, features]`` by group: a layer over all
        agents' observations and encoded actions, those of others than parents masked."""
        sent = [
            layer(torch.cat([self._read(name, obs), action[name]], dim=-1))
            for name, layer in self.messages.items()
        ]
        heard = torch.relu(graph.mT @ torch.cat(sent, dim=-2) + self.bias)
        return dict(zip(self.groups, heard.split(self.sizes, dim=-2), strict=True))

    def _params(
        self,
        obs: Observation,
        action: Mapping[str, Tensor],
        graph: Tensor,
        carry: Carry = NOTHING,
        start: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The distributions' parameters where these (encoded) actions are taken, and memories."""
        messages, params, memories = self._messages(obs, action, graph), {}, {}
        for name in self.groups:
            x = torch.cat([obs.groups[name].obs.float(), messages[name]], dim=-1)
            params[name], memory = outputs(
                self.networks[name], x, obs.graph, carry.get(name), start
            )
            if memory is not None:
                memories[name] = memory
        return params, memories

    def _no_action(self, obs: Observation) -> dict[str, Tensor]:
        """No action at all, encoded: where rounds begin."""
        return {
            name: obs.groups[name].obs.new_zeros(
                *obs.groups[name].obs.shape[:-1], group.action.encoded_size, dtype=torch.float32
            )
            for name, group in self.groups.items()
        }

    def act(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise | None) -> PolicyStep:
        graph = self.graph(obs, noise).unsqueeze(0)
        now = tree_map(lambda x: x.unsqueeze(0), self._team_obs(obs))
        encoded, action, log_prob, aux, memories = self._no_action(now), {}, {}, {}, {}
        for _ in range(self.graphs.depth):
            params, memories = self._params(now, encoded, graph, carry, start.unsqueeze(0))
            for name in self.groups:
                action[name], log_prob[name], aux[name] = self.distributions[name].sample(
                    params[name].squeeze(0),
                    obs.groups[name].action_mask,
                    None if noise is None else noise[name],
                )
            encoded = {n: x.unsqueeze(0) for n, x in self._encode(action, obs).items()}
        return PolicyStep(action, log_prob, memories, self._step_aux(noise, aux))

    def _team_obs(self, obs: Observation) -> Observation:
        """What the team reads."""
        return Observation({name: obs.groups[name] for name in self.groups}, None, obs.graph)

    def remember(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> Carry:
        graph = self.graph(obs, aux[self.first])
        return self._params(obs, self._encode(action, obs), graph, carry, start)[1]

    def distribution_params(self, obs: Observation, noise: Noise = NOTHING) -> dict[str, Tensor]:
        """See ``DifferentiablePolicy``; of the last round, without memory."""
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
        """As ``evaluate``, and the ``graph [..., N, N]`` that the actions were taken along."""
        graph, log_prob, entropy = self.graph(obs, aux[self.first]), {}, {}
        params, _ = self._params(obs, self._encode(action, obs), graph, carry, start)
        for name in self.groups:
            log_prob[name], entropy[name] = self.distributions[name].evaluate(
                params[name], obs.groups[name].action_mask, action[name], aux[name]
            )
        return log_prob, entropy, {"graph": graph}


def graphs(joint: BayesianNetworkConfig, groups: Mapping[str, AgentGroup]) -> DagSampler:
    """The graphs that ``joint`` names, over all agents of ``groups``."""
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
    """A joint policy, or independent ones where no graph is named."""
    if joint.graph == "none":
        return IndependentPolicy(groups, model, make)
    return JointPolicy(groups, model, joint, make)
