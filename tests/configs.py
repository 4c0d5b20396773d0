"""An algorithm of someone else's, to be named by its import path."""

from __future__ import annotations

from dataclasses import dataclass

from marl.algorithm import Scripted, Setting
from marl.uniform import RandomPolicy


@dataclass
class LazyConfig:
    """Acts at random and never learns."""

    naps: int = 1

    def policy(self, setting: Setting) -> RandomPolicy:
        return RandomPolicy(setting.team)

    def build(self, setting: Setting) -> Scripted:
        return Scripted(self.policy(setting), explore=True)
