"""A picture of one particle world: landmarks as filled discs, agents as rings around theirs, and
what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from envs.particle.physics import Body
from envs.particle.scenario import Scenario, State

SIZE = 512  # pixels
SUPERSAMPLING = 3  # drawn this much larger, then reduced
PAPER, INK = (252, 252, 250), (45, 48, 56)
ZOOM_STEP = 1.25  # the frame widens in steps of this factor, so that it stands still in between
VISIBLE = 0.05  # a message's number from which on it is drawn


@dataclass(frozen=True)
class Camera:
    """From metres to pixels; ``y`` up becomes ``y`` down."""

    reach: float  # metres from the middle to an edge

    @property
    def scale(self) -> float:
        return SIZE * SUPERSAMPLING / 2 / self.reach

    def box(self, x: float, y: float, radius: float) -> tuple[float, float, float, float]:
        middle = SIZE * SUPERSAMPLING / 2
        x, y, radius = middle + x * self.scale, middle - y * self.scale, radius * self.scale
        return x - radius, y - radius, x + radius, y + radius


def draw(scenario: Scenario, state: State) -> np.ndarray:
    """``state`` (of one world, without its axis B) as ``[512, 512, 3]`` uint8."""
    side = SIZE * SUPERSAMPLING
    image = Image.new("RGB", (side, side), PAPER)
    pen = ImageDraw.Draw(image, "RGBA")
    places = state.position.tolist()
    camera = Camera(_reach(max(abs(value) for place in places for value in place)))
    bodies = [*scenario.agents, *scenario.landmarks]
    for number in reversed(range(len(bodies))):  # agents last, on top
        is_agent = number < len(scenario.agents)
        _disc(pen, camera, bodies[number], places[number], is_agent)
    for number, body in enumerate(scenario.agents):
        if body.talks:
            _message(pen, camera, places[number], body, state.message[number].tolist())
    return np.array(image.reduce(SUPERSAMPLING))


def _reach(farthest: float) -> float:
    reach = 1.2
    while reach < farthest + 0.1 and reach < 100:
        reach *= ZOOM_STEP
    return reach


def _disc(
    pen: ImageDraw.ImageDraw, camera: Camera, body: Body, place: list[float], is_agent: bool
) -> None:
    colour = tuple(round(255 * part) for part in body.colour)
    box = camera.box(place[0], place[1], body.size)
    pen.ellipse(box, fill=(*colour, 160 if is_agent else 255))
    if is_agent:
        pen.ellipse(box, outline=INK, width=SUPERSAMPLING)


def _message(
    pen: ImageDraw.ImageDraw, camera: Camera, place: list[float], body: Body, message: list[float]
) -> None:
    """A row of dots above the agent, one per channel, as dark as its number is large."""
    gap = 0.07
    left = place[0] - gap * (len(message) - 1) / 2
    for channel, number in enumerate(message):
        box = camera.box(left + gap * channel, place[1] + body.size + gap, gap * 0.35)
        strength = round(255 * min(max(number, 0.0), 1.0)) if number >= VISIBLE else 0
        pen.ellipse(box, fill=(*INK, strength), outline=INK, width=SUPERSAMPLING)
