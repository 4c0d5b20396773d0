"""Target networks: averaged copies of networks (Lillicrap et al. 2016)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def target_copy(module: nn.Module) -> Any:
    """Returns a copy of ``module`` without gradients, which only a ``TargetNetwork`` moves."""
    return copy.deepcopy(module).requires_grad_(False)


class TargetNetwork:
    """Moves the parameters of a target network towards those of its original.

    Args:
        target: the copy, from ``target_copy``.
        module: the network that it follows.
    """

    def __init__(self, target: nn.Module, module: nn.Module):
        # Listed once, for walking a network takes longer than moving it.
        self.target, self.parameters = list(target.parameters()), list(module.parameters())
        self.buffers = list(zip(target.buffers(), module.buffers(), strict=True))

    @torch.no_grad()
    def update(self, tau: float) -> None:
        """Moves the target by the share ``tau`` of the way, from 0 to 1."""
        if self.target:
            torch._foreach_lerp_(self.target, self.parameters, tau)  # type: ignore[reportPrivateImportUsage]  # the one fused call for it

    @torch.no_grad()
    def copy_buffers(self) -> None:
        """Copies the original's running moments of inputs, which mean the same to both."""
        for target, original in self.buffers:
            target.copy_(original)
