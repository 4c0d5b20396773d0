"""Utilities of an agent's choices, and greedy play by them: the distribution of Q-learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from marl.policies.distributions import ActionSample, gumbel
from marl.types import ActionSpec, Continuous, Discrete, MultiDiscrete

FORBIDDEN = -1e9  # utility of an action that the mask forbids


@dataclass(frozen=True)
class Utilities:
    """Greedy choices by utilities, as a ``marl.policies.distributions.Distribution``.

    An agent has K choices at once: one with Discrete actions, several with MultiDiscrete ones, and
    with Continuous actions one among ``bins`` evenly spaced values for each dimension. Each choice
    has a utility of its own, and the agent's utility is their sum, as if its choices were agents
    (Seyde et al. 2023, DecQN). E members of an ensemble have utilities each, and actions are greedy
    with respect to their mean.

    Axis letters: ``K`` choices at once, ``C`` the number of values of all choices together, ``E``
    members, ``P = E * C``.
    """

    #: The actions.
    spec: ActionSpec
    #: E, members of the ensemble.
    members: int = 1
    #: Values for each dimension of Continuous actions.
    bins: int = 3
    #: True for the mean utility of an agent's choices, False for the sum.
    mean: bool = False

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each of the K choices."""
        match self.spec:
            case Discrete():
                return (self.spec.n,)
            case MultiDiscrete():
                return self.spec.nvec
            case Continuous():
                return (self.bins,) * len(self.spec.low)

    @property
    def parameters(self) -> int:
        return self.members * sum(self.sizes)

    def noise(self, batch: Sequence[int], generator: torch.Generator) -> Tensor:
        """Draws, for each action, a uniform number, which is below 0 after epsilon was subtracted
        where the agent explores (``marl.policies.greedy``), and the noise of random choices."""
        uniform = torch.rand(*batch, 1, generator=generator, device=generator.device)
        return torch.cat([uniform, gumbel((*batch, sum(self.sizes)), generator)], dim=-1)

    def sample(self, params: Tensor, mask: Tensor | None, noise: Tensor | None) -> ActionSample:
        scores = _allowed(self.of_members(params).mean(-2), mask)
        if noise is not None:
            random = _allowed(noise[..., 1:], mask)
            scores = torch.where(noise[..., :1] < 0, random, scores)
        action = self.action(self._largest(scores))
        return action, torch.zeros_like(scores[..., 0]), {}

    def mode(self, params: Tensor, mask: Tensor | None) -> Tensor:
        return self.action(self.greedy(params, mask))

    def evaluate(
        self, params: Tensor, mask: Tensor | None, action: Tensor, aux: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("a greedy policy has no density")

    def rsample(
        self, params: Tensor, mask: Tensor | None, noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("a greedy policy has no gradient")

    def encoded(self, params: Tensor, mask: Tensor | None, noise: Tensor | None) -> Tensor:
        raise NotImplementedError("a greedy policy has no gradient")

    # ------------------------------------------------------------------------------------ utilities

    def of_members(self, params: Tensor) -> Tensor:
        """Returns the utilities of all values, ``[..., N, E, C]``, from ``params [..., N, P]``."""
        return params.unflatten(-1, (self.members, -1))

    def greedy(self, params: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the indices of the allowed choices of largest utility, ``[..., N, K]``.

        Args:
            params: ``[..., N, P]``.
            mask: ``[..., N, C]`` bool, True where a choice is allowed; None if all are.
        """
        return self._largest(_allowed(self.of_members(params).mean(-2), mask))

    def taken(self, params: Tensor, index: Tensor) -> Tensor:
        """Returns the agents' utilities of choices, ``[..., N, E]``, with gradient.

        Args:
            params: ``[..., N, P]``.
            index: indices of the choices, ``[..., N, K]``.
        """
        utilities = self.of_members(params)
        if len(self.sizes) == 1:  # the common case, without one-hot vectors
            rows = index.unsqueeze(-2).expand(*utilities.shape[:-1], 1)
            return utilities.gather(-1, rows).squeeze(-1)
        total = (utilities * self.one_hot(index).unsqueeze(-2)).sum(-1)
        return total / len(self.sizes) if self.mean else total

    def one_hot(self, index: Tensor) -> Tensor:
        """Returns choices ``[..., N, K]`` as adjacent one-hot vectors, ``[..., N, C]`` float32."""
        parts = [F.one_hot(index[..., k], n) for k, n in enumerate(self.sizes)]
        return torch.cat(parts, dim=-1).float()

    def _largest(self, scores: Tensor) -> Tensor:
        parts = scores.split(self.sizes, -1)
        return torch.stack([part.argmax(-1) for part in parts], dim=-1)

    # -------------------------------------------------------------------------------------- actions

    def action(self, index: Tensor) -> Tensor:
        """Returns the actions of choices ``[..., N, K]``, ``[..., N, *action shape]``."""
        match self.spec:
            case Discrete():
                return index.squeeze(-1)
            case MultiDiscrete():
                return index
            case Continuous():
                return self.spec.decode(self.spec.zero_fixed(2 * index / (self.bins - 1) - 1))

    def index(self, action: Tensor) -> Tensor:
        """Returns the choices ``[..., N, K]`` of actions ``[..., N, *action shape]``, the nearest
        ones of Continuous actions."""
        match self.spec:
            case Discrete():
                return action.unsqueeze(-1)
            case MultiDiscrete():
                return action
            case Continuous():
                share = (self.spec.encode(action) + 1) / 2
                return (share * (self.bins - 1)).round().long()


def _allowed(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Returns scores ``[..., C]``, lowest where the mask forbids a choice."""
    return scores if mask is None else torch.where(mask, scores, FORBIDDEN)
