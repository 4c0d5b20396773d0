"""Models of opponents: approximate policies fitted to what others were seen to do (Lowe et al.
2017, section 4.2).

Learner i keeps a policy mu_ij of every other agent j and, on the newest steps, minimises

    -log mu_ij(a_j | o_j) - c H(mu_ij)

Its targets are then computed with averaged copies of these in place of the others' true policies.
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
    """A Gaussian around a deterministic vector, of deviation 1 in half ranges: as which a policy
    of vectors is modelled."""

    def evaluate(
        self, params: Tensor, mask: Tensor | None, action: Tensor, aux: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Up to a constant; the entropy is one too, given as 0."""
        error = self.box.encode(action) - self.rsample(params, mask, None)[0]
        return -0.5 * error.square().sum(-1), torch.zeros_like(params[..., 0])


def unit_gaussian(spec: ActionSpec) -> Distribution:
    """Returns how policies over ``spec`` are modelled."""
    return UnitGaussian(spec) if isinstance(spec, Continuous) else deterministic(spec)


class OpponentModels:
    """The models that several learners have of others.

    Args:
        learners: for each, its own (group, row); None where it knows the whole ``team``.
        team: the learners' groups.
        groups: all that critics read.
        model: the networks of every opponent model; no weights are shared between agents.
        entropy: c.
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
        counts = {name: self._others(name, team) for name in groups}  # [learners, N]
        self.modelled_groups = [name for name, count in counts.items() if count.any()]
        self.counts = {name: count.to(device) for name, count in counts.items()}

    def _others(self, name: str, team: Mapping[str, AgentGroup]) -> Tensor:
        """1 where a learner models an agent of the group, 0 where it knows it."""
        counts = torch.ones(len(self.learners), self.groups[name].size)
        for i, own in enumerate(self.learners):
            if own is None:
                counts[i] = float(name not in team)
            elif own[0] == name:
                counts[i, own[1]] = 0.0
        return counts

    def noise(self, batch: int, generator: torch.Generator) -> Noise:
        first: DifferentiablePolicy = self.models[0]  # type: ignore[assignment]  # one of them
        return first.noise(batch, generator)

    def fit(self, obs: Observation, action: Mapping[str, Tensor]) -> Tensor:
        """One step on actions ``[M, N, *action shape]`` of the living; the mean loss per agent
        modelled."""
        losses = [self._losses(i, obs, action) for i in range(len(self.learners))]
        weights = [self._weights(i, self.groups, obs) for i in range(len(self.learners))]
        loss = masked_mean(torch.stack(losses), torch.stack(weights))
        self.optimizer.step(loss)
        return loss.detach()

    def _losses(self, i: int, obs: Observation, action: Mapping[str, Tensor]) -> Tensor:
        """Of learner ``i``'s models, ``[M, N]`` over the agents of all groups."""
        start = torch.zeros(0)  # no model has a memory
        none = {name: {} for name in self.groups}
        log_prob, entropy = self.models[i].evaluate(obs, action, {}, start, none)  # type: ignore[operator]  # a policy
        return torch.cat([-log_prob[n] - self.entropy * entropy[n] for n in self.groups], dim=-1)

    def _weights(self, i: int, groups: Mapping[str, AgentGroup], obs: Observation) -> Tensor:
        """1 where learner ``i`` models an agent of ``groups`` and it lives, else 0, ``[M, N]``."""
        counts = torch.cat([self.counts[name][i] for name in groups])
        alive = team_alive(obs, groups)
        batch = len(obs.groups[next(iter(groups))].obs)
        return counts.expand(batch, -1) if alive is None else counts * alive

    @torch.no_grad()
    def actions(self, obs: Observation, noise: Noise) -> dict[str, Tensor]:
        """What each learner's averaged models do, encoded, ``[M, learners, N, A]`` by group."""
        sampled = [policy.rsample(obs, noise)[0] for policy in self.target]  # type: ignore[operator]  # a policy
        return {n: torch.stack([one[n] for one in sampled], dim=1) for n in self.groups}

    @torch.no_grad()
    def divergence(self, policies: Mapping[str, Policy], obs: Observation) -> Tensor | None:
        """KL(true, model), the mean over all that are modelled and ``obs [M]``; ``policies``
        are the true ones by team. Of numbers, that of Gaussians of deviation 1 around both. None
        where no true policy can be asked: random ones, and those with a memory."""
        total = torch.zeros((), device=self.optimizer.lr[""].device)
        count = torch.zeros_like(total)
        asked = [(p, n) for p in policies.values() if can_be_asked(p) for n in p.groups]
        asked = [(policy, name) for policy, name in asked if name in self.modelled_groups]
        if not asked:
            return None
        for policy, name in asked:
            true = behaviour(policy, name, obs)
            for i, model in enumerate(self.models):
                gap = gaps(self.groups[name].action, true, behaviour(model, name, obs))  # type: ignore[arg-type]  # a policy
                weight = self._weights(i, {name: self.groups[name]}, obs)
                total, count = total + (gap * weight).sum(), count + weight.sum()
        return total / count


def can_be_asked(policy: Policy) -> bool:
    """Whether it has networks, and they no memory."""
    return isinstance(policy, DifferentiablePolicy) and not policy.initial_carry(1)


def behaviour(policy: Policy, group: str, obs: Observation) -> Tensor:
    """Log-probabilities of all joint choices ``[M, N, choices]``, or the greedy vectors ``[M, N,
    A]``. Of policies without memory."""
    spec, size = policy.groups[group].action, policy.groups[group].size
    batch = len(obs.groups[group].obs)
    start = torch.ones(batch, dtype=torch.bool, device=obs.groups[group].obs.device)
    greedy = policy.act(obs, {}, start, None)
    if isinstance(spec, Continuous):
        return greedy.action[group]
    log_probs = []
    for choice in choices(spec, start.device):
        chosen = choice.expand(batch, size, *spec.shape)
        action = {**greedy.action, group: chosen}
        log_probs.append(policy.evaluate(obs, action, {}, start, greedy.aux)[0][group])
    return torch.stack(log_probs, dim=-1)


@cache
def choices(spec: Discrete | MultiDiscrete, device: torch.device) -> Tensor:
    """All actions ``[choices, *shape]``, made once: to copy them to a GPU the host would wait."""
    if isinstance(spec, Discrete):
        return torch.arange(spec.n, device=device)
    every = torch.cartesian_prod(*map(torch.arange, spec.nvec))
    return every.reshape(-1, len(spec.nvec)).to(device)


def gaps(spec: ActionSpec, true: Tensor, model: Tensor) -> Tensor:
    """KL ``[M, N]`` between what ``behaviour`` gave of two policies."""
    if isinstance(spec, Continuous):
        return 0.5 * (spec.encode(true) - spec.encode(model)).square().sum(-1)
    terms = true.exp() * (true - model)
    return torch.where(true > -1e8, terms, 0.0).sum(-1)  # what is masked is never played
