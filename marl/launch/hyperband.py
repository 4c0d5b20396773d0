"""Stopping runs that are behind (Li et al. 2018, as W&B's ``early_terminate`` has it)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marl.errors import UserError


@dataclass(frozen=True)
class Hyperband:
    """After so many values of the metric, a *band*, a run goes on only among the best 1/eta of all
    that came as far. Bands are min_iter times powers of eta, or, backwards, max_iter over them.

    Raises:
        UserError: numbers that make no bands.
    """

    min_iter: int | None = None  # values of the metric at the first band
    max_iter: int | None = None  # or at the end
    s: int | None = None  # bands, with max_iter
    eta: float = 3  # the share that goes on is 1/eta
    strict: bool = False  # what counts is the value at the band, not the best so far

    def __post_init__(self) -> None:
        if self.eta <= 1:
            raise UserError(f"early_terminate: eta is {self.eta}; it must be above 1")
        if self.min_iter is None and (self.max_iter is None or self.s is None):
            raise UserError("early_terminate needs min_iter, or max_iter and s")
        if min(x for x in (self.min_iter, self.max_iter, self.s) if x is not None) < 1:
            raise UserError("early_terminate: min_iter, max_iter and s must be at least 1")

    def bands(self, reached: int) -> list[int]:
        """The bands up to ``reached`` values."""
        if self.max_iter is not None and self.s is not None:
            bands = [int(self.max_iter / self.eta**k) for k in range(1, self.s + 1)]
        else:
            assert self.min_iter is not None
            bands, band = [], float(self.min_iter)
            while band <= reached:
                bands.append(int(band))
                band *= self.eta
        return sorted(band for band in bands if 1 <= band <= reached)

    def behind(self, own: Sequence[float], everyone: Sequence[Sequence[float]]) -> bool:
        """Whether a run with the values ``own`` (more is better) should stop, of ``everyone``'s."""
        bands = self.bands(len(own))
        if not bands:
            return False
        band = bands[-1]
        there = sorted(
            (values[band - 1] for values in everyone if len(values) >= band), reverse=True
        )
        threshold = there[int(len(there) / self.eta)]
        return (own[band - 1] if self.strict else max(own)) < threshold
