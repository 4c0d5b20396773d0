"""Pictures of particle worlds.

Landmarks are filled discs, agents outlined ones, messages rows of dots. A goal has a ring in the
colour of its agent, and a thin line to it; edges of the graph are grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from marl.envs.particle.physics import Body, Colour
from marl.envs.particle.scenario import Scenario, State
from marl.networks.entity_graph import edges
from marl.types import tree_map

SIZE = 512  # pixels
SUPERSAMPLING = 3  # drawn this much larger, then reduced
PAPER, INK = (252, 252, 250), (45, 48, 56)
RING = 0.025  # metres between a goal and its ring, and between two rings
ZOOM_STEP = 1.25  # the frame widens in steps of this factor, so that it rests in between
FARTHEST = 100.0  # metres from the middle beyond which nothing is drawn
VISIBLE = 0.05  # smallest number of a message that is drawn

Pixels = tuple[int, int, int]  # red, green and blue, 0 to 255
Box = tuple[float, float, float, float]  # left, top, right and bottom, pixels


@dataclass(frozen=True)
class Camera:
    """Projection from metres to pixels; ``y`` up becomes ``y`` down.

    Attributes:
        reach: metres from the middle of the picture to an edge.
    """

    reach: float

    @property
    def scale(self) -> float:
        """Pixels per metre."""
        return SIZE * SUPERSAMPLING / 2 / self.reach

    def box(self, place: Sequence[float], radius: float) -> Box:
        """Returns the box of a disc.

        Args:
            place: its middle, metres.
            radius: metres.
        """
        middle, radius = SIZE * SUPERSAMPLING / 2, radius * self.scale
        x, y = middle + place[0] * self.scale, middle - place[1] * self.scale
        return x - radius, y - radius, x + radius, y + radius


def draw(scenario: Scenario, state: State) -> np.ndarray:
    """Returns a picture of one world, ``[512, 512, 3]`` uint8.

    Args:
        scenario: the world's.
        state: of one world, without the axis B.
    """
    side = SIZE * SUPERSAMPLING
    image = Image.new("RGB", (side, side), PAPER)
    pen = ImageDraw.Draw(image, "RGBA")
    places = state.position.tolist()
    bodies, agents = [*scenario.agents, *scenario.landmarks], len(scenario.agents)
    edges = [max(abs(x), abs(y)) + body.size for (x, y), body in zip(places, bodies, strict=True)]
    camera = Camera(_reach(max((edge for edge in edges if edge < FARTHEST), default=0.0)))
    _draw_edges(pen, camera, scenario, state)
    colours = [_pixels(colour) for colour in scenario.entity_colours(state)]
    for number in reversed(range(agents, len(bodies))):
        _disc(pen, camera, bodies[number], places[number], (*colours[number], 255))
    rings: dict[int, int] = {}  # of each landmark so far
    for agent, landmark in scenario.goals(state):
        goal = agents + landmark
        rings[goal] = rings.get(goal, 0) + 1
        ring = camera.box(places[goal], bodies[goal].size + RING * rings[goal])
        _mark(pen, camera.box(places[agent], 0.0), ring, colours[agent])
    for number in reversed(range(agents)):  # on top
        _disc(pen, camera, bodies[number], places[number], (*colours[number], 160), INK)
    for number, body in enumerate(scenario.agents):
        if body.talks:
            _message(pen, camera, places[number], body, state.message[number].tolist())
    return np.array(image.reduce(SUPERSAMPLING))


def _reach(farthest: float) -> float:
    """Returns the smallest reach of the camera that shows a body so far from the middle."""
    reach = 1.2
    while reach < farthest:
        reach *= ZOOM_STEP
    return reach


def _pixels(colour: Colour) -> Pixels:
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue


def _disc(
    pen: ImageDraw.ImageDraw,
    camera: Camera,
    body: Body,
    place: list[float],
    fill: tuple[int, int, int, int],
    outline: Pixels | None = None,
) -> None:
    box = camera.box(place, body.size)
    pen.ellipse(box, fill=fill, outline=outline, width=SUPERSAMPLING)


def _draw_edges(pen: ImageDraw.ImageDraw, camera: Camera, scenario: Scenario, state: State) -> None:
    """Draws a grey line for every edge of the graph."""
    graph = scenario.graph(tree_map(lambda x: x.unsqueeze(0), state))
    if graph is None:
        return
    adjacency = edges(graph)[0][0]
    pairs = (adjacency | adjacency.T).triu().nonzero().tolist()
    places = graph.position[0].tolist()
    for one, other in pairs:
        ends = [camera.box(places[i], 0.0)[:2] for i in (one, other)]
        pen.line(ends, fill=(*INK, 90), width=SUPERSAMPLING)


def _mark(pen: ImageDraw.ImageDraw, start: Box, ring: Box, colour: Pixels) -> None:
    """Draws a thin line to the goal, and a ring around it."""
    middle = ((ring[0] + ring[2]) / 2, (ring[1] + ring[3]) / 2)
    pen.line([start[:2], middle], fill=(*colour, 170), width=SUPERSAMPLING + 1)
    pen.ellipse(ring, outline=colour, width=2 * SUPERSAMPLING)


def _message(
    pen: ImageDraw.ImageDraw, camera: Camera, place: list[float], body: Body, message: list[float]
) -> None:
    """Draws a row of dots above the agent, one per channel, the darker the larger its number;
    inside the frame even where the agent is at an edge."""
    gap = 0.07
    half, edge = gap * (len(message) - 1) / 2, camera.reach - gap
    left = min(max(place[0], half - edge), edge - half) - half
    height = min(place[1] + body.size + gap, edge)
    for channel, number in enumerate(message):
        box = camera.box((left + gap * channel, height), gap * 0.35)
        strength = round(255 * min(max(number, 0.0), 1.0)) if number >= VISIBLE else 0
        pen.ellipse(box, fill=(*INK, strength), outline=INK, width=SUPERSAMPLING)
