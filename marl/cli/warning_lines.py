"""Warnings of this package as lines of the command line, without the place in its code."""

from __future__ import annotations

import os
import sys
import warnings

PACKAGES = ("marl", "marl.algorithms", "marl.envs")

_default = warnings.formatwarning


def line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, text: str | None
) -> str:
    """Returns ``marl: warning: …`` for a ``UserWarning`` of this package, and for any other what
    Python prints.

    Args:
        message: the warning.
        category: its class.
        filename: file of the code that warns.
        lineno: its line.
        text: source of that line; None to read it.
    """
    loaded = [sys.modules[name] for name in PACKAGES if name in sys.modules]
    folders = [os.path.realpath(path) for package in loaded for path in package.__path__]
    ours = any(os.path.realpath(filename).startswith(folder + os.sep) for folder in folders)
    if ours and category is UserWarning:
        return f"marl: warning: {message}\n"
    return _default(message, category, filename, lineno, text)
