"""An algorithm of someone else's, to be named by its import path."""

from __future__ import annotations

from dataclasses import dataclass

from marl.algorithm import Context
from marl.policies.fixed import Scripted
from marl.policies.random import RandomPolicy


@dataclass
class LazyConfig:
    """Acts at random and never learns."""

    naps: int = 1

    def policy(self, context: Context) -> RandomPolicy:
        return RandomPolicy(context.team)

    def build(self, context: Context) -> Scripted:
        return Scripted(self.policy(context), explore=True)
