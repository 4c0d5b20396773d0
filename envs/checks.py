"""Options of native environments, checked: what is wrong is told in one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from marl.errors import UserError, unknown


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raises UserError where ``value`` is no whole number of at least ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}={value!r} must be a whole number of at least {least}")


def check_number(
    name: str, value: object, low: float = float("-inf"), high: float = float("inf")
) -> None:
    """Raises UserError where ``value`` is no number from ``low`` to ``high``."""
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        raise UserError(f"{name}={value!r} must be a number")
    if not low <= value <= high:
        nearest = low if value < low else high
        raise UserError(f"{name}={value!r} is out of range; the nearest allowed is {nearest:g}")


def check_switch(name: str, value: object) -> None:
    """Raises UserError where ``value`` is neither true nor false."""
    if not isinstance(value, bool):
        raise UserError(f"{name}={value!r} must be true or false")


def check_options(
    name: str, options: Iterable[str], function: Callable[..., Any], *others: str
) -> None:
    """Raises UserError for the first of ``options`` that neither ``function`` takes nor is one of
    the ``others``."""
    known = [*options_of(function), *others]
    for option in options:
        if option not in known:
            raise unknown("option", option, known, where=f" of {name}")


def options_of(function: Callable[..., Any]) -> list[str]:
    """The arguments that ``function`` takes by name."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [n for n, p in inspect.signature(function).parameters.items() if p.kind in named]
