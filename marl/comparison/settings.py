"""Settings of runs by the keys of the command line, and those in which runs differ."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from marl.comparison.overview import Overview, class_name
from marl.tables.selection import FREE
from marl.utils.serialization import TYPE

Settings = Mapping[str, str]  # key, as on the command line -> value as text

# Settings that say where a run ran and what it displayed or kept: they change no result.
IRRELEVANT = {*FREE, "checkpoint_interval", "memory_gib"} - {"seed"}
# Keys whose mappings are free: a key that a run lacks has the environment's default.
FREE_KEYS = ("task.kwargs.", "task.groups.", "task.graph.")
DEFAULT = "default"
OF_ALGORITHM = re.compile(r"(teams\.\w+\.)?algorithm\.")
LENGTH = 40  # of a shown value


def settings_of(run: Overview) -> dict[str, str]:
    """Returns the settings of a run that can change its result, by their keys.

    Keys are those of ``marl train``. A setting in which all teams agree is named without them:
    ``algorithm.gamma``, and ``teams.NAME.algorithm.gamma`` otherwise. The names of task and
    algorithm, which are no differences within a task and an algorithm, are left out.
    """
    flat = dict(_flat("", run.config["settings"]))
    flat = {key: value for key, value in flat.items() if key not in IRRELEVANT}
    flat = {**_without_start(flat), "start_from": flat.get("start_from.run") or "none"}
    task = {key: value for key, value in (run.config["task"] or {}).items() if key != "name"}
    flat.update(_flat("task", task))
    flat.update(_of_teams(run.config["teams"]))
    flat["learning"] = str(run.learning)
    return flat


def _without_start(flat: Mapping[str, str]) -> dict[str, str]:
    """Returns settings without those of ``start_from`` that have no effect."""
    unread = {"start_from.run"}
    if not flat.get("start_from.run"):
        unread |= {"start_from.checkpoint", "start_from.optimizers"}
    return {key: value for key, value in flat.items() if key not in unread}


def _of_teams(teams: Mapping[str, Any]) -> dict[str, str]:
    by_team = {name: dict(_of_team(team)) for name, team in teams.items()}
    keys = dict.fromkeys(key for flat in by_team.values() for key in flat)
    result = {}
    for key in keys:
        values = {name: flat[key] for name, flat in by_team.items() if key in flat}
        if len(values) == len(teams) and len(set(values.values())) == 1:
            result[key] = next(iter(values.values()))
        else:
            result |= {f"teams.{name}.{key}": value for name, value in values.items()}
    return result


def _of_team(team: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _flat("algorithm", team["algorithm"])
    for part in ("model", "critic_model"):
        model = team.get(part)
        if model and not (part == "critic_model" and model == team.get("model")):
            yield part, class_name(model) if TYPE in model else "?"
            yield from _flat(part, model)


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yields dotted keys and values as the command line takes them, without the names of
    classes."""
    if isinstance(value, Mapping) and (value or TYPE in value):
        for key, inner in value.items():
            if key != TYPE:
                yield from _flat(f"{path}.{key}" if path else str(key), inner)
    elif not isinstance(value, Mapping):
        yield path, _word(value)


def _word(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return f"[{','.join(map(_word, value))}]"
    return json.dumps(value)


def differences(runs: Sequence[Overview], settings: Sequence[Settings]) -> list[dict[str, str]]:
    """Returns for each run its settings in which runs of the same task differ.

    Algorithms' settings are compared among runs of the same algorithm only. A setting that runs of
    an older version do not have yet is no difference.

    Args:
        runs: the runs.
        settings: of each run, from ``settings_of``.
    """
    result: list[dict[str, str]] = [{} for _ in runs]
    for of_algorithm in (False, True):
        scopes: dict[tuple[str, str], list[int]] = {}
        for i, run in enumerate(runs):
            scopes.setdefault((run.task, run.algorithm * of_algorithm), []).append(i)
        for members in scopes.values():
            for key in _differing([settings[i] for i in members], of_algorithm):
                for i in members:
                    if (value := _value(settings[i], key)) is not None:
                        result[i][key] = value
    return result


def _differing(settings: Sequence[Settings], of_algorithm: bool) -> Iterator[str]:
    """Yields the keys in which some of these settings differ."""
    keys = dict.fromkeys(key for flat in settings for key in flat)
    for key in keys:
        if bool(OF_ALGORITHM.match(key)) == of_algorithm:
            values = {_value(flat, key) for flat in settings}
            if len(values - {None}) > 1:
                yield key


def _value(settings: Settings, key: str) -> str | None:
    """Returns the value of a setting; None where it does not exist in these settings."""
    return settings.get(key, DEFAULT if key.startswith(FREE_KEYS) else None)


def within_algorithms(
    runs: Sequence[Overview], differing: Sequence[Mapping[str, str]]
) -> list[dict[str, str]]:
    """Returns those of the differing settings in which runs of one task and algorithm differ.

    Args:
        runs: the runs.
        differing: of each run, from ``differences``.
    """
    scopes: dict[tuple[str, str], list[int]] = {}
    for i, run in enumerate(runs):
        scopes.setdefault((run.task, run.algorithm), []).append(i)
    result: list[dict[str, str]] = [{} for _ in runs]
    for members in scopes.values():
        for key in dict.fromkeys(key for i in members for key in differing[i]):
            if len({differing[i].get(key) for i in members}) > 1:
                for i in (i for i in members if key in differing[i]):
                    result[i][key] = differing[i][key]
    return result


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Returns the last part of each key, or the whole key where another has the same last part."""
    keys = list(dict.fromkeys(keys))
    last = Counter(key.rpartition(".")[2] for key in keys)
    return {key: name if last[name := key.rpartition(".")[2]] == 1 else key for key in keys}


def described(differing: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Returns differing settings as ``gamma=0.9 seed=1``, by key, the seed last and long values
    cut.

    Args:
        differing: values by key.
        names: short names of the keys.
    """
    keys = sorted(differing, key=lambda key: (key == "seed", key))
    return " ".join(f"{names[key]}={_cut(differing[key])}" for key in keys)


def _cut(value: str) -> str:
    return value if len(value) <= LENGTH else value[: LENGTH - 1] + "…"
