"""What settings on the command line compose to."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from marl.algorithms.registry import ALGORITHMS
from marl.algorithms.scripted import FrozenConfig
from marl.cli import compose
from marl.cli.overrides import overrides
from marl.errors import UserError
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


def test_choices_are_registered_once_and_again_where_they_changed(monkeypatch) -> None:
    compose.register()
    stored = ConfigStore.instance().repo["algorithm"]
    before = dict(stored)
    compose.register()
    assert all(stored[name] is before[name] for name in before)
    with monkeypatch.context() as patch:
        patch.setitem(ALGORITHMS, "ippo", FrozenConfig)
        compose.register()
        assert OmegaConf.get_type(stored["ippo.yaml"].node) is FrozenConfig
    compose.register()
    assert OmegaConf.get_type(stored["ippo.yaml"].node) is ALGORITHMS["ippo"]


def test_paths_that_differ_in_a_sign_are_two_choices(tmp_path: Path) -> None:
    code = "from dataclasses import dataclass\nfrom marl import MAPPOConfig\n\n\n@dataclass\n"
    code += "class A(MAPPOConfig):\n    pass\n"
    for name in ("al-go", "al_go", "算法一", "算法二"):
        (tmp_path / f"{name}.py").write_text(code)
    for one, other in (("al-go", "al_go"), ("算法一", "算法二")):
        paths = [f"{tmp_path / name}.py:A" for name in (one, other)]
        first, second = overrides([f"algorithm={path}" for path in paths])
        assert first != second
        configs = [compose.composed([f"algorithm={path}"]).algorithm for path in paths]
        files = [Path(sys.modules[type(config).__module__].__file__ or "") for config in configs]
        assert [file.stem for file in files] == [one, other]


@pytest.mark.parametrize("group", ["task", "algorithm", "model"])
def test_null_chooses_nothing(group: str) -> None:
    with pytest.raises(UserError, match=f"'{group}=null' chooses no {group}; name one of"):
        overrides([f"{group}=null"])
    assert overrides(["experiment=null", "seed=1"]) == ["seed=1"]


def test_digits_stay_as_they_are() -> None:
    words = [
        "task.kwargs.kind=007",
        "task.kwargs.big=9007199254740993",
        "num_envs=1e3",
        "steps=8.0",
    ]
    values = [word.partition("=")[2] for word in overrides(words)]
    assert values == ["007", "9007199254740993", "1000", "8"]


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
