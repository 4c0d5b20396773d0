"""What settings on the command line compose to."""

from __future__ import annotations

from pathlib import Path

from marl.algorithms.scripted import FrozenConfig
from marl.cli import compose
from tests.helpers.cli import TOY


def test_numbers_as_people_write_them() -> None:
    run = compose.composed([*TOY, "total_frames=1e6", "num_envs=1.6e1", "algorithm.actor_lr=3e-4"])
    assert (run.total_frames, run.num_envs, run.algorithm.actor_lr) == (1_000_000, 16, 3e-4)


def test_import_paths_and_lists() -> None:
    words = [
        "task=tests.helpers.toy_envs:single",
        "algorithm=tests.helpers.lazy_algorithm:LazyConfig",
        "algorithm.naps=3",
    ]
    run = compose.composed([*words, "model.hidden=[3,4]", "task.kwargs.end=0.5"])
    assert run.task.name == "tests.helpers.toy_envs:single" and run.task.kwargs == {"end": 0.5}
    assert type(run.algorithm).__name__ == "LazyConfig" and run.algorithm.naps == 3
    assert run.model.hidden == [3, 4]


def test_a_tasks_arguments_at_once() -> None:
    run = compose.composed(["task=tests.helpers.toy_envs:single", "task.kwargs={end: 0.5}"])
    assert run.task.kwargs == {"end": 0.5}


def test_models_of_policies_and_critics() -> None:
    run = compose.composed([*TOY, "model=gru", "critic_model=mlp"])
    assert run.model.gru == 64 and run.model.layer_norm and run.critic_model.gru == 0
    assert compose.composed(TOY).critic_model is None


def test_teams_on_the_command_line() -> None:
    words = ["task=tests.helpers.toy_envs:rivals", "teams.right.algorithm=random"]
    run = compose.composed([*words, "teams.left.algorithm=ippo", "teams.left.algorithm.gamma=0.5"])
    assert type(run.teams["right"].algorithm).__name__ == "RandomConfig"
    assert run.teams["left"].algorithm.gamma == 0.5
    run = compose.composed(
        ["task=tests.helpers.toy_envs:rivals", "teams.right.frozen=runs/earlier"]
    )
    assert run.teams["right"].algorithm == FrozenConfig(str(Path("runs/earlier").absolute()))
    words = [
        "task=tests.helpers.toy_envs:rivals",
        "teams.all.groups=[left,right]",
        "teams.all.model=gru",
    ]
    run = compose.composed(words)
    assert run.teams["all"].groups == ["left", "right"] and run.teams["all"].model.gru == 64


def test_a_teams_groups_alone_on_the_command_line() -> None:
    run = compose.composed(["task=tests.helpers.toy_envs:rivals", "teams.all.groups=[left,right]"])
    assert run.teams["all"].groups == ["left", "right"]


def test_experiments_change_the_defaults() -> None:
    assert compose.composed(["experiment=default"]).task.name == "vmas/navigation"


def test_an_entry_point_is_a_choice(monkeypatch) -> None:
    """As another package's pyproject would register them."""
    from importlib.metadata import EntryPoint, EntryPoints

    points = EntryPoints([
        EntryPoint("theirs", "tests.helpers.lazy_algorithm:LazyConfig", "marl.algorithms"),
        EntryPoint("their_game", "tests.helpers.toy_envs:single", "marl.tasks"),
    ])  # fmt: skip
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **by: points.select(**by))
    run = compose.composed(["task=their_game", "algorithm=theirs"])
    assert type(run.algorithm).__name__ == "LazyConfig"
    assert run.task(2, "cpu").num_envs == 2


def test_agents_side_by_side_have_directories_of_their_own(monkeypatch) -> None:
    """They start in the same second, on the same task, with the same seed."""
    run = compose.composed(TOY)
    plain = compose.default_directory(run).name
    monkeypatch.setenv("WANDB_RUN_ID", "x1")
    assert not compose.default_directory(run).name.endswith("x1")
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    assert compose.default_directory(run).name.endswith("-x1") and not plain.endswith("-x1")
