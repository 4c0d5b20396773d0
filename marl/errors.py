"""Errors that a user can mend: one clear sentence, no traceback, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something in what the user asked for, or in the machine, that one sentence explains."""


class WorkerError(RuntimeError):
    """A process that steps environments failed; the message holds its traceback."""


class EnvironmentFault(UserError):
    """An environment gave what nothing can be learned from, such as a reward that is no number."""


class Diverged(UserError):
    """A loss or gradient is not finite."""


class EndlessEpisode(UserError):
    """An episode that is to be played to its end is longer than the run allows."""


def unknown(kind: str, value: object, choices: Iterable[str], *, where: str = "") -> UserError:
    """``unknown task 'vmas/balence'; did you mean 'vmas/balance'?``"""
    names = sorted(str(choice) for choice in choices)
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    if close:
        hint = f"did you mean {close[0]!r}?"
    elif names:
        hint = "choose from " + ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    else:
        hint = "there is none to choose from"
    return UserError(f"unknown {kind} {value!r}{where}; {hint}")
