"""Errors that a user can mend: one clear sentence, no traceback, exit code 2."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A fault in what the user asked for, or in the machine, that one sentence explains."""


class WorkerError(RuntimeError):
    """A process that steps environments failed; the message holds its traceback."""


class EnvironmentFault(UserError):
    """An environment returned values that cannot be learned from, such as a reward of NaN."""


class Diverged(UserError):
    """A loss or gradient is not finite."""


class EndlessEpisode(UserError):
    """An episode that must be played to its end is longer than the run allows."""


def unknown(kind: str, value: object, choices: Iterable[str], *, where: str = "") -> UserError:
    """Returns an error such as ``unknown task 'vmas/balence'; did you mean 'vmas/balance'?``.

    Args:
        kind: what the value names, such as ``task``.
        value: the unknown value.
        choices: the values that exist, of which the nearest is suggested.
        where: text that follows the value in the message.
    """
    names = sorted(str(choice) for choice in choices)
    if nearest := _nearest(str(value), names):
        hint = f"did you mean {nearest!r}?"
    elif names:
        beside = [name for name in names if _split(name)[0] == _split(str(value))[0]] or names
        hint = "choose from " + ", ".join(beside[:12]) + (", …" if len(beside) > 12 else "")
    else:
        hint = "none exists to choose from"
    return UserError(f"unknown {kind} {value!r}{where}; {hint}")


#: Words of other libraries -> ours.
SYNONYMS = {"learning_rate": "lr"}


def _nearest(value: str, names: Sequence[str]) -> str | None:
    """Returns the name that is probably meant; None if none is close.

    It has the prefix of ``value`` (``algorithm.``, ``vmas/``) if any name has it.
    """
    prefix, word = _split(value)
    word = SYNONYMS.get(word, word)
    value = prefix + word
    beside = [name for name in names if _split(name)[0] == prefix]
    if short := [name for name in beside if _abbreviates(word, _split(name)[1])]:
        return max(short, key=lambda name: _likeness(value, name))
    if same := [name for name in names if _split(name)[1] == word]:
        return max(same, key=lambda name: _likeness(value, name))
    if beside and (close := _closest(word, [_split(name)[1] for name in beside])):
        return next(name for name in beside if _split(name)[1] == close)
    if short := [name for name in names if _abbreviates(word, _split(name)[1])]:
        return max(short, key=lambda name: _likeness(value, name))
    return None if beside else _closest(value, names)


def _split(name: str) -> tuple[str, str]:
    """Returns ``algorithm.`` and ``lr`` for ``algorithm.lr``."""
    match = re.fullmatch(r"(.*[./])?(.*)", name, re.DOTALL)
    return (match[1] or "", match[2]) if match else ("", name)


def _abbreviates(word: str, name: str) -> bool:
    return len(word) > 1 and (name.startswith(word) or word in name.split("_"))


def _likeness(value: str, name: str) -> float:
    return difflib.SequenceMatcher(None, value, name).ratio()


def _closest(value: str, names: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(value, names, n=1, cutoff=0.5)), None)
