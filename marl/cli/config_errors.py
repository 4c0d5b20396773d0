"""Hydra's and OmegaConf's errors in one sentence, with the nearest valid choice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from marl.cli.quoting import quoted
from marl.envs.task import Task, task_names
from marl.errors import UserError, unknown

SUBMITIT = ("submitit_slurm", "submitit_local")  # launchers of the extra 'slurm'
# Configurations that exist only where the command line chooses one.
OPTIONAL = re.compile(r"(critic_model|teams\.\w+\.(algorithm|model|critic_model))\.")
# What Hydra says of a file, such as experiment/NAME, that does not fit the other choices.
FILE = re.compile(r"In '([^']+)': \w+ raised while composing config:\n(.*?)(?:\n|$)")


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turns Hydra's and OmegaConf's errors within the block into UserErrors."""
    try:
        yield
    except MissingConfigException as error:
        raise missing_choice(error) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_sentence(error)) from None


@contextmanager
def full_keys(words: Sequence[str]) -> Iterator[None]:
    """Writes the key at the beginning of a UserError within the block as the user did.

    ``actor_lr=-1.0 is out of range`` becomes ``algorithm.actor_lr=-1.0 …``.

    Args:
        words: the user's settings, ``KEY=VALUE``.
    """
    try:
        yield
    except UserError as error:
        name = re.match(r"\w+(?==)", str(error))
        keys = {word.partition("=")[0].lstrip("+") for word in words}
        full = [key for key in keys if name and key.rpartition(".")[2] == name[0]]
        if type(error) is not UserError or len(full) != 1:
            raise
        raise UserError(full[0] + str(error).removeprefix(name[0] if name else "")) from None


def missing_choice(error: MissingConfigException) -> UserError:
    """Returns the error for a choice, such as ``task=NAME``, that does not exist."""
    path, known = str(error.missing_cfg_file), error.options or []
    if path.startswith("task/"):
        return _missing_task(path.removeprefix("task/"))
    group, _, name = path.rpartition("/")
    if name in SUBMITIT and not set(SUBMITIT) & set(known):
        return UserError(
            f"{group}={name} requires an extra; install it: pip install 'marl-groups[slurm]'"
        )
    return unknown(group or "configuration", name, known)


def _missing_task(name: str) -> UserError:
    """Returns the error for an unknown task; a file of that name may be meant."""
    places = [Path(place) for place in (name, name.removeprefix("vmas/"))]
    files = [p.with_suffix(".py") for p in places if p.suffix in ("", ".py")]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        return unknown("task", name, task_names())
    path = file if file.is_absolute() else f"./{file}"
    kind, word = ("scenario", "class") if name[:5] == "vmas/" else ("environment", "factory")
    return UserError(
        f"unknown task {name!r}; for the {kind} of the file {file}, name its {word}: "
        f"task={path}:{word.upper()}"
    )


def unknown_setting(name: str, known: Iterable[str]) -> UserError:
    """Returns the error for a top-level setting that does not exist. An option of an algorithm, a
    model or the task may be meant, such as ``algorithm.gamma``.

    Args:
        name: the setting.
        known: the top-level settings.
    """
    repo = ConfigStore.instance().repo
    nested = {
        f"{group}.{option}"
        for group in ("algorithm", "model")
        for choice in repo[group].values()
        for option in choice.node
    }
    nested |= {f"task.{f.name}" for f in fields(Task)}
    return unknown("setting", name, [*known, *nested])


def _sentence(error: Exception) -> str:
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if file := FILE.match(str(error)):
        return _of_file(file[1].replace("/", "=", 1), file[2], str(error))
    cause = error.__cause__ or error
    key = getattr(cause, "full_key", None) or getattr(cause, "key", None)
    owner = getattr(cause, "object_type", None)
    text = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    if several := re.fullmatch(r"Ambiguous value for argument '(.*?)=(.*)'", text):
        key, values = several.groups()
        return (
            f"{key}={values} holds several values; add -m to train a run with each, or write a "
            f"list as {key}=[{values}]"
        )
    if "not in" in text and key is not None:
        return _unknown_key(str(key), owner)
    if key and (words := _expected(text)):
        return f"{key}: {words}"
    if key:
        return f"{key}: {text[0].lower()}{text[1:]}"
    return str(error).splitlines()[0]


def _of_file(choice: str, reason: str, text: str) -> str:
    """Says what a chosen file, such as ``experiment=NAME``, sets that nothing reads, or why it
    cannot be read."""
    key = re.search(r"full_key: (\S+)", text)
    owner = re.fullmatch(r"Key '.*' not in '(\w+?)(?:Config)?'", reason)
    if key is None or owner is None:
        return f"{choice}: {key[1] + ': ' if key else ''}{reason}"
    what = f"another {prefix}" if (prefix := key[1].rpartition(".")[0]) else "a setting that exists"
    group = choice.partition("=")[0]
    return (
        f"{choice} sets {key[1]}, which {owner[1]} does not have; choose {what}, or another {group}"
    )


# What OmegaConf says of a value of a wrong type -> what is expected.
EXPECTED = {
    r"(Value '.*' of type '\w+') could not be converted to Integer": "a whole number",
    r"(Value '.*' of type '\w+') could not be converted to Float": "a number",
    r"(Value '.*') is not a valid bool.*": "true or false",
    r"Invalid value assigned: (\w+) is not a ListConfig, list or tuple\.?": (
        "a list, such as [64,64]"
    ),
    r"cannot merge (DictConfig) with ListConfig": "a list, such as [{reward_scale: 0.1}]",
}


def _expected(text: str) -> str:
    """Returns what was expected and what came, for a value of a wrong type; else empty."""
    for pattern, words in EXPECTED.items():
        if match := re.fullmatch(pattern, text, re.DOTALL):
            value = re.sub(r" of type '\w+'$", "", match[1]).removeprefix("Value ")
            if value == "str":  # of a list of texts, perhaps
                words = "a list in brackets, such as [A,B]"
            value = value.replace("DictConfig", "a mapping")
            return f"expected {words}, not {value}"
    return ""


def _unknown_key(key: str, owner: Any) -> str:
    prefix = key.rpartition(".")[0]
    if re.fullmatch(r"teams\.\w+", key):
        return f"{key} has nothing to change yet; choose its algorithm first: {key}.algorithm=NAME"
    if OPTIONAL.match(key) and not is_dataclass(owner):
        return f"{key} has nothing to change, for no {prefix} is chosen; add {prefix}=NAME"
    names = [f.name for f in fields(owner)] if is_dataclass(owner) else []
    if not prefix:
        return str(unknown_setting(key, names))
    return str(unknown("setting", key, [f"{prefix}.{name}" for name in names]))


def _unreadable(error: OverrideParseException) -> str:
    """Says which setting Hydra's grammar does not accept, and how it is quoted."""
    key, _, value = error.override.partition("=")
    reason = str(error).splitlines()[0]
    if (better := quoted(value)) != value and _parses(f"{key}={better}"):
        return f'cannot read {error.override!r}; put the value in quotes: "{key}={better}"'
    return f"cannot read {error.override!r}: {reason}"


def _parses(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True
