"""The examples of the documentation run as they stand, by the command in their first lines."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import hydra
import pytest
import torch
from hydra import initialize_config_module
from pettingzoo.test import api_test

from marl import Task, check_env
from marl.benchmark import suite
from marl.cli import compose
from marl.cli.overrides import overrides
from marl.launch import sweep
from marl.training.curriculum import parse
from marl.utils.jsonl import read_jsonl
from tests.helpers.processes import cli

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = DOCS / "examples"
SHORT = ["total_frames=80", "num_envs=4", "steps=10", "evaluation_episodes=2", "video=false"]
MODULES = sorted(path.name for path in EXAMPLES.glob("my_*.py"))
SLOW = ("my_pure.py", "my_scenario.py", "my_wrappers.py")  # whose contracts other tests hold


def words_of(module: Path) -> list[str]:
    """The settings of the command in an example's first lines."""
    comment = re.match(r"(# .*\n)+", module.read_text())
    assert comment, f"{module.name} begins with the command that runs it"
    text = re.sub(r"\\\n# +", "", comment[0]).removeprefix("# ")
    assert text.startswith("marl train "), text
    return shlex.split(text.replace("docs/examples/", f"{EXAMPLES}/"))[2:]


def test_every_kind_of_extension_has_an_example() -> None:
    assert [
        f"my_{kind}.py"
        for kind in (
            "algorithms", "auxiliaries", "models", "opponents", "parallel", "pure", "scenario",
            "tasks", "turns", "wrappers",
        )
    ] == MODULES  # fmt: skip


@pytest.mark.parametrize(
    "module", [pytest.param(m, marks=[pytest.mark.slow] * (m in SLOW)) for m in MODULES]
)
def test_the_examples_train(tmp_path: Path, module: str) -> None:
    """With the command of the example's first lines, on a small task where it names none."""
    words = words_of(EXAMPLES / module)
    named = any(word.startswith("task=") for word in words)
    task = [] if named else ["task=tests.helpers.toy_envs:continuous"]
    result = cli(tmp_path, "train", *words, *task, *SHORT, "directory=run")
    assert result.code == 0, result
    assert (tmp_path / "run" / "curve.png").exists()


def test_the_parallel_environment_keeps_the_contract() -> None:
    env = Task(f"{EXAMPLES}/my_parallel.py:corridor", kwargs={"length": 3})(4, torch.device("cpu"))
    check_env(env)
    assert env.render().shape == (32, 96, 3)


def test_the_turn_based_environment_keeps_pettingzoos_rules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    from my_turns import Nim  # type: ignore[import-not-found]

    api_test(Nim(), num_cycles=50)
    check_env(Task(f"{EXAMPLES}/my_turns.py:Nim", kwargs={"heap": 5})(4, torch.device("cpu")))


def test_the_example_of_a_wrapper_keeps_the_contract() -> None:
    path = f"{EXAMPLES}/my_wrappers.py"
    wrappers = [{"wrapper": f"{path}:Sticky", "probability": 0.5}, {"metric": f"{path}:best"}]
    wrappers += [{"reward_potential": f"{path}:calm"}, {"reward_function": f"{path}:punctual"}]
    task = Task("mpe/simple_spread", wrappers=wrappers)
    env, other = task(3, torch.device("cpu")), task(3, torch.device("cpu"))
    check_env(env)
    other.load_state_dict(env.state_dict() or {})
    action = {"agent": torch.ones(3, 3, dtype=torch.int64)}
    assert torch.equal(env.step(action).reward["agent"], other.step(action).reward["agent"])


ROCK = """
import torch

def rock(group, observation):
    return torch.zeros(observation.obs.shape[:2], dtype=torch.int64)
"""


def test_the_example_of_rivals_learns(tmp_path: Path) -> None:
    """With its settings each is a team, and finds what beats a rock in every round; without them
    the run warns of one team that cannot learn, and gives such settings."""
    words = words_of(EXAMPLES / "my_tasks.py")
    parting = [word for word in words if "groups=" in word]
    one = [word for word in words if word not in parting]
    result = cli(tmp_path, "train", *one, *SHORT, "directory=one")
    assert "marl: warning: team 'team'" in result.err
    assert "'task.groups={player_0:[player_0],player_1:[player_1]}'" in result.err

    (tmp_path / "rocks.py").write_text(ROCK)
    rock = ["teams.right.algorithm=scripted", "teams.right.algorithm.function=rocks:rock"]
    more = ["total_frames=8000", "num_envs=20", "steps=20", "evaluation_interval=0"]
    result = cli(tmp_path, "train", *words, *rock, *SHORT, *more, "directory=two")
    assert result.code == 0 and "warning" not in result.err, result
    assert "team     left: 1 agent (player_0), mappo" in result.out
    returns = read_jsonl(tmp_path / "two" / "evaluations.jsonl")[-1]["returns"]
    assert min(returns["left"]) > 15 and max(returns["right"]) < -15  # of 20 rounds


def test_the_example_suite_is_one() -> None:
    """Two tasks and two algorithms but one pair, and every run composes."""
    small = suite.read(EXAMPLES / "my_suite.yaml")
    assert len(small.cells()) == 3 * 5
    runs = [compose.composed(small.words(cell)) for cell in small.cells() if cell.seed == 0]
    assert {run.task.name for run in runs} == {"mpe/simple_spread", "vmas/balance"}
    assert [run.algorithm.entropy for run in runs].count(0.0) == 1


def test_the_example_sweep_is_one() -> None:
    """Six points of a grid, each of which composes and logs the metric."""
    grid = sweep.load(EXAMPLES / "my_sweep.yaml")
    runs = [compose.composed(grid.settings(point)) for point in grid.points()]
    sweep.check_metric(grid.metric, ["team"])
    assert len({(run.algorithm.actor_lr, run.algorithm.entropy) for run in runs}) == 6
    assert {run.task.name for run in runs} == {"mpe/simple_spread"}


def test_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "total_frames=200, evaluation_episodes=2, steps=10, progress=False, num_envs=4"
    code = (EXAMPLES / "notebook.py").read_text()
    block = re.sub(r"total_frames=200_000, num_envs=60", small, code)
    assert small in block
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(block, scope)
    assert len(scope["returns"]["team"]) == 2
    assert f"200 frames, returns {scope['returns']['team']}" in capsys.readouterr().out
    assert (tmp_path / "runs/notebook/video.gif").exists()


@pytest.mark.slow
def test_the_example_of_comparing_runs(tmp_path: Path) -> None:
    """Its commands in order, with short runs of two seeds."""
    text = (DOCS / "runs.md").read_text().split("## Listing and comparing")[1]
    block = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert block
    train, *others = (shlex.split(x, comments=True)[1:] for x in block[1].splitlines())
    small = ["algorithm=ippo", "seed=0,1", "absolute_episodes=2", "evaluation_interval=40"]
    kept = [word for word in train if word.partition("=")[0] not in ("algorithm", "seed")]
    results = [cli(tmp_path, *kept, *SHORT, *small), *(cli(tmp_path, *x) for x in others)]
    assert [result.code for result in results] == [0] * 5, results
    assert results[1].out.count("finished") == results[2].out.count("finished") == 2
    assert "ippo  2 (preliminary)" in results[3].out
    assert (tmp_path / "comparison/index.html").exists()
    assert (tmp_path / "results/mine/games_climbing/ippo/seed_1/SHA256SUMS").exists()


def test_training_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = "total_frames=40, num_envs=2, steps=10, evaluation_episodes=2, progress=False"
    code = (EXAMPLES / "train_on.py").read_text().replace("total_frames=100_000", small)
    assert code.count(small) == 2
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert "networks.agent.body.0.weight  [64, 18]    [64, 24]" in capsys.readouterr().out


def test_the_launcher_of_slurm_takes_the_examples_settings() -> None:
    lines = (DOCS / "distributed.md").read_text().replace("\\\n", "").splitlines()
    (line,) = [line for line in lines if "marl train -m hydra/launcher" in line]
    words = [word for word in line.split() if word.startswith("hydra")]
    compose.register()
    with initialize_config_module("marl.configs", version_base="1.3"):
        config = hydra.compose("train", overrides(words), return_hydra_config=True)
    launcher = config.hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.partition, launcher.timeout_min, launcher.gpus_per_node) == ("gpu", 600, 1)


def test_the_curriculum_is_one() -> None:
    """The command of the page on training on composes, and each of its stages fits the first."""
    text = (DOCS / "training_on.md").read_text().split("## Curriculum")[1].replace("\\\n", "")
    block = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert block
    run = compose.composed(shlex.split(block[1])[2:])
    assert [stage.end for stage in parse(run.curriculum)] == [
        "200,000 frames", "success of at least 0.8", "the end of the run"
    ]  # fmt: skip
