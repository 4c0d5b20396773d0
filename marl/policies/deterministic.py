"""Distributions of deterministic policies, as in ``marl.policies.distributions``.

Vectors are ``tanh`` of the network's outputs plus exploration noise. Choices are sampled, and
losses read them straight through or relaxed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from marl.errors import UserError
from marl.policies.distributions import (
    ActionSample,
    Categorical,
    Distribution,
    distribution,
    masked_log_softmax,
)
from marl.types import ActionSpec, Continuous, Discrete, MultiDiscrete


@dataclass(frozen=True)
class Relaxed(Categorical):
    """One choice among ``n`` that losses read relaxed: the softmax of scores and Gumbel noise."""

    def rsample(
        self, params: Tensor, mask: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        log_probs = masked_log_softmax(params, mask)
        action = (log_probs if noise is None else log_probs + noise).softmax(-1)
        return action, (action * log_probs).sum(-1)


@dataclass(frozen=True)
class Deterministic:
    """A vector within bounds: ``tanh`` of the network's outputs plus noise, clipped.

    Noise is in the unit of half the range of the bounds. There is no density, and log-probabilities
    are 0.
    """

    #: The bounds.
    box: Continuous

    @property
    def parameters(self) -> int:
        return len(self.box.low)

    def noise(self, batch: Sequence[int], generator: torch.Generator) -> Tensor:
        return torch.randn(*batch, *self.box.shape, generator=generator, device=generator.device)

    def sample(self, params: Tensor, mask: Tensor | None, noise: Tensor | None) -> ActionSample:
        action, log_prob = self.rsample(params, mask, noise)
        return self.box.decode(action), log_prob, {}

    def mode(self, params: Tensor, mask: Tensor | None) -> Tensor:
        return self.box.decode(self.box.zero_fixed(params.tanh()))

    def evaluate(
        self, params: Tensor, mask: Tensor | None, action: Tensor, aux: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("a deterministic policy has no density")

    def rsample(
        self, params: Tensor, mask: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return self.encoded(params, mask, noise), torch.zeros_like(params[..., 0])

    def encoded(self, params: Tensor, mask: Tensor | None, noise: Tensor | None) -> Tensor:
        share = params.tanh() if noise is None else (params.tanh() + noise).clamp(-1, 1)
        return self.box.zero_fixed(share)


def deterministic(spec: ActionSpec, soft: bool = False) -> Distribution:
    """Returns the distribution of a deterministic policy over the actions of a specification.

    Args:
        spec: the actions.
        soft: True if losses read choices relaxed, False for straight through.

    Raises:
        UserError: ``soft`` with several choices per agent.
    """
    match spec:
        case Continuous():
            return Deterministic(spec)
        case Discrete() if soft:
            return Relaxed(spec.n)
        case MultiDiscrete() if soft:
            raise UserError(
                "gumbel=soft works only with one choice per agent, and this task has several; "
                "take gumbel=hard"
            )
        case _:
            return distribution(spec)
