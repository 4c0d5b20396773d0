"""From command-line settings to an Experiment: Hydra composes and checks types, this registers the
choices."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from marl.algorithms.registry import ALGORITHMS
from marl.envs.task import Task, task_names
from marl.errors import UserError, unknown
from marl.experiment import Experiment, Settings
from marl.networks.informarl import InforMARL
from marl.networks.perceptron import Perceptron
from marl.training.teams import Team
from marl.utils.serialization import import_path
from marl.utils.user_files import names_file

MODELS = {"mlp": Perceptron, "informarl": InforMARL}
GROUPS = ("task", "algorithm", "model", "critic_model")
SUBMITIT = ("submitit_slurm", "submitit_local")  # launchers of the extra 'slurm'


@dataclass
class RunConfig(Settings):
    """A whole run as the command line knows it."""

    task: Any = None
    algorithm: Any = None
    model: Any = None  # of the policies, and of the critics unless critic_model is given
    critic_model: Any = None
    teams: dict[str, Any] = field(default_factory=dict)  # of Team, by name
    directory: str = ""  # empty: runs/<task>-<algorithm>-seed<seed>-<time>

    def __post_init__(self) -> None:
        super().__post_init__()
        self.teams = {name: _team(name, given) for name, given in self.teams.items()}

    def settings(self) -> Settings:
        return Settings(**{f.name: getattr(self, f.name) for f in fields(Settings)})


def _team(name: str, given: Any) -> Team:
    """A team from what the settings say of it."""
    for key in given:
        _check_team_key(f"teams.{name}.{key}")
    return Team(**given)


def register() -> None:
    """Tells Hydra of every choice: this package's, and those that other packages' entry points
    give."""
    store = ConfigStore.instance()
    store.store(name="run_schema", node=RunConfig)
    for name in task_names():
        _store_task(name)
    for name, config in choices("algorithm").items():
        store.store(group="algorithm", name=name, node=config)
    for name, config in choices("model").items():
        store.store(group="model", name=name, node=config)


def choices(kind: str) -> dict[str, type]:
    """The algorithms or models by name, other packages' (entry points ``marl.algorithms``)
    included."""
    own = ALGORITHMS if kind == "algorithm" else MODELS
    others = importlib.metadata.entry_points(group=f"marl.{kind}s")
    return {**own, **{entry.name: entry.load() for entry in others}}


def _store_task(name: str) -> None:
    group, _, leaf = f"task/{name}".rpartition("/")
    ConfigStore.instance().store(group=group, name=leaf, node=Task(name=name))


# ------------------------------------------------------------------------------ settings, rewritten


def overrides(words: Sequence[str]) -> list[str]:
    """The user's settings as Hydra writes them: whole numbers like 1e6, import paths, choices of a
    team."""
    return [_rewrite(full) for word in words for full in _expanded(word)]


def _expanded(word: str) -> list[str]:
    """``teams.X.frozen=RUN`` in full."""
    if not (frozen := re.fullmatch(r"(teams\.\w+)\.frozen=(.*)", word)):
        return [word]
    team, run = frozen.groups()
    return [f"{team}.algorithm=frozen", f"{team}.algorithm.checkpoint={run}"]


def _rewrite(word: str) -> str:
    key, equals, value = word.partition("=")
    if word.startswith(("-", "~")):
        return word
    if not equals or not key:
        raise UserError(f"{word!r} is not a setting; expected KEY=VALUE")
    bare = key.lstrip("+")
    _check_team_key(bare)
    value = ",".join(_whole(part) for part in value.split(","))
    if re.fullmatch(r"teams\.\w+\.(algorithm|model|critic_model)", bare):
        kind = bare.rpartition(".")[2].removeprefix("critic_")
        if value in ("null", ""):
            raise UserError(f"{bare} names no {kind}; leave it out for the run's own")
        return f"+{kind}@{bare}={_imported(kind, value)}"
    if bare == "critic_model":
        return f"+model@critic_model={_imported('model', value)}"
    if re.match(r"task\.(kwargs|groups|graph)(\.|$)|teams\.\w+\.groups$", bare):
        return f"++{bare}={value}"  # free keys, which Hydra would not add by itself
    if bare in GROUPS:
        return f"{key}={','.join(_imported(bare, part) for part in value.split(','))}"
    return f"{key}={value}"


def _check_team_key(key: str) -> None:
    """Raises UserError for a ``teams.X.Y`` whose Y is no field of a team."""
    known = [f.name for f in fields(Team)]
    if re.fullmatch(r"teams\.\w+", key):
        raise UserError(f"{key} is no setting by itself; set {key}.algorithm=NAME, for instance")
    if (parts := key.split("."))[0] == "teams" and len(parts) > 2 and parts[2] not in known:
        raise unknown("setting", key, [".".join([*parts[:2], name]) for name in known])


def _whole(value: str) -> str:
    """``1e6`` -> ``1000000``, which an integer setting takes."""
    if re.fullmatch(r"\d+(\.\d+)?[eE]\+?\d+", value) and float(value).is_integer():
        return str(int(float(value)))
    return value


def _imported(kind: str, value: str) -> str:
    """The name under which Hydra knows ``value``, which may be an import path ``module:name``."""
    if kind == "task" and (":" in value or value.startswith("pettingzoo/")):
        name = _plain(value)
        ConfigStore.instance().store(group="task", name=name, node=Task(name=value))
        return name
    if ":" not in value:
        return value
    name = _plain(value)
    config = import_path(value)
    wanted = ("build",) if kind == "model" else ("policy", "build")
    if not (is_dataclass(config) and all(hasattr(config, word) for word in wanted)):
        methods = " and ".join(wanted)
        raise UserError(f"{value!r} is not for {kind}=; expected a dataclass with {methods}")
    ConfigStore.instance().store(group=kind, name=name, node=config)
    return name


def _plain(value: str) -> str:
    """A name that Hydra reads as one, for an import path."""
    return re.sub(r"\W", "_", value, flags=re.ASCII)


def composed(words: Sequence[str]) -> RunConfig:
    """The run that ``words`` describe.

    Raises:
        UserError: an unknown key or choice, a wrong type, a value out of range.
    """
    register()
    GlobalHydra.instance().clear()
    with explained(words), initialize_config_module("marl.configs", version_base="1.3"):
        return typed(compose("train", overrides=overrides(words)))


def changed(task: Any, words: Sequence[str]) -> Any:
    """``task`` with what ``words`` (task.KEY=VALUE) set otherwise.

    Raises:
        UserError: a setting of something else, or one that the task does not know.
    """
    for word in words:
        if not re.match(r"task\.[\w.]+=", word):
            raise UserError(f"{word!r} sets nothing of the task; expected task.KEY=VALUE")
    if not words:
        return task
    if not is_dataclass(task):
        raise UserError("the task was made from Python by a function; it has no settings to change")
    return merged(task, [word.removeprefix("task.") for word in words])


def merged(config: Any, words: Sequence[str]) -> Any:
    """A dataclass with what ``words`` (KEY=VALUE) set otherwise, checked as new ones are."""
    with explained(words):
        given = OmegaConf.from_dotlist([_with_whole(word) for word in words])
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(config), given))


def _with_whole(word: str) -> str:
    key, _, value = word.partition("=")
    return f"{key}={_whole(value)}"


def typed(config: Any) -> RunConfig:
    for key in config:
        if key not in (known := [f.name for f in fields(RunConfig)]):
            raise unknown("setting", key, known)
    run = OmegaConf.to_object(config)
    assert isinstance(run, RunConfig)
    return run


# ---------------------------------------------------------------------------- errors, in a sentence


class explained:  # a context manager, used like a function
    """Turns Hydra's and OmegaConf's errors into one sentence with the nearest valid choice."""

    def __init__(self, words: Sequence[str]):
        self.words = words

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MissingConfigException):
            raise self._missing(error) from None
        if isinstance(error, HydraException | OmegaConfBaseException):
            raise UserError(self._sentence(error)) from None

    def _missing(self, error: MissingConfigException) -> UserError:
        whole, known = str(error.missing_cfg_file), error.options or []
        if whole.startswith("task/"):
            return unknown("task", whole.removeprefix("task/"), task_names())
        group, _, name = whole.rpartition("/")
        if name in SUBMITIT and not set(SUBMITIT) & set(known):
            return UserError(
                f"{group}={name} is an extra; install it: pip install 'marl-groups[slurm]'"
            )
        return unknown(group or "configuration", name, known)

    def _sentence(self, error: Exception) -> str:
        cause = error.__cause__ or error
        key = getattr(cause, "full_key", None) or getattr(cause, "key", None)
        owner = getattr(cause, "object_type", None)
        text = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        if "not in" in text and key is not None:
            return str(unknown("setting", key, _known(owner, str(key))))
        if key:
            return f"{key}: {text[0].lower()}{text[1:]}"
        return str(error).splitlines()[0]


def _known(owner: Any, key: str) -> Iterator[str]:
    prefix = key.rpartition(".")[0]
    if is_dataclass(owner):
        for known in fields(owner):
            yield f"{prefix}.{known.name}" if prefix else known.name


# --------------------------------------------------------------------------------------- experiment


def build(run: RunConfig) -> Experiment:
    """The experiment of a composed run, in a directory of its own.

    Raises:
        UserError: no task, algorithm or model is left of the settings.
    """
    for name in ("task", "algorithm", "model"):
        if getattr(run, name) is None and not (name == "algorithm" and run.teams):
            raise UserError(
                f"there is no {name}; choose one with {name}=NAME ('marl list {name}s')"
            )
    return Experiment(
        run.task,
        run.algorithm,
        run.model,
        run.critic_model,
        run.teams,
        run.settings(),
        run.directory or default_directory(run),
        numbered=not run.directory,
    )


def default_directory(run: RunConfig) -> Path:
    """``runs/<task>-<algorithm>-seed<seed>-<time>``; with its number where it is a multirun's job,
    and W&B's id under ``wandb agent``. Runs that begin in the same second are numbered."""
    import os
    import time

    name = run.task.name  # of a file no folders
    task = re.sub(r"\W+", "_", os.path.basename(name) if names_file(name) else name)
    chosen = "mixed" if run.algorithm is None else type(run.algorithm).__name__
    algorithm = chosen.removesuffix("Config").lower()
    stem = f"{task}-{algorithm}-seed{run.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    if os.environ.get("WANDB_SWEEP_ID"):
        stem += f"-{os.environ.get('WANDB_RUN_ID', '')}"
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        stem += f"-job{HydraConfig.get().job.num}"
    return Path("runs") / stem
