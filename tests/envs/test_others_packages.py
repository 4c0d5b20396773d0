"""Environments of other people's packages: what they cannot do, and what they say themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from marl.envs.drawing import NO_RENDER
from marl.envs.pettingzoo.env import PettingZooEnv, make
from marl.envs.task import Task, task_names
from marl.errors import EnvironmentFault, UserError
from tests.helpers.awkward_envs import Drawing, ForPeople, LateVectors, Strict, Vectors
from tests.helpers.builders import CPU
from tests.helpers.processes import cli
from tests.helpers.tiny_env import Tiny

SHORT = ["total_frames=80", "num_envs=4", "steps=10", "evaluation_episodes=2"]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("factory", "words"),
    [(ForPeople, NO_RENDER), (Strict, NO_RENDER), (Drawing, "")],
)
def test_who_can_draw(factory: Any, words: str, workers: int) -> None:
    env = PettingZooEnv(factory, 2, workers=workers)
    assert env.cannot_draw() == words
    env.reset(0)
    env.close()


def test_a_run_says_first_that_there_will_be_no_video(tmp_path: Path) -> None:
    words = [f"task={ForPeople.__module__}:ForPeople", *SHORT]
    result = cli(tmp_path, "train", *words, "video=true", "directory=filmed")
    assert result.code == 0, result
    lines = [line.split()[0] for line in result.out.splitlines()]
    assert lines.index("video") < lines.index("return")
    assert f"video    none: {NO_RENDER}; set video=false" in result.out
    assert result.out.count("render()") == 1  # at the beginning only
    result = cli(tmp_path, "train", *words, "video=false", "directory=plain")
    assert result.code == 0 and "video" not in result.out, result
    result = cli(tmp_path, "evaluate", "plain", "--episodes", "2", "--video", "x.gif")
    assert result.code == 2 and f"--video: {NO_RENDER}; or leave out --video" in result.err


@pytest.mark.parametrize("workers", [0, 1])
def test_vectors_of_rewards_name_the_wrapper(workers: int) -> None:
    """Before anything is played; or where a probe does not get to, when they come."""
    words = r"'a_0' was paid the vector \[1.0, -1.0\].*LinearizeReward.*momaland"
    with pytest.raises(EnvironmentFault, match=words):
        PettingZooEnv(Vectors, 2, workers=workers)
    env = PettingZooEnv(LateVectors, 2, workers=workers)
    env.reset(0)
    action = {"a": torch.zeros(2, 2, dtype=torch.int64)}
    with pytest.raises(EnvironmentFault, match=words):
        for _ in range(60):
            env.step(action)
    env.close()


def no_roms() -> Tiny:
    raise OSError("rom pong is not installed.\nPlease install roms using AutoROM tool")


def no_package() -> Tiny:
    import no_such_simulator  # type: ignore[import-not-found]  # noqa: F401

    return Tiny()


def no_bullets() -> Tiny:
    from gymnasium.error import DependencyNotInstalled

    raise DependencyNotInstalled("Box2D is not installed")


def batched(num_envs: int, device: Any) -> Any:
    return no_roms()


def a_bug() -> Tiny:
    raise KeyError("speed")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_roms", "rom pong is not installed. Please install roms using AutoROM tool"),
        ("no_package", "No module named 'no_such_simulator'"),
        ("no_bullets", "Box2D is not installed"),
        ("batched", "rom pong is not installed. Please install"),
    ],
)
def test_a_packages_own_words(name: str, words: str) -> None:
    with pytest.raises(UserError, match=f"task '{__name__}:{name}' cannot be made: {words}"):
        Task(f"{__name__}:{name}")(2, CPU)


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError):
        Task(f"{__name__}:a_bug")(2, CPU)


def test_a_registered_environments_own_words() -> None:
    words = "task 'pettingzoo/classic/rps-v2' cannot be made: "
    with pytest.raises(UserError, match=words):
        make("pettingzoo/classic/rps-v2", 1, num_actions=4)  # an odd number is needed


TOML = """
[marl.tasks]
mine/duel = my_tasks:duel
mine/batched = tests.helpers.toy_envs:identity
"""


def test_entry_points_give_what_import_paths_give(tmp_path: Path, monkeypatch) -> None:
    """A PettingZoo environment, as in the README, or a batched one."""
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(TOML)
    code = "from pettingzoo.classic import rps_v2\n\ndef duel(max_cycles=10):\n"
    code += "    return rps_v2.parallel_env(max_cycles=max_cycles)\n"
    (tmp_path / "my_tasks.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert {"mine/duel", "mine/batched"} < set(task_names())
    for workers in (0, 1):
        env = Task("mine/duel", max_steps=3, workers=workers, kwargs={"max_cycles": 5})(2, CPU)
        assert [g.agents for g in env.groups.values()] == [("player_0", "player_1")]
        env.reset(0)
        env.close()
    assert Task("mine/batched")(3, CPU).num_envs == 3
