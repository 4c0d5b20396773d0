"""Why an environment gives no picture of itself, in one line. Imports no torch."""

from __future__ import annotations

#: Of an environment that does not implement ``render``.
NO_RENDER = "the environment has no render(); return an [H, W, 3] uint8 array to get a video"


def why_not_drawn(error: Exception) -> str:
    """Returns what an error of ``render`` says; other words for one that is not implemented."""
    words = " ".join(str(error).split())
    if isinstance(error, NotImplementedError) and not words:
        return NO_RENDER
    return words or type(error).__name__
