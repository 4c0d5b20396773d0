"""Observations and actions of Gymnasium's spaces outside of training, for ``marl.load_policy``."""

from __future__ import annotations

from typing import Any

import numpy as np

from marl.envs.pettingzoo.actions import action_decoder
from marl.envs.pettingzoo.spaces import observation_encoder


def encode(space: Any, observation: Any) -> np.ndarray:
    """Returns an observation as policies read it: choices one-hot, parts side by side.

    Args:
        space: the agent's observation space.
        observation: a value of that space.

    Raises:
        UserError: a space that cannot be laid out as numbers.
        EnvironmentFault: the observation lies outside the space.
    """
    encoder = observation_encoder(space, "agent")
    out = np.empty(encoder.shape, encoder.dtype)
    encoder.write(observation, out)
    return out


def decode(space: Any, action: Any) -> Any:
    """Returns a policy's action as the environment takes it.

    Args:
        space: the agent's action space.
        action: of one agent, as ``marl.load_policy`` gives it in numpy: an index, indices, or a
            vector.

    Raises:
        UserError: a space that is neither choices nor a bounded vector of floats.
    """
    array = np.asarray(action)
    value: Any = array if array.ndim else array.item()
    return action_decoder(space, "agent").decode(value)
