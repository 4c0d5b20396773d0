"""Making of one environment from its factory, behind the parallel interface. Imports no torch."""

from __future__ import annotations

import inspect
import os
from typing import Any

import numpy as np

from marl.envs.aec.turns import TurnBased
from marl.envs.gymnasium.agents import TupleAgents, is_gymnasium
from marl.envs.pettingzoo.layout import Factory
from marl.envs.vmas.scenario import is_scenario
from marl.errors import UserError


def picture(env: Any) -> np.ndarray:
    """Returns the environment's picture of itself, ``[H, W, 3]`` uint8.

    Raises:
        ValueError: it draws nothing, or something else than a picture.
    """
    image = env.render()
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(
            f"render() gave {type(image).__name__}; expected an [H, W, 3] array, as environments "
            "give with render_mode='rgb_array'"
        )
    return np.ascontiguousarray(image, dtype=np.uint8)


def create(make: Factory) -> Any:
    """Makes one environment, with ``render_mode="rgb_array"`` where its factory takes that.

    Returns:
        A parallel environment; one that is not is adapted (``marl.envs.aec.turns``,
        ``marl.envs.gymnasium.agents``).

    Raises:
        UserError: an environment without ``possible_agents``, or one that cannot be adapted.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame without a display
    env = _with_rendering(make)
    if is_scenario(env):
        raise UserError(
            f"{make} returned a VMAS scenario; name its class, which is a subclass of "
            "BaseScenario, in place of the function"
        )
    if is_gymnasium(env):
        return TupleAgents(env)
    if not getattr(env, "possible_agents", None):
        raise UserError(
            f"{env} has no possible_agents; expected a list of all agents that can ever appear"
        )
    return TurnBased(env) if hasattr(env, "agent_iter") else env


def _with_rendering(make: Factory) -> Any:
    if not _takes_render_mode(make):
        return make()
    try:
        return make(render_mode="rgb_array")
    except Exception:  # perhaps it draws on a display only; any other error comes again
        return make()


def _takes_render_mode(make: Factory) -> bool:
    if "render_mode" in getattr(make, "keywords", {}):
        return False  # already chosen
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):
        return False
    keyword = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return keyword or "render_mode" in parameters
