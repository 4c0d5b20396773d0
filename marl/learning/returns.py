"""Returns, advantages and value normalisation: functions of tensors ``[T, ...]``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from marl.learning.losses import masked_mean
from marl.utils import distributed
from marl.utils.stacked_modules import is_mapping


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    done: Tensor,
    gamma: float,
    lam: float,
) -> tuple[Tensor, Tensor]:
    """Computes generalised advantage estimates (Schulman et al. 2016, eq. 16).

    In formulas::

        delta_t = r_t + gamma (1 - terminated_t) V(s'_t) - V(s_t)
        A_t     = delta_t + gamma lam (1 - done_t) A_{t+1}

    Where an episode is truncated, or under own rewards one agent (which is ``done`` there), the
    return bootstraps from the value of the true successor while the trace stops.

    Args:
        reward: r, ``[T, ...]``.
        value: V(s), of the same shape.
        next_value: V(s'), the value of the true successor, of the same shape.
        terminated: True where a return ends for good, of the same shape.
        done: True where a trace stops, of the same shape.
        gamma: discount.
        lam: decay of the trace, lambda.

    Returns:
        Advantages A and value targets ``A + V``, ``[T, ...]`` each.
    """
    delta = reward + gamma * next_value * ~terminated - value
    decay = gamma * lam * (~(done | terminated)).to(delta.dtype)
    advantage = torch.empty_like(delta)
    trace = torch.zeros_like(delta[0])
    for t in range(delta.shape[0] - 1, -1, -1):
        trace = delta[t] + decay[t] * trace
        advantage[t] = trace
    return advantage, advantage + value


def lambda_returns(
    reward: Tensor, next_value: Tensor, terminated: Tensor, done: Tensor, gamma: float, lam: float
) -> Tensor:
    """Computes lambda-returns, TD(lambda) (Sutton and Barto 2018, section 12.1).

    In formulas::

        G_t = r_t + gamma (1 - terminated_t) ((1 - c_t) V(s'_t) + c_t G_{t+1})
        c_t = lam (1 - done_t), and 0 in the last step

    Args:
        reward: r, ``[T, ...]``.
        next_value: V(s'), the value of the true successor, of the same shape.
        terminated: True where a return ends for good, of the same shape.
        done: True where a trace stops, of the same shape.
        gamma: discount.
        lam: lambda; 0 for one-step targets, 1 for discounted sums.

    Returns:
        G, ``[T, ...]``.
    """
    discount = gamma * (~terminated).to(reward.dtype)
    if lam == 0:
        return reward + discount * next_value
    share = lam * (~done).to(reward.dtype)
    returns = [reward[-1] + discount[-1] * next_value[-1]]
    for t in range(len(reward) - 2, -1, -1):
        rest = torch.lerp(next_value[t], returns[-1], share[t])
        returns.append(reward[t] + discount[t] * rest)
    return torch.stack(returns[::-1])


def n_step(
    reward: Tensor, terminated: Tensor, done: Tensor, valid: Tensor, gamma: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes n-step returns (Sutton and Barto 2018, eq. 7.1) of M windows with H returns each.

    In formulas::

        m        = steps up to the first done_k (inclusive), all n without one
        R        = sum_{k < m} gamma^k r_k, where nothing after the first terminated_k counts
        discount = gamma^m (1 - terminated in any of these), to multiply the value after step m with

    Args:
        reward: r, ``[n, M, H]``.
        terminated: True where a return ends for good, ``[n, M, H]``; an agent may terminate while
            its episode continues.
        done: True where a window ends, ``[n, M]``: with the episode, or where a return is cut.
        valid: False from where a window has no more steps, ``[n, M]``, which shortens m; True in
            the first step. Values where it is False are ignored.
        gamma: discount.

    Returns:
        R and discount, ``[M, H]`` each, and m, ``[M]``.
    """
    inside = valid & ~_before(done)
    counted = inside.unsqueeze(-1) & ~_before(terminated)
    exponent = torch.arange(len(reward), device=reward.device, dtype=reward.dtype)
    weight = torch.pow(gamma, exponent)[:, None, None]
    total = torch.where(counted, weight * reward, 0.0).sum(0)
    length = inside.sum(0)
    discount = torch.pow(gamma, length.to(reward.dtype)).unsqueeze(-1)
    return total, discount * ~(terminated & counted).any(0), length


def _before(flag: Tensor) -> Tensor:
    """Returns whether ``flag [n, ...]`` was set in an earlier step."""
    return flag.cumsum(0) - flag.long() > 0


@dataclass(frozen=True)
class Rescaling:
    """A change of the unit of normalised values: ``scale * value + shift``."""

    #: Factor, a scalar.
    scale: Tensor
    #: Summand, a scalar.
    shift: Tensor

    def __call__(self, value: Tensor) -> Tensor:
        return value * self.scale + self.shift

    @torch.no_grad()
    def apply_to_layers(self, layers: Iterable[nn.Module]) -> None:
        """Changes linear layers in place, so that they give their values in the new unit.

        The scale goes into their weights: a factor after the layer would change how far one
        optimizer step moves the values.
        """
        for layer in layers:
            layer.weight.mul_(self.scale)  # type: ignore[operator, union-attr]  # a Parameter
            layer.bias.mul_(self.scale).add_(self.shift)  # type: ignore[operator, union-attr]


class ValueNorm(nn.Module):
    """Running mean and standard deviation of value targets (Yu et al. 2022, section 5.1).

    Both are debiased exponential averages; the variance is at least 0.01.

    When they move, the critic's normalised values must follow (PopArt, van Hasselt et al. 2016):
    otherwise values are multiplied, targets with them, and the deviation grows without bound.
    Differences between values are preserved. Unlike in PopArt, the mean of the values becomes that
    of the targets: the optimizer would approach it in many small steps, each of which moves the
    differences too.

    Args:
        beta: decay of the averages for each update.
    """

    def __init__(self, beta: float = 0.99999):
        super().__init__()
        self.beta = beta
        for name in ("mean", "square", "weight"):  # double: the variance is a difference
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        self.mean: Tensor
        self.square: Tensor
        self.weight: Tensor

    def moments(self) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation, scalars; 0 and 1 before the first update."""
        mean, std = self._moments()
        return mean.float(), std.float()

    def _moments(self) -> tuple[Tensor, Tensor]:
        has_data = self.weight > 0
        weight = self.weight.clamp_min(1e-8)
        mean = self.mean / weight
        variance = (self.square / weight - mean.square()).clamp_min(1e-2)
        return torch.where(has_data, mean, 0.0), torch.where(has_data, variance.sqrt(), 1.0)

    @torch.no_grad()
    def update(self, target: Tensor, value: Tensor, mask: Tensor | None) -> Rescaling:
        """Updates the averages from the targets of all ranks.

        Args:
            target: value targets, any shape.
            value: the critic's normalised values in the same places.
            mask: 1.0 where a target counts, else 0.0, of the same shape; None where all count.

        Returns:
            The change of unit that gives the values the targets' mean and preserves their
            differences. The values of a new network are arbitrary and may be huge: the first change
            gives them a deviation of at most 1.
        """
        has_data, (_, old_std) = self.weight > 0, self._moments()
        target_mean, target_square = _mean_and_square(target, mask)
        for average, new in (
            (self.mean, target_mean),
            (self.square, target_square),
            (self.weight, torch.ones_like(self.weight)),
        ):
            _approach(average, new, 1 - self.beta)
        mean, std = self._moments()
        value_mean, value_square = _mean_and_square(value, mask)
        spread = (value_square - value_mean.square()).clamp_min(1.0).sqrt()
        scale = torch.where(has_data, old_std / std, 1 / spread)
        return Rescaling(scale.float(), ((target_mean - mean) / std - scale * value_mean).float())

    def normalize(self, value: Tensor) -> Tensor:
        """Returns values in normalised units."""
        mean, std = self.moments()
        return (value - mean) / std

    def denormalize(self, value: Tensor) -> Tensor:
        """Returns normalised values in the unit of rewards; 0 before the first update."""
        mean, std = self.moments()
        return torch.where(self.weight > 0, value * std + mean, 0.0)


def _approach(average: Tensor, new: Tensor, share: float) -> None:
    """Moves an average in place by a share of its distance to a new value."""
    if is_mapping():  # in which ``lerp_`` is slow, and warns
        average.add_((new - average) * share)
    else:
        average.lerp_(new, share)


def _mean_and_square(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Returns the mean and the mean square over all ranks, in float64."""
    x = x.double()
    return distributed.average(masked_mean(x, mask)), distributed.average(
        masked_mean(x.square(), mask)
    )


class NoNorm(nn.Module):
    """A stand-in for ``ValueNorm`` that leaves values as they are."""

    def update(self, target: Tensor, value: Tensor, mask: Tensor | None) -> Rescaling:
        """Returns the change of unit that changes nothing.

        Args:
            target: value targets.
            value: the critic's values.
            mask: which targets count.
        """
        return Rescaling(target.new_ones(()), target.new_zeros(()))

    def normalize(self, value: Tensor) -> Tensor:
        """Returns the values."""
        return value

    def denormalize(self, value: Tensor) -> Tensor:
        """Returns the values."""
        return value
