"""Auxiliary losses: terms that an actor minimises besides its algorithm's own loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from marl.learning.on_policy import Batch
from marl.learning.rewards import concat_groups
from marl.policies.base import Policy
from marl.policies.dag import BayesianNetworkConfig, density
from marl.types import Aux, Carry, Observation, Stats

Features: TypeAlias = Mapping[str, Tensor]  # by name, ``[..., *]`` as the batch, with gradient


class Auxiliary(Protocol):
    """A loss that is added to the actor's loss."""

    def parameters(self) -> Iterable[Tensor]:
        """Returns the parameters of this loss; the optimizer of the policy moves them."""
        ...

    def schedule(self, progress: float) -> None:
        """Sets what changes over the run; called before each update.

        Args:
            progress: share of the run that is finished, from 0 to 1.
        """
        ...

    def loss(self, batch: Batch, features: Features) -> tuple[Tensor, Stats]:
        """Computes the loss of one minibatch.

        Args:
            batch: the minibatch.
            features: what the policy computed on its way to the log-probabilities, by name.

        Returns:
            The loss, a scalar, and statistics without gradient.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state of a checkpoint."""
        ...


class Auxiliaries:
    """Auxiliary losses of one policy, by name; often none, and then the object is false.

    Args:
        losses: the losses; a checkpoint stores their states under the same names.
    """

    def __init__(self, losses: Mapping[str, Auxiliary]):
        self.losses = dict(losses)

    def __bool__(self) -> bool:
        return bool(self.losses)

    def parameters(self) -> list[Tensor]:
        """Returns the parameters of all losses."""
        return [p for auxiliary in self.losses.values() for p in auxiliary.parameters()]

    def schedule(self, progress: float) -> None:
        """Schedules all losses; ``progress`` is from 0 to 1."""
        for auxiliary in self.losses.values():
            auxiliary.schedule(progress)

    def loss(self, batch: Batch, features: Features) -> tuple[Tensor | float, Stats]:
        """Computes the sum of all losses of one minibatch.

        Args:
            batch: the minibatch.
            features: what the policy computed on its way to the log-probabilities, by name.

        Returns:
            The sum, a scalar (0.0 of no loss), and the statistics of all losses.
        """
        total: Tensor | float = 0.0
        stats: Stats = {}
        for auxiliary in self.losses.values():
            loss, auxiliary_stats = auxiliary.loss(batch, features)
            total, stats = total + loss, stats | auxiliary_stats
        return total, stats

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of all losses, by name."""
        return {name: auxiliary.state_dict() for name, auxiliary in self.losses.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the states of all losses."""
        for name, auxiliary_state in state.items():
            self.losses[name].load_state_dict(auxiliary_state)


class FeaturePolicy(Policy, Protocol):
    """A policy that hands what it computes to auxiliary losses."""

    def evaluate_with_features(
        self, obs: Observation, action: Mapping[str, Tensor], carry: Carry, start: Tensor, aux: Aux
    ) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Features]:
        """Computes what ``evaluate`` returns, and the features.

        Args:
            obs: observations, ``[T, B, ...]`` or, without memory, of any leading axes.
            action: the actions taken, ``[T, B, N, *action shape]`` by group.
            carry: memories before the first step, ``[B, N, H]`` by group.
            start: True where an episode begins, ``[T, B]``.
            aux: what the policy recorded when it acted.

        Returns:
            Log-probabilities ``[T, B, N]`` and entropies ``[T, B, N]`` by group, and the features
            by name, with gradient.
        """
        ...


def evaluate(
    policy: Policy, batch: Batch, carry: Carry, auxiliaries: Auxiliaries
) -> tuple[Tensor, Tensor, Features]:
    """Evaluates a policy on a minibatch, with features where an auxiliary loss reads them.

    Args:
        policy: the policy of the team; with auxiliary losses it must be a ``FeaturePolicy``.
        batch: the minibatch.
        carry: the policy's memories at the start of the minibatch's chunks.
        auxiliaries: the auxiliary losses of the policy.

    Returns:
        Log-probabilities and entropies, ``[..., N]`` over all agents of the team, and the features;
        without auxiliary losses there are no features.
    """
    inputs = batch.obs, batch.action, carry, batch.start, batch.aux
    features: Features = {}
    if auxiliaries:
        log_prob, entropy, features = policy.evaluate_with_features(*inputs)  # type: ignore[attr-defined]  # a FeaturePolicy
    else:
        log_prob, entropy = policy.evaluate(*inputs)
    return concat_groups(log_prob, policy.groups), concat_groups(entropy, policy.groups), features


class GraphDensity:
    """A penalty on the density of the graphs that a joint policy acts along.

    The loss is ``c |density - target|``, the mean over frames, where c and the target move over the
    run (``BayesianNetworkConfig.schedule``).

    Args:
        joint: the Bayesian network of the policy, with the schedule of c and the target.
        device: where the loss is computed.
    """

    def __init__(self, joint: BayesianNetworkConfig, device: torch.device):
        self.joint = joint
        # Weight c and target; a tensor, so that compiled code sees it move.
        self.density_schedule = torch.zeros(2, device=device)

    def parameters(self) -> Iterable[Tensor]:
        return ()

    def schedule(self, progress: float) -> None:
        values = self.joint.schedule(progress)
        for number, value in zip(self.density_schedule, values, strict=True):
            number.fill_(value)  # unlike a copy, this does not wait for the device

    def loss(self, batch: Batch, features: Features) -> tuple[Tensor, Stats]:
        weight, target = self.density_schedule.unbind()
        graph_density = density(features["graph"])
        loss = weight * (graph_density - target).abs().mean()
        return loss, {"density": graph_density.detach().mean()}

    def state_dict(self) -> dict[str, Any]:
        return {}  # the schedule follows from the run's progress

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def graph_auxiliaries(joint: BayesianNetworkConfig, device: torch.device) -> Auxiliaries:
    """Returns the auxiliary losses that belong to ``team_policy`` of the same ``joint``.

    Args:
        joint: the Bayesian network of the policy; without a graph there is no loss.
        device: where the losses are computed.
    """
    return Auxiliaries({} if joint.graph == "none" else {"density": GraphDensity(joint, device)})
