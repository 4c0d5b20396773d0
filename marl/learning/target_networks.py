"""Averaged copies of networks: what targets are computed with (Lillicrap et al. 2016)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def target_copy(module: nn.Module) -> Any:
    """Returns a copy of ``module`` that no gradient reaches: only a TargetNetwork moves it."""
    return copy.deepcopy(module).requires_grad_(False)


class TargetNetwork:
    """Moves an averaged copy towards its original. The parameters are listed once: to walk a
    network takes longer than to move it."""

    def __init__(self, copied: nn.Module, module: nn.Module):
        self.copied, self.original = list(copied.parameters()), list(module.parameters())
        self.buffers = list(zip(copied.buffers(), module.buffers(), strict=True))

    @torch.no_grad()
    def update(self, tau: float) -> None:
        """Moves the copy by the share ``tau`` of the way."""
        torch._foreach_lerp_(self.copied, self.original, tau)  # type: ignore[reportPrivateImportUsage]  # the one fused call for it

    @torch.no_grad()
    def copy_buffers(self) -> None:
        """Gives the copy the original's running moments as they are: those of inputs, which mean
        the same to both."""
        for copied, original in self.buffers:
            copied.copy_(original)
