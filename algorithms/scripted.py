"""Teams that do not learn: uniformly random, or frozen from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from marl.algorithm import Scripted, Setting
from marl.errors import UserError
from marl.policies import Policy
from marl.runs import load_policy
from marl.uniform import RandomPolicy


@dataclass
class RandomConfig:
    """A team that acts at random, for baselines and as an opponent."""

    def policy(self, setting: Setting) -> Policy:
        return RandomPolicy(setting.team)

    def build(self, setting: Setting) -> Scripted:
        return Scripted(self.policy(setting), explore=True)


@dataclass
class FrozenConfig:
    """A team with the policy of an earlier run, which does not learn any more."""

    checkpoint: str = ""  # a run directory, or one of its checkpoint files
    source: str = ""  # the team to take from that run; empty for the one with the same groups
    explore: bool = True  # whether it samples its actions while the others train

    def __post_init__(self) -> None:
        if not self.checkpoint:
            raise UserError(
                "algorithm frozen needs checkpoint=RUN, the directory of an earlier run"
            )
        self.checkpoint = str(Path(self.checkpoint).absolute())  # found again from anywhere

    def policy(self, setting: Setting) -> Policy:
        return load_policy(Path(self.checkpoint), self.source, setting)

    def build(self, setting: Setting) -> Scripted:
        return Scripted(self.policy(setting), explore=None if self.explore else False)
