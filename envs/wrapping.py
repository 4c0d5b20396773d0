"""The list ``task.wrappers``: wrappers by name or import path, with their options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from marl.env import VectorEnv
from marl.envs.first_step import FirstStepCheck
from marl.envs.observation_stack import StackObservations
from marl.envs.reward_wrappers import (
    Metric,
    RewardClip,
    RewardFunction,
    RewardPotential,
    RewardScale,
)
from marl.envs.wrappers import OwnReward, RewardRecord
from marl.errors import UserError, unknown
from marl.utils.serialization import import_path
from marl.utils.user_files import absolute

#: The wrappers by name.
WRAPPERS: dict[str, Callable[..., VectorEnv]] = {
    "reward_scale": RewardScale,
    "reward_clip": RewardClip,
    "reward_function": RewardFunction,
    "reward_potential": RewardPotential,
    "stack_observations": StackObservations,
    "metric": Metric,
}
#: Those that change nothing but rewards.
OF_REWARDS = ("reward_scale", "reward_clip", "reward_function", "reward_potential")
#: The key of an entry that names its wrapper, beside its options.
KEY = "wrapper"


def wrap(
    env: VectorEnv, entries: Sequence[Any], task: str, num_envs: int, own_reward: bool = False
) -> VectorEnv:
    """Puts wrappers around an environment, the first one next to it.

    Args:
        env: the environment.
        entries: of ``task.wrappers``.
        task: the task's name, for errors.
        num_envs: B, the number of copies.
        own_reward: whether the rewards are the environment's own, as in evaluations.

    Raises:
        UserError: an entry is wrong, or a user's wrapper breaks the contract of environments.
    """
    record = env = RewardRecord(env) if own_reward else env
    for entry in entries:
        name, arguments, options = parsed(entry)
        make = WRAPPERS.get(name) or import_path(name)
        _check_arguments(name, make, arguments, options)
        env = make(env, *arguments, **options)
        if name not in WRAPPERS:
            env = FirstStepCheck(env, f"{task} with the wrapper {name}", num_envs)
    return OwnReward(env, record) if isinstance(record, RewardRecord) else env


def parsed(entry: Any) -> tuple[str, Sequence[Any], Mapping[str, Any]]:
    """Returns name, arguments by position and arguments by name of one entry.

    Args:
        entry: ``name``; ``{name: argument}``, in which a list holds several arguments and a mapping
            names them; or ``{wrapper: name, argument: value, …}``.

    Raises:
        UserError: it is none of these, or an unknown name.
    """
    name, value = entry, []
    if isinstance(entry, Mapping) and KEY in entry:
        name, value = entry[KEY], {k: v for k, v in entry.items() if k != KEY}
    elif isinstance(entry, Mapping) and len(entry) == 1:
        ((name, value),) = entry.items()
    if not isinstance(name, str):
        raise UserError(
            f"task.wrappers: {entry!r} names no wrapper; expected an entry such as "
            "{reward_scale: 0.1}, or {wrapper: my_module:MyWrapper, option: value}"
        )
    if name not in WRAPPERS and ":" not in name:
        if name.endswith(".py"):  # of file.py:Class as a key, which the command line parts
            raise UserError(f"task.wrappers: write {{wrapper: {name}:CLASS, option: value}}")
        if "." in name:
            raise UserError(f"task.wrappers: {name!r} is no import path; expected module:CLASS")
        raise unknown("wrapper", name, WRAPPERS, where=" in task.wrappers")
    if isinstance(value, Mapping):
        return name, [], value
    return name, value if isinstance(value, list | tuple) else [value], {}


def without_reward_wrappers(entries: Sequence[Any]) -> list[Any] | None:
    """Returns the entries that change more than rewards; None where one of them may read rewards
    or change them, as metrics and users' wrappers do."""
    others = [entry for entry in entries if parsed(entry)[0] not in OF_REWARDS]
    return others if all(parsed(e)[0] == "stack_observations" for e in others) else None


def with_absolute_files(value: Any) -> Any:
    """Returns entries whose import paths of files mean the same in every folder."""
    if isinstance(value, str):
        return absolute(value)
    if isinstance(value, Mapping):
        return {with_absolute_files(k): with_absolute_files(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [with_absolute_files(item) for item in value]
    return value


def imports(value: Any) -> Iterator[str]:
    """Yields the import paths that entries name."""
    if isinstance(value, str) and ":" in value:
        yield value
    elif isinstance(value, Mapping):
        yield from (path for pair in value.items() for part in pair for path in imports(part))
    elif isinstance(value, list | tuple):
        yield from (path for item in value for path in imports(item))


def _check_arguments(
    name: str, make: Any, arguments: Sequence[Any], options: Mapping[str, Any]
) -> None:
    """Raises UserError where a wrapper does not take the arguments of its entry."""
    if not callable(make):
        raise UserError(f"task.wrappers: {name!r} is no class; expected one of marl.envs.wrappers")
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # without a signature
        return
    known = list(signature.parameters)[1:]
    anything = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for option in options:
        if option not in known and not anything:
            raise unknown("option", option, known, where=f" of the wrapper {name}")
    try:
        signature.bind(None, *arguments, **options)
    except TypeError as error:
        raise UserError(
            f"task.wrappers: {name} takes {', '.join(known) or 'no options'}, and here are "
            f"{dict(options) or list(arguments)}: {error}"
        ) from None
