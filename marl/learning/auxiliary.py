"""Losses that an actor descends beside the algorithm's own, as the density of annealed graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from marl.learning.on_policy import Batch
from marl.learning.rewards import joined
from marl.policies.base import Policy
from marl.policies.dag import BayesianNetworkConfig, density
from marl.types import Aux, Carry, Observation, Stats

Features: TypeAlias = Mapping[str, Tensor]  # by name, ``[..., *]`` as the batch, with gradient


class Auxiliary(Protocol):
    """A loss that is added to the actor's."""

    def parameters(self) -> Iterable[Tensor]:
        """Returns those of its own; they move with the policy's."""
        ...

    def schedule(self, progress: float) -> None:
        """Sets what changes over the run, before an update; ``progress`` is from 0 to 1."""
        ...

    def loss(self, batch: Batch, features: Features) -> tuple[Tensor, Stats]:
        """Returns the loss of a minibatch, a scalar, and statistics without gradient.

        Args:
            batch: the minibatch.
            features: what the policy computed on its way to the log-probabilities.
        """
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class Auxiliaries:
    """All auxiliary losses of a policy, by name, as one; often none.

    Args:
        losses: by name, under which a checkpoint has their states.
    """

    def __init__(self, losses: Mapping[str, Auxiliary]):
        self.losses = dict(losses)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.losses)

    def parameters(self) -> list[Tensor]:
        return [p for auxiliary in self.losses.values() for p in auxiliary.parameters()]

    def schedule(self, progress: float) -> None:
        for auxiliary in self.losses.values():
            auxiliary.schedule(progress)

    def loss(self, batch: Batch, features: Features) -> tuple[Tensor | float, Stats]:
        """Returns the sum of the losses, and the statistics of all; see ``Auxiliary.loss``."""
        total: Tensor | float = 0.0
        stats: Stats = {}
        for auxiliary in self.losses.values():
            loss, more = auxiliary.loss(batch, features)
            total, stats = total + loss, stats | more
        return total, stats

    def state_dict(self) -> dict[str, Any]:
        return {name: auxiliary.state_dict() for name, auxiliary in self.losses.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, its in state.items():
            self.losses[name].load_state_dict(its)


class FeaturePolicy(Policy, Protocol):
    """A policy that tells auxiliaries what it computes."""

    def evaluate_with_features(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Features]:
        """As ``evaluate``, and the features."""
        ...


def evaluate(
    policy: Policy, batch: Batch, carry: Carry, auxiliaries: Auxiliaries
) -> tuple[Tensor, Tensor, Features]:
    """Returns log-probabilities and entropies ``[..., N]`` over all agents of a team, and, where
    anything reads them, the features of its policy.

    Args:
        policy: the team's; with auxiliaries it must be a ``FeaturePolicy``.
        batch: a minibatch.
        carry: the policy's memories that its chunks start from.
        auxiliaries: of the policy.
    """
    played = batch.obs, batch.action, carry, batch.start, batch.aux
    features: Features = {}
    if auxiliaries:
        log_prob, entropy, features = policy.evaluate_with_features(*played)  # type: ignore[attr-defined]  # a FeaturePolicy
    else:
        log_prob, entropy = policy.evaluate(*played)
    return joined(log_prob, policy.groups), joined(entropy, policy.groups), features


class GraphDensity:
    """``c |density - target|`` of the graphs that a joint policy acts along, the mean over frames;
    c and the target move over the run (``BayesianNetworkConfig.schedule``)."""

    def __init__(self, joint: BayesianNetworkConfig, device: torch.device):
        self.joint = joint
        # Weight c and target; a tensor, so that compiled code sees it move.
        self.density_schedule = torch.zeros(2, device=device)

    def parameters(self) -> Iterable[Tensor]:
        return ()

    def schedule(self, progress: float) -> None:
        values = self.joint.schedule(progress)
        for number, value in zip(self.density_schedule, values, strict=True):
            number.fill_(value)  # unlike a copy, nothing to wait for

    def loss(self, batch: Batch, features: Features) -> tuple[Tensor, Stats]:
        weight, target = self.density_schedule.unbind()
        share = density(features["graph"])
        return weight * (share - target).abs().mean(), {"density": share.detach().mean()}

    def state_dict(self) -> dict[str, Any]:
        return {}  # the schedule follows from the run's progress

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def graph_auxiliaries(joint: BayesianNetworkConfig, device: torch.device) -> Auxiliaries:
    """Returns the losses that go with ``team_policy`` of the same ``joint``."""
    return Auxiliaries({} if joint.graph == "none" else {"density": GraphDensity(joint, device)})
