"""Opponent models: policies fitted to the actions of other agents (Lowe et al. 2017, section 4.2).

Learner i keeps a policy mu_ij of each other agent j and, on the newest steps, minimises::

    -log mu_ij(a_j | o_j) - c H(mu_ij)

Its targets are then computed with target networks of these models in place of the true policies of
the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from marl.learning.losses import masked_mean
from marl.learning.optimizer import Optimizer
from marl.learning.rewards import team_alive
from marl.learning.target_networks import TargetNetwork, target_copy
from marl.networks.base import Model, per_agent
from marl.policies.base import DifferentiablePolicy, Policy
from marl.policies.deterministic import Deterministic, deterministic
from marl.policies.distributions import Distribution
from marl.policies.independent import IndependentPolicy
from marl.types import (
    ActionSpec,
    AgentGroup,
    Continuous,
    Discrete,
    MultiDiscrete,
    Noise,
    Observation,
)


@dataclass(frozen=True)
class UnitGaussian(Deterministic):
    """A Gaussian around a deterministic vector, with deviation 1 in units of half the range.

    Models of policies over vectors are fitted with its likelihood.
    """

    def evaluate(
        self, params: Tensor, mask: Tensor | None, action: Tensor, aux: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Computes log-probabilities up to a constant; the entropy is constant and given as 0."""
        error = self.box.encode(action) - self.rsample(params, mask, None)[0]
        return -0.5 * error.square().sum(-1), torch.zeros_like(params[..., 0])


def unit_gaussian(spec: ActionSpec) -> Distribution:
    """Returns the distribution of a model of policies over ``spec``."""
    return UnitGaussian(spec) if isinstance(spec, Continuous) else deterministic(spec)


class OpponentModels:
    """The models that the learners of one team have of other agents.

    Args:
        learners: for each learner the (group, row) of the agent that it is; None where it knows the
            whole ``team``.
        team: the groups of the learners.
        groups: all groups whose actions the critics read.
        model: configuration of each model's networks; no weights are shared between agents.
        lr: learning rate of the models.
        entropy: c, weight of the entropy bonus.
        device: where the models are.
    """

    def __init__(
        self,
        learners: Sequence[tuple[str, int] | None],
        team: Mapping[str, AgentGroup],
        groups: Mapping[str, AgentGroup],
        model: Model,
        lr: float,
        entropy: float,
        device: torch.device,
    ):
        self.learners, self.groups, self.entropy = list(learners), dict(groups), entropy
        policies = [IndependentPolicy(groups, per_agent(model), unit_gaussian) for _ in learners]
        self.models = nn.ModuleList(policies).to(device)
        self.target: nn.ModuleList = target_copy(self.models)
        self.target_network = TargetNetwork(self.target, self.models)
        self.optimizer = Optimizer({"": self.models.parameters()}, {"": lr}, 1e-8, 10.0)
        masks = {name: self._model_mask(name, team) for name in groups}  # [learners, N]
        self.modelled_groups = [name for name, mask in masks.items() if mask.any()]
        self.model_mask = {name: mask.to(device) for name, mask in masks.items()}

    def _model_mask(self, name: str, team: Mapping[str, AgentGroup]) -> Tensor:
        """Returns 1 where a learner models an agent of the group, 0 where it knows its policy."""
        mask = torch.ones(len(self.learners), self.groups[name].size)
        for i, agent in enumerate(self.learners):
            if agent is None:
                mask[i] = float(name not in team)
            elif agent[0] == name:
                mask[i, agent[1]] = 0.0
        return mask

    def noise(self, batch: int, generator: torch.Generator) -> Noise:
        """Samples the noise behind the actions of one learner's models.

        Args:
            batch: M, number of observations.
            generator: random numbers.
        """
        model: DifferentiablePolicy = self.models[0]  # type: ignore[assignment]  # all have one shape
        return model.noise(batch, generator)

    def fit(self, obs: Observation, action: Mapping[str, Tensor]) -> Tensor:
        """Takes one gradient step on observed actions of live agents.

        Args:
            obs: observations, ``[M, ...]``.
            action: actions taken in them by group, ``[M, N, *action shape]``.

        Returns:
            The mean loss of each modelled agent, a scalar.
        """
        losses = [self._losses(i, obs, action) for i in range(len(self.learners))]
        weights = [self._weights(i, self.groups, obs) for i in range(len(self.learners))]
        loss = masked_mean(torch.stack(losses), torch.stack(weights))
        self.optimizer.step(loss)
        return loss.detach()

    def _losses(self, i: int, obs: Observation, action: Mapping[str, Tensor]) -> Tensor:
        """Computes the losses of learner ``i``'s models, ``[M, N]`` over all groups' agents."""
        start = torch.zeros(0)  # no model has a memory
        aux = {name: {} for name in self.groups}
        log_prob, entropy = self.models[i].evaluate(obs, action, {}, start, aux)  # type: ignore[operator]  # a policy
        return torch.cat([-log_prob[n] - self.entropy * entropy[n] for n in self.groups], dim=-1)

    def _weights(self, i: int, groups: Mapping[str, AgentGroup], obs: Observation) -> Tensor:
        """Returns 1 where learner ``i`` models an agent and it is alive, else 0, ``[M, N]``."""
        mask = torch.cat([self.model_mask[name][i] for name in groups])
        alive = team_alive(obs, groups)
        batch = len(obs.groups[next(iter(groups))].obs)
        return mask.expand(batch, -1) if alive is None else mask * alive

    @torch.no_grad()
    def actions(self, obs: Observation, noise: Noise) -> dict[str, Tensor]:
        """Samples actions of each learner's target models.

        Args:
            obs: observations, ``[M, ...]``.
            noise: random numbers of ``noise``.

        Returns:
            Encoded actions by group, ``[M, learners, N, A]``.
        """
        samples = [policy.rsample(obs, noise)[0] for policy in self.target]  # type: ignore[operator]  # a policy
        return {n: torch.stack([sample[n] for sample in samples], dim=1) for n in self.groups}

    @torch.no_grad()
    def divergence(self, policies: Mapping[str, Policy], obs: Observation) -> Tensor | None:
        """Computes KL(true || model), the mean over modelled agents and observations.

        Continuous policies are compared as Gaussians of deviation 1 around their greedy actions.

        Args:
            policies: the true policies, by team.
            obs: observations, ``[M, ...]``.

        Returns:
            The mean divergence, a scalar; None where no true policy is comparable: random ones, and
            those with a memory.
        """
        total = torch.zeros((), device=self.optimizer.lr[""].device)
        count = torch.zeros_like(total)
        pairs = [(p, n) for p in policies.values() if is_comparable(p) for n in p.groups]
        pairs = [(policy, name) for policy, name in pairs if name in self.modelled_groups]
        if not pairs:
            return None
        for policy, name in pairs:
            true = behaviour(policy, name, obs)
            for i, model in enumerate(self.models):
                kl = kl_divergence(self.groups[name].action, true, behaviour(model, name, obs))  # type: ignore[arg-type]  # a policy
                weight = self._weights(i, {name: self.groups[name]}, obs)
                total, count = total + (kl * weight).sum(), count + weight.sum()
        return total / count


def is_comparable(policy: Policy) -> bool:
    """Returns whether a policy has networks, and none with a memory."""
    return isinstance(policy, DifferentiablePolicy) and not policy.initial_carry(1)


def behaviour(policy: Policy, group: str, obs: Observation) -> Tensor:
    """Computes the action distributions of a policy without memory.

    Args:
        policy: a policy that ``is_comparable``.
        group: the group of agents.
        obs: observations, ``[M, ...]``.

    Returns:
        Log-probabilities of all choices, ``[M, N, choices]``; or the greedy vectors ``[M, N, A]``
        of continuous actions.
    """
    spec, size = policy.groups[group].action, policy.groups[group].size
    batch = len(obs.groups[group].obs)
    start = torch.ones(batch, dtype=torch.bool, device=obs.groups[group].obs.device)
    greedy = policy.act(obs, {}, start, None)
    if isinstance(spec, Continuous):
        return greedy.action[group]
    log_probs = []
    for choice in choices(spec, start.device):
        action = {**greedy.action, group: choice.expand(batch, size, *spec.shape)}
        log_probs.append(policy.evaluate(obs, action, {}, start, greedy.aux)[0][group])
    return torch.stack(log_probs, dim=-1)


@cache
def choices(spec: Discrete | MultiDiscrete, device: torch.device) -> Tensor:
    """Returns all actions of a discrete space, ``[choices, *shape]``.

    They are made once, for a copy to a GPU makes the host wait.

    Args:
        spec: the action space.
        device: where the actions are.
    """
    if isinstance(spec, Discrete):
        return torch.arange(spec.n, device=device)
    combinations = torch.cartesian_prod(*map(torch.arange, spec.nvec))
    return combinations.reshape(-1, len(spec.nvec)).to(device)


def kl_divergence(spec: ActionSpec, true: Tensor, model: Tensor) -> Tensor:
    """Computes KL(true || model) of two results of ``behaviour``, ``[M, N]``.

    Args:
        spec: the action space.
        true: of the true policy, ``[M, N, choices]`` or ``[M, N, A]``.
        model: of its model, of the same shape.
    """
    if isinstance(spec, Continuous):
        return 0.5 * (spec.encode(true) - spec.encode(model)).square().sum(-1)
    terms = true.exp() * (true - model)
    return torch.where(true > -1e8, terms, 0.0).sum(-1)  # masked choices are never taken
