"""Pictures of VMAS environments without a display: VMAS's own with OpenGL, else plain drawings."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from marl.envs.vmas.draw import draw_world

SIDE = 512  # pixels of a square picture; others have the same area


def picture_size(viewer_size: tuple[int, int]) -> tuple[int, int]:
    """Returns width and height in the viewer's proportions; even, as video codecs require."""
    stretch = math.sqrt(viewer_size[0] / viewer_size[1])
    return 2 * round(SIDE * stretch / 2), 2 * round(SIDE / stretch / 2)


class Renderer:
    """Renderer of one environment.

    Args:
        env: a ``vmas.simulator.environment.Environment``.
    """

    #: Whether VMAS's own pictures work in this process, as far as known; False after one failure.
    own_pictures: ClassVar[bool] = True

    def __init__(self, env: Any) -> None:
        self._env = env

    def frame(self, index: int) -> np.ndarray:
        """Returns a picture of copy ``index``, ``[H, W, 3]`` uint8."""
        if Renderer.own_pictures:
            try:
                return self._own_picture(index)
            except Exception:  # whatever pyglet and OpenGL raise where they do not work
                Renderer.own_pictures = False
        return self._drawn_picture(index)

    def close(self) -> None:
        """Closes VMAS's window, if there is one."""
        if self._env.viewer is not None:
            self._env.viewer.close()
            self._env.viewer = None

    def _own_picture(self, index: int) -> np.ndarray:
        if self._env.viewer is not None:  # VMAS clears whichever window was last drawn to
            self._env.viewer.window.switch_to()
        picture = Image.fromarray(np.ascontiguousarray(self._env.render("rgb_array", index)))
        size = picture_size(self._env.scenario.viewer_size)
        return np.array(picture.resize(size, Image.Resampling.LANCZOS))

    def _drawn_picture(self, index: int) -> np.ndarray:
        return draw_world(self._env, index, picture_size(self._env.scenario.viewer_size))
