"""One optimizer of several seeds, whose parameters are stacked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from marl.learning.optimizer import Optimizer
from marl.types import Stats
from marl.utils.stacked_modules import Stack


class StackedOptimizer(Optimizer):
    """Steps the optimizers of S seeds at once, each with its own norms of gradients.

    The seeds' moments become rows of stacked ones, and their counts of steps and learning rates are
    this one's, for all have taken as many steps.

    Args:
        seeds: the optimizers; those of the first copy's parameters first.
        stack: the stack of the parameters.
    """

    def __init__(self, seeds: Sequence[Optimizer], stack: Stack):
        first = seeds[0]
        parts = {name: [stack.of(p) for p in part] for name, part in first.parts.items()}
        super().__init__(parts, first.initial_lr, first.eps, first.max_norm)
        for name in parts:
            for moments in ("first", "second"):
                of_seeds = [getattr(seed, moments)[name] for seed in seeds]
                stacked = [torch.stack(list(rows)) for rows in zip(*of_seeds, strict=True)]
                getattr(self, moments)[name] = stacked
                for number, own in enumerate(of_seeds):
                    own[:] = [rows[number] for rows in stacked]
            # Of seeds that wait for the others and have taken more steps, those are loaded later.
            self.steps[name] = min((s.steps[name] for s in seeds), key=lambda x: x[0].item())
            for seed in seeds:
                seed.steps[name], seed.lr[name] = self.steps[name], self.lr[name]

    def step(self, loss: Tensor) -> Stats:
        """Takes one step of every seed down the gradient of its own loss.

        Args:
            loss: of each seed, ``[S]``.

        Returns:
            The norms of each part's gradients before clipping, ``[S]`` by part.
        """
        return super().step(loss.sum())

    def _squares(self, gradient: Tensor) -> Tensor:
        return gradient.square().flatten(1).sum(1)

    def _scaled(self, gradient: Tensor, scale: Tensor) -> Tensor:
        return gradient * scale.view(-1, *[1] * (gradient.dim() - 1))
