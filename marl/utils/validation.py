"""Checks of configuration values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from marl.errors import UserError, unknown

if TYPE_CHECKING:
    pass


def check_word(name: str, value: str, choices: Iterable[str]) -> None:
    """Raises UserError where ``value`` is none of ``choices``."""
    if value not in choices:
        raise unknown(name, value, choices)


def check_range(config: object, **bounds: tuple[float, float]) -> None:
    """Raises UserError where a field of ``config`` lies outside its (low, high); None passes."""
    for name, (low, high) in bounds.items():
        value = getattr(config, name)
        if value is not None and not low <= value <= high:
            expected = f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise UserError(f"{name}={value} is out of range; expected {expected}")
