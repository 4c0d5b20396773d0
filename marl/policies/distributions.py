"""Action distributions: numbers from a network in, actions and log-probabilities out.

Each is a stateless object for one action spec. Noise comes from outside, so that the same function
runs eager and compiled; nothing is validated and nothing waits for the device. Leading axes are
free: ``[..., N]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from marl.types import ActionSpec, Continuous, Discrete, MultiDiscrete

ActionSample = tuple[Tensor, Tensor, Mapping[str, Tensor]]  # action, log_prob [..., N], aux


class Distribution(Protocol):
    """How actions of one spec are drawn from what a network gives.

    In all methods ``params`` are the network's outputs ``[..., N, P]``, ``mask`` is True where a
    choice is allowed, ``[..., N, choices]``, or None where all are, and ``noise`` is what ``noise``
    gave, ``[..., N, ...]``, or None for the mode.
    """

    @property
    def parameters(self) -> int:
        """P, how many numbers per agent the network must give."""
        ...

    def noise(self, batch: Sequence[int], generator: torch.Generator) -> Tensor:
        """The random numbers behind ``batch`` actions, ``[*batch, ...]``."""
        ...

    def sample(self, params: Tensor, mask: Tensor | None, noise: Tensor | None) -> ActionSample:
        """Samples the environment's actions, ``[..., N, *action shape]``; returns them, their
        log-probabilities ``[..., N]``, and what ``evaluate`` needs besides."""
        ...

    def evaluate(
        self, params: Tensor, mask: Tensor | None, action: Tensor, aux: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Log-probability of an action that ``sample`` gave with ``aux``, and the entropy, both
        ``[..., N]``."""
        ...

    def rsample(
        self, params: Tensor, mask: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The action that ``sample`` gives, encoded as critics read it, ``[..., N, A]``, and its
        log-probability, with gradient: of choices straight through their relaxation (Jang et al.
        2017, Gumbel-softmax of temperature 1), of numbers by reparametrisation."""
        ...


def distribution(spec: ActionSpec) -> Distribution:
    """The distribution over the actions of ``spec``."""
    match spec:
        case Discrete():
            return Categorical(spec.n)
        case MultiDiscrete():
            return MultiCategorical(spec.nvec)
        case Continuous():
            return TanhGaussian(spec)


def gumbel(batch: Sequence[int], generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise."""
    exponential = torch.empty(*batch, device=generator.device).exponential_(generator=generator)
    return -exponential.clamp_min(1e-20).log()


def masked_log_softmax(logits: Tensor, mask: Tensor | None) -> Tensor:
    """Log-probabilities with (all but) none on what ``mask`` forbids; no NaN in entropy or
    gradient."""
    if mask is not None:
        logits = torch.where(mask, logits, -1e9)
    return logits.log_softmax(-1)


@dataclass(frozen=True)
class Categorical:
    """One choice among ``n``, masked; drawn by the Gumbel-max trick."""

    n: int

    @property
    def parameters(self) -> int:
        return self.n

    def noise(self, batch: Sequence[int], generator: torch.Generator) -> Tensor:
        return gumbel((*batch, self.n), generator)

    def sample(self, params: Tensor, mask: Tensor | None, noise: Tensor | None) -> ActionSample:
        log_probs = masked_log_softmax(params, mask)
        action = (log_probs if noise is None else log_probs + noise).argmax(-1)
        return action, _pick(log_probs, action), {}

    def evaluate(
        self, params: Tensor, mask: Tensor | None, action: Tensor, aux: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        log_probs = masked_log_softmax(params, mask)
        return _pick(log_probs, action), -(log_probs.exp() * log_probs).sum(-1)

    def rsample(
        self, params: Tensor, mask: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        log_probs = masked_log_softmax(params, mask)
        action = straight_through(log_probs if noise is None else log_probs + noise)
        return action, (action * log_probs).sum(-1)


@dataclass(frozen=True)
class MultiCategorical:
    """Independent choices, the k-th among ``nvec[k]``; log-probabilities add up."""

    nvec: tuple[int, ...]

    @property
    def parameters(self) -> int:
        return sum(self.nvec)

    def noise(self, batch: Sequence[int], generator: torch.Generator) -> Tensor:
        return gumbel((*batch, sum(self.nvec)), generator)

    def sample(self, params: Tensor, mask: Tensor | None, noise: Tensor | None) -> ActionSample:
        parts = self._log_probs(params, mask)
        scores = (
            parts
            if noise is None
            else [p + n for p, n in zip(parts, noise.split(self.nvec, -1), strict=True)]
        )
        action = torch.stack([score.argmax(-1) for score in scores], dim=-1)
        return action, self._pick_all(parts, action), {}

    def evaluate(
        self, params: Tensor, mask: Tensor | None, action: Tensor, aux: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        parts = self._log_probs(params, mask)
        entropy = -torch.stack([(p.exp() * p).sum(-1) for p in parts]).sum(0)
        return self._pick_all(parts, action), entropy

    def rsample(
        self, params: Tensor, mask: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        parts = self._log_probs(params, mask)
        drawn = [0.0] * len(parts) if noise is None else noise.split(self.nvec, -1)
        actions = [straight_through(p + n) for p, n in zip(parts, drawn, strict=True)]
        each = [(a * p).sum(-1) for a, p in zip(actions, parts, strict=True)]
        return torch.cat(actions, dim=-1), torch.stack(each).sum(0)

    def _log_probs(self, params: Tensor, mask: Tensor | None) -> list[Tensor]:
        masks = [None] * len(self.nvec) if mask is None else mask.split(self.nvec, -1)
        return [
            masked_log_softmax(p, m)
            for p, m in zip(params.split(self.nvec, -1), masks, strict=True)
        ]

    @staticmethod
    def _pick_all(parts: list[Tensor], action: Tensor) -> Tensor:
        return torch.stack([_pick(p, action[..., k]) for k, p in enumerate(parts)]).sum(0)


# Nodes and weights of E[f(z)], z ~ N(0, 1), exact for polynomials up to degree 9 (Gauss-Hermite, 5
# points).
_NODES = (-2.8569700138728056, -1.355626179974266, 0.0, 1.355626179974266, 2.8569700138728056)
_WEIGHTS = (
    0.011257411327720691,
    0.2220759220056126,
    0.5333333333333333,
    0.2220759220056126,
    0.011257411327720691,
)


@dataclass(frozen=True)
class TanhGaussian:
    """A Gaussian squashed by tanh into [-1, 1] and scaled to the bounds of ``box``; ``aux`` keeps
    the action before the squashing.

    The network gives mean and raw scale; the standard deviation is ``softplus(raw + c)``, 1 at raw
    = 0. The log-density counts the squashing (Haarnoja et al. 2018, appendix C) and is that in
    [-1, 1], so that it and the entropy are the same in all units of the action; a dimension whose
    bounds are the same counts 0. The entropy has no closed form; its log-Jacobian is integrated
    with 5 Gauss-Hermite nodes, good to 0.02 nats up to a deviation of 1.7."""

    box: Continuous

    min_std = 1e-4

    @property
    def parameters(self) -> int:
        return 2 * len(self.box.low)

    def noise(self, batch: Sequence[int], generator: torch.Generator) -> Tensor:
        return torch.randn(*batch, *self.box.shape, generator=generator, device=generator.device)

    def sample(self, params: Tensor, mask: Tensor | None, noise: Tensor | None) -> ActionSample:
        raw, log_prob = self._draw(params, noise)
        return self.box.decode(raw.tanh()), log_prob, {"raw": raw}

    def evaluate(
        self, params: Tensor, mask: Tensor | None, action: Tensor, aux: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        mean, std = self._mean_std(params)
        return self._log_prob(mean, std, aux["raw"]), self._entropy(mean, std)

    def rsample(
        self, params: Tensor, mask: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        raw, log_prob = self._draw(params, noise)
        return self.box.zero_fixed(raw.tanh()), log_prob

    def _draw(self, params: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        mean, std = self._mean_std(params)
        raw = mean if noise is None else mean + std * noise
        return raw, self._log_prob(mean, std, raw)

    def _mean_std(self, params: Tensor) -> tuple[Tensor, Tensor]:
        mean, raw = params.chunk(2, dim=-1)
        return mean, F.softplus(raw + math.log(math.e - 1)) + self.min_std

    def _log_prob(self, mean: Tensor, std: Tensor, raw: Tensor) -> Tensor:
        gaussian = -0.5 * ((raw - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)
        return self.box.zero_fixed(gaussian - _log_tanh_slope(raw)).sum(-1)

    def _entropy(self, mean: Tensor, std: Tensor) -> Tensor:
        gaussian = std.log() + 0.5 * math.log(2 * math.pi * math.e)
        slope = torch.zeros_like(mean)
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            slope = slope + weight * _log_tanh_slope(mean + node * std)
        return self.box.zero_fixed(gaussian + slope).sum(-1)


def straight_through(scores: Tensor) -> Tensor:
    """One-hot of the largest of ``scores [..., A]``, with the gradient of their softmax."""
    soft = scores.softmax(-1)
    hard = F.one_hot(scores.argmax(-1), scores.shape[-1]).to(soft)
    return hard - soft.detach() + soft


def _log_tanh_slope(raw: Tensor) -> Tensor:
    """log(1 - tanh(x)^2), stable for large |x|."""
    return 2.0 * (math.log(2.0) - raw - F.softplus(-2.0 * raw))


def _pick(log_probs: Tensor, action: Tensor) -> Tensor:
    return log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)
