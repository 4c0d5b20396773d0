"""Early stopping of runs that are behind (Li et al. 2018), as W&B's ``early_terminate`` does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from marl.errors import UserError


@dataclass(frozen=True)
class Hyperband:
    """The rule that stops runs at *bands*, numbers of logged values of the metric.

    At a band a run continues only if it is among the best 1/eta of all runs that reached it. Bands
    are ``min_iter`` times powers of ``eta``, or ``max_iter`` divided by powers of ``eta``.

    Raises:
        UserError: the numbers define no bands.
    """

    #: Values of the metric at the first band; None where ``max_iter`` and ``s`` define the bands.
    min_iter: int | None = None
    #: Values of the metric at the end of a run.
    max_iter: int | None = None
    #: Number of bands; only with ``max_iter``.
    s: int | None = None
    #: A share of 1/eta of the runs continues at each band; above 1, usual 3.
    eta: float = 3
    #: Whether runs are compared by the value at the band, not by the best so far.
    strict: bool = False

    def __post_init__(self) -> None:
        if self.eta <= 1:
            raise UserError(f"early_terminate: eta is {self.eta}; it must be above 1")
        if self.min_iter is None and (self.max_iter is None or self.s is None):
            raise UserError("early_terminate needs min_iter, or max_iter and s")
        if min(x for x in (self.min_iter, self.max_iter, self.s) if x is not None) < 1:
            raise UserError("early_terminate: min_iter, max_iter and s must be at least 1")

    def bands(self, reached: int) -> list[int]:
        """Returns the bands up to ``reached`` values, in ascending order."""
        if self.max_iter is not None and self.s is not None:
            bands = [int(self.max_iter / self.eta**k) for k in range(1, self.s + 1)]
        else:
            assert self.min_iter is not None
            bands, band = [], float(self.min_iter)
            while band <= reached:
                bands.append(int(band))
                band *= self.eta
        return sorted(band for band in bands if 1 <= band <= reached)

    def behind(self, run: Sequence[float], everyone: Sequence[Sequence[float]]) -> bool:
        """Returns whether a run should stop.

        Args:
            run: its values so far; higher is better.
            everyone: the values of all runs, this one included.
        """
        bands = self.bands(len(run))
        if not bands:
            return False
        band = bands[-1]
        at_band = sorted(
            (values[band - 1] for values in everyone if len(values) >= band), reverse=True
        )
        threshold = at_band[int(len(at_band) / self.eta)]
        return (run[band - 1] if self.strict else max(run)) < threshold
