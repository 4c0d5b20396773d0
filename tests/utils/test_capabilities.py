"""What algorithms of users say, or leave out, about themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, ClassVar

import pytest

from marl.algorithms.hasac import HASACConfig
from marl.algorithms.mappo import MAPPOConfig
from marl.algorithms.scripted import RandomConfig
from marl.envs.task import Task
from marl.experiment import Experiment, Settings
from marl.training.build import build_replay
from marl.training.teams import Team
from marl.utils.capabilities import learns, needs_replay
from tests.helpers.builders import CPU
from tests.helpers.experiments import SHORT
from tests.helpers.replay import LookingConfig


def trained(directory: Path, algorithm: Any) -> Experiment:
    settings = Settings(**{**SHORT, "total_frames": 80})
    run = Experiment(
        Task("tests.helpers.toy_envs:identity"), algorithm, settings=settings, directory=directory
    )
    run.run()
    return run


class Silent:
    """Another algorithm without its word ``learns``."""

    def __init__(self, algorithm: Any):
        self.policy, self.act, self.update = algorithm.policy, algorithm.act, algorithm.update
        self.state_dict, self.load_state_dict = algorithm.state_dict, algorithm.load_state_dict


@dataclasses.dataclass
class SilentConfig(RandomConfig):
    def build(self, context: Any) -> Any:
        return Silent(super().build(context))


@pytest.mark.parametrize(
    ("config", "best"), [(RandomConfig(), False), (SilentConfig(), True), (MAPPOConfig(), True)]
)
def test_who_learns_has_a_best_checkpoint(tmp_path: Path, config: Any, best: bool) -> None:
    run = trained(tmp_path / "run", config)
    assert learns(run.teams["team"]) == best
    assert (run.checkpoints.best("team") is not None) == best


def test_who_needs_the_replay() -> None:
    assert needs_replay(HASACConfig()) and needs_replay(LookingConfig())
    assert not needs_replay(MAPPOConfig()) and not needs_replay(RandomConfig())


@dataclasses.dataclass
class OlderConfig(RandomConfig):
    """As users of the first release wrote it."""

    replays: ClassVar[bool] = True


def test_the_older_word_is_read_with_a_warning() -> None:
    teams = {"team": Team(["all"], OlderConfig())}
    with pytest.warns(FutureWarning, match="'replays' of OlderConfig is now 'needs_replay'"):
        assert build_replay(teams, Settings(**SHORT), CPU) is not None
