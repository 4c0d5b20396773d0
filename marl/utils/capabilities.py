"""What algorithms say of themselves by attributes that they may leave out. Importable without
torch."""

from __future__ import annotations

import warnings
from typing import Any


def learns(algorithm: Any) -> bool:
    """Returns whether an ``Algorithm``'s policy changes: its ``learns``, True where it has none."""
    return getattr(algorithm, "learns", True)


def needs_replay(config: Any) -> bool:
    """Returns whether an ``AlgorithmConfig`` asks for the run's replay: its ``needs_replay``, False
    where it has none. Its older name ``replays`` is read for one release, with a warning."""
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
