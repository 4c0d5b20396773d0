"""The README's code runs as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import hydra
import pytest
from hydra import initialize_config_module

from marl.benchmark import suite
from marl.cli import compose
from marl.cli.overrides import overrides
from marl.utils.jsonl import read_jsonl
from tests.helpers.processes import cli

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHORT = ["total_frames=80", "num_envs=4", "steps=10", "evaluation_episodes=2", "video=false"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The example modules, under the names that their first lines give."""
    for block in BLOCKS:
        if name := re.match(r"# (my_\w+\.py)", block):
            (tmp_path / name[1]).write_text(block)
    return tmp_path


def test_the_launcher_of_slurm_takes_the_examples_settings() -> None:
    lines = README.replace("\\\n", "").splitlines()
    (line,) = [line for line in lines if "marl train -m hydra/launcher" in line]
    words = [word for word in line.split() if word.startswith("hydra")]
    compose.register()
    with initialize_config_module("marl.configs", version_base="1.3"):
        config = hydra.compose("train", overrides(words), return_hydra_config=True)
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.partition, launcher.timeout_min, launcher.gpus_per_node) == ("gpu", 600, 1)


def words_of(module: Path) -> list[str]:
    """The settings of the command in an example's first lines."""
    first = module.read_text().replace("\\\n#", "").splitlines()[0]
    return shlex.split(first.split("marl train ", 1)[1])


@pytest.mark.parametrize(
    "module", ["my_tasks.py", "my_algorithms.py", "my_opponents.py", "my_models.py"]
)
def test_the_examples_train(folder: Path, module: str) -> None:
    """With the command of the example's first lines, on a small task where it names none."""
    words = words_of(folder / module)
    task = (
        []
        if any(word.startswith("task=") for word in words)
        else ["task=tests.helpers.toy_envs:continuous"]
    )
    result = cli(folder, "train", *words, *task, *SHORT, "directory=run")
    assert result.code == 0, result
    assert (folder / "run" / "curve.png").exists()


ROCK = """
import torch

def rock(group, seen):
    return torch.zeros(seen.obs.shape[:2], dtype=torch.int64)
"""


def test_the_example_of_rivals_learns(folder: Path) -> None:
    """With its settings each is a team, and finds what beats a rock in every round; without them
    the run warns of one team that cannot learn, and gives such settings."""
    words = words_of(folder / "my_tasks.py")
    parting = [word for word in words if "groups=" in word]
    one = [word for word in words if word not in parting]
    result = cli(folder, "train", *one, *SHORT, "directory=one")
    assert "marl: warning: team 'team' has nothing to learn" in result.err
    assert "'task.groups={player_0:[player_0],player_1:[player_1]}'" in result.err

    (folder / "rocks.py").write_text(ROCK)
    rock = ["teams.right.algorithm=scripted", "teams.right.algorithm.function=rocks:rock"]
    more = ["total_frames=8000", "num_envs=20", "steps=20", "evaluation_interval=0"]
    result = cli(folder, "train", *words, *rock, *SHORT, *more, "directory=two")
    assert result.code == 0 and "warning" not in result.err, result
    assert "team     left: 1 agent (player_0), mappo" in result.out
    returns = read_jsonl(folder / "two" / "evaluations.jsonl")[-1]["returns"]
    assert min(returns["left"]) > 15 and max(returns["right"]) < -15  # of 20 rounds


def test_the_example_suite_is_one(tmp_path: Path) -> None:
    """Two tasks and two algorithms but one pair, and every run composes."""
    (block,) = re.findall(r"```yaml\n(# my_suite.yaml.*?)```", README, re.DOTALL)
    path = tmp_path / "my_suite.yaml"
    path.write_text(block)
    small = suite.read(path)
    assert len(small.cells()) == 3 * 5
    runs = [compose.composed(small.words(cell)) for cell in small.cells() if cell.seed == 0]
    assert {run.task.name for run in runs} == {"mpe/simple_spread", "vmas/balance"}
    assert [run.algorithm.entropy for run in runs].count(0.0) == 1


def test_the_notebook_runs(tmp_path: Path, monkeypatch, capsys) -> None:
    (block,) = [block for block in BLOCKS if "Experiment(" in block]
    small = "total_frames=200, evaluation_episodes=2, steps=10, progress=False, num_envs=4"
    block = re.sub(r"total_frames=200_000, num_envs=60", small, block)
    assert small in block
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(block, scope)
    assert len(scope["returns"]["team"]) == 2
    assert f"200 frames, returns {scope['returns']['team']}" in capsys.readouterr().out
    assert (tmp_path / "runs/notebook/video.gif").exists()
