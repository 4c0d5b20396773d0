"""``marl train --explain`` and the comments that it shows."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from marl.algorithms.registry import ALGORITHMS
from marl.algorithms.scripted import FrozenConfig, ScriptedConfig
from marl.cli.compose import MODELS
from marl.cli.explain import explain
from marl.envs.task import Task, task_names
from marl.errors import UserError
from marl.training.settings import Settings
from marl.training.teams import Team
from marl.utils.field_docs import field_docs, options


@dataclass
class Inner:
    width: int = 3  #: Units of the layer.


@dataclass
class Base:
    #: Learning rate of Adam,
    #: per step.
    lr: float = 0.1
    silent: int = 1  # no documentation
    inner: Inner = field(default_factory=Inner)


@dataclass
class Derived(Base):
    lr: float = 0.2
    #: Usual 1 to 3.
    silent: int = 2


def test_comments_are_read_with_those_of_base_classes() -> None:
    assert field_docs(Base) == {"lr": "Learning rate of Adam, per step.", "silent": "", "inner": ""}
    assert field_docs(Derived)["lr"] == "Learning rate of Adam, per step."
    assert field_docs(Derived)["silent"] == "Usual 1 to 3."


def test_options_go_into_nested_dataclasses() -> None:
    found = {option.key: option for option in options(Derived(), "algorithm.")}
    assert list(found) == ["algorithm.lr", "algorithm.silent", "algorithm.inner.width"]
    assert found["algorithm.inner.width"].doc == "Units of the layer."
    assert (found["algorithm.lr"].value, found["algorithm.lr"].type) == (0.2, "float")


@pytest.mark.parametrize(
    ("task", "line"),
    [
        ("navigation/target", "task.kwargs.num_obstacles=3   (int | Sequence[int])"),
        ("mpe/simple_spread", "task.kwargs.legacy=false   (bool)"),
        ("games/aloha", "    Probability of a new packet, for each agent and step."),
        ("vmas/football", "task.kwargs.pitch_length=3.0   (float)"),
        ("mpe2/simple_tag_v3", "task.kwargs.num_obstacles=2   (int)"),
        ("marl/templates/project/environment.py:meeting", "task.kwargs.agents=2   (int)"),
    ],
)
def test_explain_shows_an_environments_own_options(
    capsys: pytest.CaptureFixture[str], task: str, line: str
) -> None:
    explain([f"task={task}", "--explain", "task"])
    assert line in capsys.readouterr().out.splitlines()


def test_the_options_of_a_native_task_are_what_it_takes_and_documented() -> None:
    for name in task_names():
        if name.startswith(("mpe/", "navigation/", "games/", "foraging/")):
            task = Task(name)
            options = list(task.own_options())
            assert all(option.doc for option in options), name
            values = {option.key: option.value for option in options}
            Task(name, kwargs=values)(1, torch.device("cpu")).close()


def test_explain_shows_the_settings_as_they_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    explain(["algorithm=hasac", "algorithm.gamma=0.9", "--explain", "algorithm"])
    text = capsys.readouterr().out
    assert "algorithm.gamma=0.9   (float)" in text
    assert "num_envs" not in text


@pytest.mark.parametrize("section", ["run", "task", "model", "critic_model", "teams", "selfplay"])
def test_every_section_has_options(section: str, capsys: pytest.CaptureFixture[str]) -> None:
    explain(["--explain", section])
    keys = [line.split("=")[0] for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert keys
    prefix = {"run": ""}.get(section, section + ".")
    assert all(key.startswith(prefix) for key in keys)


def test_without_a_section_all_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    explain(["--explain", "task=mpe/simple_spread"])
    text = capsys.readouterr().out
    for start in ("total_frames=", "task.name=mpe/simple_spread", "algorithm.", "model.", "teams."):
        assert f"\n{start}" in f"\n{text}"


def test_an_unknown_section_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'algoritm'; did you mean 'algorithm'"):
        explain(["--explain", "algoritm"])
    with pytest.raises(UserError, match="leave out -m"):
        explain(["-m", "--explain"])


def test_every_option_of_the_package_is_documented() -> None:
    configs = [Settings(), Task("x"), Team(), *(model() for model in MODELS.values())]
    algorithms = [c() for name, c in ALGORITHMS.items() if name not in ("scripted", "frozen")]
    silent = [
        f"{type(config).__name__}.{option.key}"
        for config in (*configs, *algorithms, ScriptedConfig("a:b"), FrozenConfig("a"))
        for option in options(config)
        if not option.doc
    ]
    assert silent == []
