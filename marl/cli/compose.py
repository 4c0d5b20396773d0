"""From command-line settings to an Experiment. Hydra composes the settings and checks their types;
this module registers the choices."""

from __future__ import annotations

import importlib.metadata
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from marl.algorithms.registry import ALGORITHMS
from marl.cli.config_errors import full_keys, one_sentence, unknown_setting
from marl.cli.overrides import check_team_key, overrides, whole_number
from marl.envs.task import Task, task_names
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.networks.informarl import InforMARL
from marl.networks.perceptron import Perceptron
from marl.training.teams import Team
from marl.utils.user_files import names_file
from marl.utils.validation import check_range

MODELS = {"mlp": Perceptron, "informarl": InforMARL}


@dataclass
class RunConfig(Settings):
    """A whole run as the command line describes it."""

    #: The environment; a name of ``marl list tasks`` or an import path.
    task: Any = None
    #: The algorithm of every team that has none of its own; a name of ``marl list algorithms`` or
    #: an import path.
    algorithm: Any = None
    #: Network of the policies, and of the critics unless ``critic_model`` is chosen; a name of
    #: ``marl list models`` or an import path.
    model: Any = None
    #: Network of the critics; None for the policies' ``model``.
    critic_model: Any = None
    #: Settings of single teams, by the team's name: ``teams.NAME.algorithm``, ``.model``,
    #: ``.critic_model``, ``.groups``, or ``.frozen=RUN``.
    teams: dict[str, Any] = field(default_factory=dict)
    #: Where the run's files go; empty for ``runs/<task>-<algorithm>-seed<seed>-<time>``.
    directory: str = ""
    #: Seeds that one process trains at once, ``seed`` and those after it, each in a run directory
    #: of its own below ``directory``; for mappo and ippo on native tasks. Usual 1, or 4 to 16 on a
    #: GPU.
    stacked_seeds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, stacked_seeds=(1, 1024))
        self.teams = {name: _team(name, team) for name, team in self.teams.items()}

    def settings(self) -> Settings:
        """Returns the part that the Experiment calls its settings."""
        return Settings(**{f.name: getattr(self, f.name) for f in fields(Settings)})


def _team(name: str, settings: Any) -> Team:
    """Returns the team that the settings under ``teams.<name>`` describe."""
    for key in settings:
        check_team_key(f"teams.{name}.{key}")
    return Team(**settings)


def register() -> None:
    """Registers every choice with Hydra: this package's, and those of other packages' entry
    points."""
    _store("run_schema", RunConfig)
    for name in task_names():
        group, _, leaf = f"task/{name}".rpartition("/")
        _store(leaf, Task(name=name), group)
    for kind in ("algorithm", "model"):
        for name, config in choices(kind).items():
            _store(name, config, kind)


def _store(name: str, node: Any, group: str | None = None) -> None:
    """Registers one choice, unless it is there: Hydra takes a millisecond for each."""
    store = ConfigStore.instance()
    place = store.repo
    for part in group.split("/") if group else ():
        place = place.get(part, {})
    registered = place.get(f"{name}.yaml")
    kind = node if isinstance(node, type) else type(node)
    if registered is None or OmegaConf.get_type(registered.node) is not kind:
        store.store(group=group, name=name, node=node)


def choices(kind: str) -> dict[str, type]:
    """Returns the algorithms or models by name, those of other packages (entry points
    ``marl.algorithms`` and ``marl.models``) included.

    Args:
        kind: ``algorithm`` or ``model``.
    """
    builtin = ALGORITHMS if kind == "algorithm" else MODELS
    others = importlib.metadata.entry_points(group=f"marl.{kind}s")
    return {**builtin, **{entry.name: entry.load() for entry in others}}


def composed(words: Sequence[str]) -> RunConfig:
    """Returns the run that ``words`` (KEY=VALUE) describe.

    Raises:
        UserError: an unknown key or choice, a wrong type, or a value out of range.
    """
    register()
    GlobalHydra.instance().clear()
    with (
        full_keys(words),
        one_sentence(),
        initialize_config_module("marl.configs", version_base="1.3"),
    ):
        return typed(compose("train", overrides=overrides(words)))


def changed(task: Any, words: Sequence[str]) -> Any:
    """Returns ``task`` with the options that ``words`` change.

    Args:
        task: the task of a run.
        words: settings of it, ``task.KEY=VALUE``.

    Raises:
        UserError: a setting of something else, or one that the task does not have.
    """
    for word in words:
        if not re.match(r"task\.[\w.]+=", word):
            raise UserError(f"{word!r} is not a setting of the task; expected task.KEY=VALUE")
    if not words:
        return task
    if not is_dataclass(task):
        raise UserError(
            "the run's task was made by a Python function and has no settings to change; leave "
            f"out {words[0]!r}"
        )
    return merged(task, [word.removeprefix("task.") for word in words])


def merged(config: Any, words: Sequence[str]) -> Any:
    """Returns a copy of a dataclass with changed fields, checked as new ones are.

    Args:
        config: an instance of a dataclass.
        words: the changes, ``KEY=VALUE``.

    Raises:
        UserError: an unknown field, a wrong type, or a value out of range.
    """
    with one_sentence():
        changes = OmegaConf.from_dotlist([_with_whole_number(word) for word in words])
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(config), changes))


def _with_whole_number(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{key}={whole_number(value)}"


def typed(config: Any) -> RunConfig:
    """Returns Hydra's composed configuration as a RunConfig.

    Raises:
        UserError: a top-level setting that does not exist, or a value out of range.
    """
    known = [f.name for f in fields(RunConfig)]
    for name in config:
        if name not in known:
            raise unknown_setting(str(name), known)
    run = OmegaConf.to_object(config)
    assert isinstance(run, RunConfig)
    return run


def build(run: RunConfig, words: Sequence[str] = ()) -> Experiment:
    """Returns the experiment of a composed run, in a directory of its own.

    Args:
        run: the run.
        words: its settings that were chosen for it alone, and not for other runs too.

    Raises:
        UserError: the settings leave no task, algorithm or model, or what they describe cannot be
            built.
    """
    check_choices(run)
    return Experiment(
        run.task,
        run.algorithm,
        run.model,
        run.critic_model,
        run.teams,
        run.settings(),
        run.directory or default_directory(run),
        numbered=not run.directory,
        chosen=[word.partition("=")[0].lstrip("+") for word in words],
    )


def check_choices(run: RunConfig) -> None:
    """Raises UserError where a run has no task, algorithm or model."""
    for name in ("task", "algorithm", "model"):
        if getattr(run, name) is None and not (name == "algorithm" and run.teams):
            raise UserError(f"no {name} is chosen; add {name}=NAME ('marl list {name}s')")


def default_directory(run: RunConfig) -> Path:
    """Returns ``runs/<task>-<algorithm>-seed<seed>-<time>``, with both ends of stacked seeds.

    A multirun's job appends its number, and a run under ``wandb agent`` its id at W&B. Runs that
    begin in the same second are numbered later.
    """
    name = run.task.name  # for a task of a file, without the file's folders
    task = re.sub(r"\W+", "_", os.path.basename(name) if names_file(name) else name)
    kind = "mixed" if run.algorithm is None else type(run.algorithm).__name__
    algorithm = kind.removesuffix("Config").lower()
    last = run.seed + run.stacked_seeds - 1
    seed = f"seed{run.seed}" if last == run.seed else f"seeds{run.seed}-{last}"
    stem = f"{task}-{algorithm}-{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    if os.environ.get("WANDB_SWEEP_ID"):
        stem += f"-{os.environ.get('WANDB_RUN_ID', '')}"
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        stem += f"-job{HydraConfig.get().job.num}"
    return Path("runs") / stem
