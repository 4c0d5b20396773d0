"""Checks of the options of native environments; each error is one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from marl.errors import UserError, unknown


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raises UserError where ``value`` is no whole number of at least ``least``.

    Args:
        name: the option, for the error.
        value: its value.
        least: the smallest that is allowed.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}={value!r} must be a whole number of at least {least}")


def check_number(
    name: str, value: object, low: float = float("-inf"), high: float = float("inf")
) -> None:
    """Raises UserError where ``value`` is no number from ``low`` to ``high``.

    Args:
        name: the option, for the error.
        value: its value.
        low: the smallest that is allowed.
        high: the largest that is allowed.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        raise UserError(f"{name}={value!r} must be a number")
    if not low <= value <= high:
        nearest = low if value < low else high
        raise UserError(f"{name}={value!r} is out of range; the nearest allowed is {nearest:g}")


def check_switch(name: str, value: object) -> None:
    """Raises UserError where ``value`` is neither true nor false.

    Args:
        name: the option, for the error.
        value: its value.
    """
    if not isinstance(value, bool):
        raise UserError(f"{name}={value!r} must be true or false")


def check_options(
    name: str, options: Iterable[str], function: Callable[..., Any], *others: str
) -> None:
    """Raises UserError for the first unknown option.

    Args:
        name: the task, for the error.
        options: names of the options to check.
        function: whose arguments are the known options.
        others: further known options.
    """
    names = [*options_of(function), *others]
    for option in options:
        if option not in names:
            raise unknown("option", option, names, where=f" of {name}")


def options_of(function: Callable[..., Any]) -> list[str]:
    """Returns the arguments that ``function`` takes by name."""
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [n for n, p in inspect.signature(function).parameters.items() if p.kind in by_name]


def check_factory_options(name: str, options: Iterable[str], factory: Callable[..., Any]) -> None:
    """Raises UserError for the first option that a user's factory of batched environments does not
    take; one that takes ``**kwargs`` takes any.

    Args:
        name: the task, for the error.
        options: names of the options to check.
        factory: takes ``num_envs``, ``device`` and the options.
    """
    kinds = {p.kind for p in inspect.signature(factory).parameters.values()}
    known = [option for option in options_of(factory) if option not in ("num_envs", "device")]
    for option in options:
        if option not in known and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise unknown("option", option, known, where=f" of task {name!r}")
