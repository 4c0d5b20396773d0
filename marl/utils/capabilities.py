"""Optional attributes by which algorithms describe themselves. Importable without torch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any


def learns(algorithm: Any) -> bool:
    """Returns whether an ``Algorithm``'s policy changes: its ``learns``, by default True."""
    return getattr(algorithm, "learns", True)


def unread_settings(algorithm: Any) -> Mapping[str, str]:
    """Returns why nothing reads some settings of an ``Algorithm``, by their names: its
    ``unread_settings``, by default empty."""
    return getattr(algorithm, "unread_settings", dict)()


def needs_replay(config: Any) -> bool:
    """Returns whether an ``AlgorithmConfig`` needs the run's replay: its ``needs_replay``.

    The default is False. The older name ``replays`` is read for one release, with a warning.
    """
    if hasattr(config, "needs_replay"):
        return config.needs_replay
    if hasattr(config, "replays"):
        warnings.warn(
            f"the class attribute 'replays' of {type(config).__name__} is now 'needs_replay'; the "
            "old name is removed in the next release",
            FutureWarning,
            stacklevel=2,
        )
    return getattr(config, "replays", False)


def stacked_observations(task: object) -> int:
    """Returns how many observations the environments of a task stack; 1 where it does not say."""
    return getattr(task, "stacked_observations", lambda: 1)()
