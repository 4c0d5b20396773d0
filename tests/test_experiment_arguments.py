"""Arguments of ``Experiment`` of another kind than they should be end in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from marl import Experiment, MAPPOConfig, Settings, Task, UserError

TASK = Task("games/climbing")


@dataclass
class Empty:
    """An algorithm's configuration whose ``build`` forgets to return."""

    def policy(self, context: Any) -> Any: ...

    def build(self, context: Any) -> Any: ...


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("games/climbing", MAPPOConfig()), "makes no environment; expected Task"),
        ((3, MAPPOConfig()), "task=3 makes no environment"),
        ((TASK, "mappo"), "algorithm='mappo' is no configuration; expected MAPPOConfig"),
        ((TASK, MAPPOConfig), "is no configuration; expected MAPPOConfig"),
        ((TASK, MAPPOConfig(), None, None, None, {}), "settings={} are no settings"),
        ((TASK, Empty()), "Empty.build returned None, which has no 'policy'"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: tuple[Any, ...], message: str) -> None:
    names = ("task", "algorithm", "model", "critic_model", "teams", "settings")
    given = dict(zip(names, arguments, strict=False))
    given.setdefault("settings", Settings(total_frames=20, num_envs=2, steps=10))
    with pytest.raises(UserError, match=message):
        Experiment(**given, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()
