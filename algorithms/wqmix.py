"""Weighted QMIX: QMIX that errs where it costs least, CW-QMIX and OW-QMIX (Rashid et al. 2020).

A central value Q*, an unconstrained function of the joint observation and of utilities of its own,
learns the returns of all joint actions. QMIX is fitted to the same targets, but errors in joint
actions that are not the best are weighted by alpha (targets and the networks marked ' without
gradient)::

    u*_i       argmax q_i(o_i, .), the agents' own choices
    y          the lambda-return of rewards and of Q*'(s', u*(s'))
    loss       w (Q_tot(s, u) - y)^2 + (Q*(s, u) - y)^2
    CW-QMIX    w = 1 where u = u* or y > Q*'(s, u*), else alpha
    OW-QMIX    w = 1 where Q_tot < y, else alpha
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from marl.algorithm import Context
from marl.algorithms.qmix import QMIXConfig
from marl.algorithms.value_decomposition import Outputs, ValueDecomposition
from marl.critics.mixers import UnconstrainedMixer
from marl.errors import UserError
from marl.learning.losses import masked_mean
from marl.learning.replay import Sequences
from marl.learning.target_networks import TargetNetwork, target_copy
from marl.types import Carry, Stats
from marl.utils.validation import check_range


@dataclass
class WeightedQMIXConfig(QMIXConfig):
    """Hyperparameters of weighted QMIX, with the authors' networks."""

    #: Weight of errors where the joint action is not taken for the best one; 1 weights all the
    #: same. Usual 0.1, or 0.5 in some maps of StarCraft.
    alpha: float = 0.1
    #: Units of each of the three hidden layers of the central value's mixer; usual 256.
    central_units: int = 256
    #: Steps before each sequence, from which memories build up without gradient. The central
    #: value's memories always begin from zeros, so that usual is the length of an episode. Read
    #: where networks have a memory.
    burn_in: int = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, alpha=(0, 1), central_units=(1, math.inf))
        if not self.double:
            raise UserError(
                "double=false: weighted QMIX values the online networks' choices by its central "
                "target networks; leave double=true"
            )

    def central_mixer(self, context: Context) -> UnconstrainedMixer:
        """Builds the mixer of the central value."""
        agents = sum(group.size for group in context.team.values())
        return UnconstrainedMixer(self.joint_observation(context), agents, units=self.central_units)


@dataclass
class CWQMIXConfig(WeightedQMIXConfig):
    """Hyperparameters of centrally weighted QMIX."""

    def build(self, context: Context) -> CWQMIX:
        return CWQMIX(self, context)


@dataclass
class OWQMIXConfig(WeightedQMIXConfig):
    """Hyperparameters of optimistically weighted QMIX."""

    def build(self, context: Context) -> OWQMIX:
        return OWQMIX(self, context)


class WeightedQMIX(ValueDecomposition[WeightedQMIXConfig]):
    """QMIX with weighted errors, beside a central value that gives its targets.

    Source: Rashid et al. 2020, "Weighted QMIX: Expanding Monotonic Value Function Factorisation for
    Deep Multi-Agent Reinforcement Learning". The gradients of both values are clipped each by
    itself, and not together as there.

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm; with a replay.
    """

    def __init__(self, config: WeightedQMIXConfig, context: Context):
        super().__init__(config, context, config.mixer(context))

    def _make_targets(self) -> None:
        """Builds the central value and its target networks; QMIX itself has none."""
        self.central = self.config.policy(self.context)
        self.central_mixer = self.config.central_mixer(self.context).to(self.context.device)
        self.target_central = target_copy(self.central)
        self.target_central_mixer = target_copy(self.central_mixer)
        self.target_networks += [
            TargetNetwork(self.target_central, self.central),
            TargetNetwork(self.target_central_mixer, self.central_mixer),
        ]

    def trained_parts(self) -> dict[str, list[nn.Parameter]]:
        central = [*self.central.parameters(), *self.central_mixer.parameters()]
        return {**super().trained_parts(), "central": central}

    def networks(self) -> list[nn.Module]:
        return [*super().networks(), self.central, self.central_mixer]

    def update_utilities(self, batch: Sequences) -> Stats:
        """Takes a gradient step on the weighted errors of Q_tot, and on those of Q*.

        Args:
            batch: M sequences of ``burn_in + length`` steps.

        Returns:
            ``loss`` and ``central_loss``; ``q``, the mean Q_tot of the actions taken; ``target``,
            the mean of y; and ``weight``, the mean of w.
        """
        carry = self.carry_after_burn_in(self.policy, batch, self.stored_carry(batch))
        zeros = self.policy.initial_carry(batch.start.shape[1])
        carries = [
            self.carry_after_burn_in(policy, batch, zeros)
            for policy in (self.central, self.target_central)
        ]
        batch = self.after_burn_in(batch)
        utilities, memory = self.policy.unroll(batch.obs, carry, batch.start)
        value = self.mix(self.mixer, batch.obs, self.taken(utilities, batch))
        central_utilities, _ = self.central.unroll(batch.obs, carries[0], batch.start)
        central = self.mix(self.central_mixer, batch.obs, self.taken(central_utilities, batch))
        y, best = self.central_targets(batch, utilities, memory, carries[1])
        weight, mask = (
            self.weights(value.detach(), y, best, self.greedy(utilities, batch)),
            self.mask(batch),
        )
        loss = masked_mean(weight * (value - y).square(), mask)
        central_loss = masked_mean((central - y).square(), mask)
        self.optimizer.step(loss + central_loss)
        return {
            "loss": loss.detach(),
            "central_loss": central_loss.detach(),
            "q": masked_mean(value.detach(), mask),
            "target": masked_mean(y, mask),
            "weight": masked_mean(weight, mask),
        }

    @torch.no_grad()
    def central_targets(
        self, batch: Sequences, utilities: Outputs, memory: Carry, target_carry: Carry
    ) -> tuple[Tensor, Tensor]:
        """Computes what both values are fitted to, without gradient.

        Args:
            batch: M sequences of T steps.
            utilities: the online networks' utilities, ``[T, M, N, P]`` by group.
            memory: the online networks' memories after each step, ``[T, M, N, H]`` by group.
            target_carry: the central target networks' memories before the first step.

        Returns:
            y, and Q*'(s, u*), ``[T, M, 1]``.
        """
        central, central_memory = self.target_central.unroll(batch.obs, target_carry, batch.start)
        best = self.best(utilities, central, batch.obs)
        preferred = self.next_utilities(self.policy, batch, utilities, memory)
        successor = self.next_utilities(self.target_central, batch, central, central_memory)
        choice = self.best(preferred, successor, batch.next_obs)
        next_value = self.mix(self.target_central_mixer, batch.next_obs, choice)
        y = self.returns(batch, next_value)
        return y, self.mix(self.target_central_mixer, batch.obs, best)

    @torch.no_grad()
    def greedy(self, utilities: Outputs, batch: Sequences) -> Tensor:
        """Returns whether all agents took their own choices u*, ``[T, M, 1]`` bool.

        Absent agents count as if they did.

        Args:
            utilities: the online networks', ``[T, M, N, P]`` by group.
            batch: M sequences of T steps.
        """
        equal = []
        for name, values in utilities.items():
            group, of = batch.obs.groups[name], self.policy.utilities[name]
            own = of.greedy(values, group.action_mask) == of.index(batch.action[name])
            same = own.all(-1)  # [T, M, N]
            equal.append(same if group.alive is None else same | ~group.alive)
        return torch.cat(equal, dim=-1).all(-1, keepdim=True)

    def weights(self, value: Tensor, y: Tensor, best: Tensor, greedy: Tensor) -> Tensor:
        """Computes the weights w of QMIX's errors.

        Args:
            value: Q_tot of the actions taken, without gradient, ``[T, M, 1]``.
            y: what it is fitted to, ``[T, M, 1]``.
            best: Q*'(s, u*), ``[T, M, 1]``.
            greedy: whether u = u*, ``[T, M, 1]`` bool.

        Returns:
            1 or alpha, ``[T, M, 1]``.
        """
        raise NotImplementedError

    def other_networks(self) -> dict[str, nn.Module]:
        return {
            "central": self.central,
            "central_mixer": self.central_mixer,
            "target_central": self.target_central,
            "target_central_mixer": self.target_central_mixer,
        }


class CWQMIX(WeightedQMIX):
    """Centrally weighted QMIX: an error counts where the joint action may be the best one."""

    def weights(self, value: Tensor, y: Tensor, best: Tensor, greedy: Tensor) -> Tensor:
        return torch.where(greedy | (y > best), 1.0, self.config.alpha)


class OWQMIX(WeightedQMIX):
    """Optimistically weighted QMIX: an error counts where the value is too low."""

    def weights(self, value: Tensor, y: Tensor, best: Tensor, greedy: Tensor) -> Tensor:
        return torch.where(value < y, 1.0, self.config.alpha)
