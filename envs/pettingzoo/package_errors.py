"""Errors of environments' packages, in one sentence. Imports no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from marl.errors import UserError


@contextlib.contextmanager
def package_errors(
    task: str, every: bool = False, but: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turns the errors of an environment's package into one sentence with its own words.

    An author finds other errors, as in a task of his own, by their traceback; a wrong argument
    (TypeError) is explained elsewhere.

    Args:
        task: its name, for the sentence.
        every: whether all errors are turned, or those only of what the machine lacks, such as a
            package or ROMs.
        but: errors that pass unchanged.

    Raises:
        UserError: in place of the package's error.
    """
    try:
        yield
    except Exception as error:
        turned = every or _lacks_something(error)
        if isinstance(error, (UserError, TypeError, *but)) or not turned:
            raise
        words = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"task {task!r} cannot be made: {words}") from error


def _lacks_something(error: Exception) -> bool:
    """Returns whether it is an error of files or imports, or one of gymnasium's, without importing
    gymnasium."""
    modules = {kind.__module__ for kind in type(error).__mro__}
    return isinstance(error, ImportError | OSError) or "gymnasium.error" in modules
