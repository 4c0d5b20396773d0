"""What deterministic policies do: numbers by ``tanh`` with noise from outside, choices drawn and
read straight through or relaxed. See ``marl.distributions`` for the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from marl.device import constant
from marl.distributions import Categorical, Distribution, Drawn, distribution, masked_log_softmax
from marl.errors import UserError
from marl.types import ActionSpec, Continuous, Discrete, MultiDiscrete


@dataclass(frozen=True)
class Relaxed(Categorical):
    """One choice among ``n`` that losses read relaxed: the softmax of scores and Gumbel noise."""

    def encoded(
        self, params: Tensor, mask: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        log_probs = masked_log_softmax(params, mask)
        action = (log_probs if noise is None else log_probs + noise).softmax(-1)
        return action, (action * log_probs).sum(-1)


@dataclass(frozen=True)
class Deterministic:
    """A vector within bounds, ``tanh`` of what the network gives, plus noise in half ranges,
    clipped. It has no density: log-probabilities are 0."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def parameters(self) -> int:
        return len(self.low)

    def noise(self, batch: Sequence[int], generator: torch.Generator) -> Tensor:
        return torch.randn(*batch, len(self.low), generator=generator, device=generator.device)

    def sample(self, params: Tensor, mask: Tensor | None, noise: Tensor | None) -> Drawn:
        low, high = constant(self.low, params), constant(self.high, params)
        share = params.tanh() if noise is None else (params.tanh() + noise).clamp(-1, 1)
        action = (low + high) / 2 + (high - low) / 2 * share
        return action, torch.zeros_like(params[..., 0]), {}

    def evaluate(
        self, params: Tensor, mask: Tensor | None, action: Tensor, aux: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("a deterministic policy has no density")

    def encoded(
        self, params: Tensor, mask: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        action, log_prob, _ = self.sample(params, mask, noise)
        return action, log_prob


def deterministic(spec: ActionSpec, soft: bool = False) -> Distribution:
    """For deterministic policies over ``spec``; choices are drawn, and read ``soft`` or hard."""
    match spec:
        case Continuous():
            return Deterministic(spec.low, spec.high)
        case Discrete() if soft:
            return Relaxed(spec.n)
        case MultiDiscrete() if soft:
            raise UserError("gumbel=soft knows one choice per agent; take gumbel=hard")
        case _:
            return distribution(spec)
