"""Callbacks that settings name by import path."""

from __future__ import annotations

from collections.abc import Sequence

from marl.errors import UserError
from marl.training.callbacks import Callback
from marl.utils.serialization import import_path


def named(paths: Sequence[str]) -> list[Callback]:
    """Returns the callbacks of import paths.

    Args:
        paths: ``module:name`` or ``file.py:name`` of subclasses of ``Callback``, or of functions
            that return one; both are called without arguments.

    Raises:
        UserError: a path leads to nothing, or to what is no callback.
    """
    return [_named(path) for path in paths]


def _named(path: str) -> Callback:
    value = import_path(path)
    if not isinstance(value, Callback) and callable(value):
        try:
            value = value()
        except TypeError as error:
            raise UserError(
                f"callbacks: {path!r} cannot be made: {error}; it is called without arguments"
            ) from error
    if not isinstance(value, Callback):
        raise UserError(
            f"callbacks: {path!r} is no callback but {type(value).__name__}; expected a subclass "
            "of marl.Callback, or a function that returns one"
        )
    return value
