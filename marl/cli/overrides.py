"""The user's settings, rewritten as Hydra's overrides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from itertools import chain, count

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from marl.cli.quoting import PATH_KEYS, quote_paths
from marl.envs.providers import REGISTRIES, prefix_of
from marl.envs.task import Task
from marl.errors import UserError, unknown
from marl.training.teams import Team
from marl.utils.serialization import import_path

_identifiers: dict[str, str] = {}  # name that Hydra knows -> import path
GROUPS = ("task", "algorithm", "model", "critic_model")
# Settings with free keys, which Hydra would not add by itself.
FREE_KEYS = re.compile(r"task\.(kwargs|groups|graph)(\.|$)|teams\.\w+\.groups$")


def overrides(words: Sequence[str], multirun: bool = False) -> list[str]:
    """Returns the user's settings as Hydra's overrides.

    Whole numbers may be written ``1e6``, choices may be import paths, a team may choose its own
    algorithm and models, and paths may hold any character.

    Args:
        words: settings, ``KEY=VALUE``.
        multirun: whether commas separate the values of several runs.

    Raises:
        UserError: a word that is no setting, an unknown setting of a team, or an import path to
            something else.
    """
    words = [word for word in words if word not in ("experiment=null", "experiment=")]
    return [_rewrite(full, multirun) for word in words for full in _expanded(word)]


def _expanded(word: str) -> list[str]:
    """Returns ``teams.X.frozen=RUN`` and ``start_from=RUN`` in full, and any other word as it
    is."""
    if word.startswith("start_from="):
        run = word.removeprefix("start_from=")
        return [f"start_from.run={'' if run == 'null' else run}"]
    if not (frozen := re.fullmatch(r"(teams\.\w+)\.frozen=(.*)", word, re.DOTALL)):
        return [word]
    team, run = frozen.groups()
    return [f"{team}.algorithm=frozen", f"{team}.algorithm.checkpoint={run}"]


def _rewrite(word: str, multirun: bool) -> str:
    key, equals, value = word.partition("=")
    if word.startswith(("-", "~")):
        return word
    if not equals or not key:
        raise UserError(f"{word!r} is not a setting; expected KEY=VALUE")
    name = key.lstrip("+")
    check_team_key(name)
    if re.match(r"task\.wrappers\.\D", name):
        raise UserError(f"task.wrappers is a list; write task.wrappers=[{{{name[14:]}: {value}}}]")
    if name == "curriculum":
        if not multirun:  # where several may stand side by side
            check_curriculum(value)
        return f"{key}={value}"
    if PATH_KEYS.fullmatch(name):
        return f"{key}={quote_paths(name, value, multirun)}"
    value = ",".join(whole_number(part) for part in value.split(","))
    if re.fullmatch(r"teams\.\w+\.(algorithm|model|critic_model)", name):
        kind = name.rpartition(".")[2].removeprefix("critic_")
        if value in ("null", ""):
            raise UserError(f"{name} names no {kind}; leave it out for the run's own")
        return f"+{kind}@{name}={_register_choice(kind, value)}"
    if name in ("task", "algorithm", "model") and value in ("null", ""):
        raise UserError(f"{word!r} chooses no {name}; name one of 'marl list {name}s'")
    if name == "critic_model" and value == "null":
        raise UserError("critic_model=null is the default; leave it out")
    if name == "critic_model":
        return f"+model@critic_model={_register_choice('model', value)}"
    if FREE_KEYS.match(name):
        return f"++{name}={value}"
    if name in GROUPS:
        return f"{key}={','.join(_register_choice(name, part) for part in value.split(','))}"
    return f"{key}={value}"


def check_curriculum(value: str) -> None:
    """Raises UserError for a curriculum that is no list of mappings, such as one without quotes, of
    which a shell has taken the braces."""
    try:
        stages = OverridesParser.create().parse_override(f"curriculum={value}").value()
    except HydraException:
        stages = None
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise UserError(
            f"curriculum={value} is no list of stages; put it in quotes, as in "
            "'curriculum=[{until: 200_000, task.kwargs.N: 3}, {task.kwargs.N: 5}]'"
        )


def check_team_key(key: str) -> None:
    """Raises UserError for ``teams.X.Y`` where Y is not a field of ``Team``."""
    known = [f.name for f in fields(Team)]
    if re.fullmatch(r"teams\.\w+", key):
        raise UserError(f"{key} is no setting by itself; set {key}.algorithm=NAME, for instance")
    if (parts := key.split("."))[0] == "teams" and len(parts) > 2 and parts[2] not in known:
        raise unknown("setting", key, [".".join([*parts[:2], name]) for name in known])


def whole_number(value: str) -> str:
    """Returns ``1e6`` and ``8.0`` as ``1000000`` and ``8``, which an integer setting accepts, and
    others as they are; digits alone too, which a float would round."""
    number = re.fullmatch(r"-?\d+(\.\d+)?([eE]\+?\d+)?", value)
    if number and any(number.groups()) and float(value).is_integer():
        return str(int(float(value)))
    return value


def _register_choice(kind: str, value: str) -> str:
    """Returns the name under which Hydra knows ``value``, which may be an import path
    ``module:name``; this is registered first."""
    if kind == "task" and (":" in value or prefix_of(value) in REGISTRIES):
        name = _identifier(value)
        ConfigStore.instance().store(group="task", name=name, node=Task(name=value))
        return name
    if ":" not in value:
        return value
    name = _identifier(value)
    config = import_path(value)
    methods = ("build",) if kind == "model" else ("policy", "build")
    if not (is_dataclass(config) and all(hasattr(config, method) for method in methods)):
        expected = f"a dataclass with {' and '.join(methods)}"
        raise UserError(f"{value!r} is not for {kind}=; expected {expected}")
    ConfigStore.instance().store(group=kind, name=name, node=config)
    return name


def _identifier(path: str) -> str:
    """Returns a name for an import path that Hydra's grammar accepts, another for every path."""
    stem = re.sub(r"\W", "_", path, flags=re.ASCII)
    for name in chain([stem], (f"{stem}_{number}" for number in count(2))):
        if _identifiers.setdefault(name, path) == path:
            return name
    raise AssertionError("unreachable: there is always a free number")
