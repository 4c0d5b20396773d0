"""Checks of configuration values."""

from __future__ import annotations

import math
from collections.abc import Iterable

from marl.errors import UserError, unknown


def check_word(name: str, value: str, choices: Iterable[str]) -> None:
    """Checks that the option ``name`` has one of the values ``choices``.

    Args:
        name: of the option, for the message.
        value: the option's value.
        choices: the values that it may have.

    Raises:
        UserError: it has another value.
    """
    if value not in choices:
        raise unknown(name, value, choices)


def check_range(config: object, **bounds: tuple[float, float]) -> None:
    """Checks that fields of a configuration lie within bounds.

    Args:
        config: an object with the fields.
        **bounds: (low, high) by the name of the field, both included; a field that is None passes.

    Raises:
        UserError: a field lies outside its bounds.
    """
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            expected = f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise UserError(f"{name}={value} is out of range; expected {expected}")
