"""Plain pictures of VMAS worlds with Pillow: entities by shape, position, rotation and colour."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

Point = tuple[float, float]
RGB = tuple[int, int, int]

SUPERSAMPLING = 3  # drawn this much larger, then reduced
PAPER: RGB = (252, 252, 250)
INK: RGB = (45, 48, 56)
EDGE: RGB = (190, 190, 196)
PITCH: RGB = (206, 232, 200)
ZOOM_STEP = 1.15  # the frame widens in steps of this factor, so that it rests in between
# Opacities; a ghost is a landmark that nothing collides with.
OPAQUE, AGENT, GHOST, RAY = 255, 225, 115, 40


def draw_world(env: Any, index: int, size: tuple[int, int]) -> np.ndarray:
    """Returns a picture of one copy, ``[H, W, 3]`` uint8.

    Args:
        env: a ``vmas.simulator.environment.Environment``.
        index: the copy.
        size: width and height, pixels.
    """
    width, height = (SUPERSAMPLING * side for side in size)
    image = Image.new("RGB", (width, height), PAPER)
    pen = Pen(ImageDraw.Draw(image, "RGBA"), frame_world(env, index, width, height))
    _draw_edges(pen, env)
    _draw_scenery(pen, env.scenario)
    for landmark in env.world.landmarks:
        if landmark.is_rendering[index]:
            opacity = OPAQUE if landmark.collide else GHOST
            _draw_shape(pen, landmark, index, opacity, outline=None)
    for agent in env.world.agents:
        if agent.is_rendering[index]:
            _draw_rays(pen, agent, index)
            _draw_shape(pen, agent, index, AGENT, outline=INK)
            _draw_heading(pen, agent, index)
    return np.array(image.reduce(SUPERSAMPLING))


@dataclass(frozen=True)
class Camera:
    """Projection from metres to pixels; ``y`` up becomes ``y`` down.

    Attributes:
        origin: point in the middle of the picture, metres.
        middle: middle of the picture, pixels.
        scale: pixels per metre.
    """

    origin: Point
    middle: Point
    scale: float

    def __call__(self, x: float, y: float) -> Point:
        horizontal = self.middle[0] + (x - self.origin[0]) * self.scale
        return horizontal, self.middle[1] - (y - self.origin[1]) * self.scale


@dataclass(frozen=True)
class Pen:
    """Draws in metres.

    Attributes:
        draw: Pillow's pen, in pixels.
        camera: the projection.
    """

    draw: ImageDraw.ImageDraw
    camera: Camera

    def line(self, start: Point, end: Point, color: tuple[int, ...], width: float) -> None:
        """Draws a line.

        Args:
            start: metres.
            end: metres.
            color: red, green, blue and perhaps opacity, 0 to 255.
            width: pixels of the final picture.
        """
        ends = [self.camera(*start), self.camera(*end)]
        self.draw.line(ends, fill=color, width=max(1, round(width * SUPERSAMPLING)))

    def polygon(self, corners: Iterable[Point], fill: Any, outline: Any) -> None:
        """Draws a polygon.

        Args:
            corners: metres.
            fill: a colour; None for none.
            outline: a colour; None for none.
        """
        points = [self.camera(*corner) for corner in corners]
        self.draw.polygon(points, fill=fill, outline=outline, width=SUPERSAMPLING)

    def circle(self, center: Point, radius: float, fill: Any, outline: Any) -> None:
        """Draws a circle.

        Args:
            center: metres.
            radius: metres.
            fill: a colour; None for none.
            outline: a colour; None for none.
        """
        (x, y), r = self.camera(*center), radius * self.camera.scale
        box = (x - r, y - r, x + r, y + r)
        self.draw.ellipse(box, fill=fill, outline=outline, width=SUPERSAMPLING)


def frame_world(env: Any, index: int, width: int, height: int) -> Camera:
    """Returns the scenario's own frame, widened as far as its entities go.

    Args:
        env: a ``vmas.simulator.environment.Environment``.
        index: the copy.
        width: of the picture, pixels.
        height: of the picture, pixels.
    """
    scenario = env.scenario
    x0, y0 = (float(value) for value in scenario.render_origin)
    half = float(scenario.viewer_zoom) ** 2  # VMAS's measure: half of the shorter side, metres
    half_x, half_y = (half * side / min(width, height) for side in (width, height))
    widest = 1.0
    for entity in env.world.entities:
        if not entity.is_rendering[index]:
            continue
        x, y = entity.state.pos[index].tolist()
        margin = entity.shape.circumscribed_radius() if entity.movable else 0.0
        need = max((abs(x - x0) + margin) / half_x, (abs(y - y0) + margin) / half_y)
        # Scenarios put unused entities far away, and walls may reach beyond the picture.
        if entity.movable or need < 3:
            widest = max(widest, need)
    steps = math.ceil(math.log(widest) / math.log(ZOOM_STEP) - 1e-6)
    scale = width / (2 * half_x * ZOOM_STEP**steps)
    return Camera((x0, y0), (width / 2, height / 2), scale)


def _draw_edges(pen: Pen, env: Any) -> None:
    """Draws the bounds of a bounded world."""
    world = env.world
    if not env.scenario.visualize_semidims or (world.x_semidim is None and world.y_semidim is None):
        return
    far = 1e3  # where there is no bound
    x, y = (far if bound is None else float(bound) for bound in (world.x_semidim, world.y_semidim))
    corners = [(-x, -y), (x, -y), (x, y), (-x, y)]
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        pen.line(start, end, EDGE, width=1.5)


def _draw_scenery(pen: Pen, scenario: Any) -> None:
    """Draws what is no entity of the world: football's pitch, the lanes of road_traffic."""
    if hasattr(scenario, "pitch_length"):
        x, y = scenario.pitch_length / 2, scenario.pitch_width / 2
        pen.polygon([(-x, -y), (x, -y), (x, y), (-x, y)], PITCH, EDGE)
        pen.line((0.0, -y), (0.0, y), PAPER, width=2.0)
        pen.circle((0.0, 0.0), scenario.goal_size / 2, None, PAPER)
    for lane in getattr(scenario, "map_data", {}).get("lanelets", []):
        for side in ("left_boundary", "right_boundary"):
            points = [pen.camera(*point) for point in lane[side].tolist()]
            pen.draw.line(points, fill=EDGE, width=SUPERSAMPLING)


def _draw_shape(pen: Pen, entity: Any, index: int, opacity: int, outline: RGB | None) -> None:
    center, turn = _pose(entity, index)
    fill = (*_color(entity.color, index), opacity)
    kind = type(entity.shape).__name__
    if kind == "Sphere":
        pen.circle(center, entity.shape.radius, fill, outline)
    elif kind == "Line":
        half = entity.shape.length / 2
        start, end = _in_world(center, turn, -half, 0.0), _in_world(center, turn, half, 0.0)
        pen.line(start, end, fill, width=2.5)
    elif kind == "Box":
        x, y = entity.shape.length / 2, entity.shape.width / 2
        corners = [
            _in_world(center, turn, *corner) for corner in ((-x, -y), (x, -y), (x, y), (-x, y))
        ]
        hollow = entity.shape.hollow
        pen.polygon(corners, None if hollow else fill, fill if hollow else outline)


def _draw_heading(pen: Pen, agent: Any, index: int) -> None:
    """Draws a line from the middle to the front of agents that have a front."""
    if type(agent.dynamics).__name__ in ("Holonomic", "Static"):
        return
    center, turn = _pose(agent, index)
    shape = agent.shape
    reach = shape.length / 2 if hasattr(shape, "length") else shape.circumscribed_radius()
    pen.line(center, _in_world(center, turn, reach, 0.0), INK, width=1.5)


def _draw_rays(pen: Pen, agent: Any, index: int) -> None:
    """Draws the last measurements of the agent's lidars."""
    center, turn = _pose(agent, index)
    for sensor in agent.sensors:
        measurement = getattr(sensor, "_last_measurement", None)
        if measurement is None or not getattr(sensor, "_render", False):
            continue
        angles = (sensor._angles[index] + turn).tolist()
        for angle, distance in zip(angles, measurement[index].tolist(), strict=True):
            pen.line(center, _in_world(center, angle, distance, 0.0), (*INK, RAY), width=1.0)


def _pose(entity: Any, index: int) -> tuple[Point, float]:
    x, y = entity.state.pos[index].tolist()
    return (x, y), float(entity.state.rot[index])


def _in_world(center: Point, turn: float, x: float, y: float) -> Point:
    """Returns the position in the world of a body's point ``(x, y)``."""
    cos, sin = math.cos(turn), math.sin(turn)
    return center[0] + x * cos - y * sin, center[1] + x * sin + y * cos


def _color(color: Any, index: int) -> RGB:
    """Returns a colour from VMAS's fractions: a tuple, a tensor, or a tensor with a row per
    copy."""
    if isinstance(color, Tensor):
        color = (color[index] if color.ndim > 1 else color).tolist()
    red, green, blue = (round(255 * min(max(float(part), 0.0), 1.0)) for part in tuple(color)[:3])
    return red, green, blue
