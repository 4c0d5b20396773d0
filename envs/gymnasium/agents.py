"""Gymnasium environments as parallel ones: one agent for each part of their tuple spaces.

- **Agents** are ``agent_0``, ``agent_1``, … in the order of ``action_space``, a Tuple. An
  environment without a tuple of actions has one agent, ``agent_0``.
- **Rewards** are a list by agent, or one number, which every agent earns. What an agent is paid
  after its own end does not count.
- **Ends**: ``terminated`` and ``truncated`` are one flag for all, or flags by agent. An agent that
  has ended is absent; the environment gets the first choice, or zeros, as its action. An end by a
  package's own limit of steps is a truncation, though some packages report a termination
  (``LIMITS``).
- **Info** is one dict for all; its numbers become metrics.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from marl.envs.pettingzoo.actions import Bounded, action_decoder
from marl.envs.pettingzoo.layout import Agent
from marl.envs.pettingzoo.masks import MASK
from marl.errors import EnvironmentFault, UserError

STEP = ("observation", "reward", "terminated", "truncated", "info")


def _foraging_limit(env: Any) -> bool:
    return env.current_step >= env._max_episode_steps and bool(env.field.any())


def _warehouse_limit(env: Any) -> bool:
    return bool(env.max_steps) and env._cur_steps >= env.max_steps


#: Package -> function of its environment that returns whether the limit of steps, which the package
#: reports as a termination, ended the episode.
LIMITS: Mapping[str, Callable[[Any], bool]] = {
    "lbforaging": _foraging_limit,
    "rware": _warehouse_limit,
}


def _forget_places(env: Any) -> None:
    """lbforaging 2.0 places its players beside those of the last episode, if there was one."""
    for player in env.players:
        player.position = None


#: Package -> function that removes from its environment what a reset with a seed would keep.
BEFORE_SEED: Mapping[str, Callable[[Any], None]] = {"lbforaging": _forget_places}


def is_gymnasium(env: object) -> bool:
    """Returns whether ``env`` is a Gymnasium environment, without importing Gymnasium."""
    kinds = type(env).__mro__
    return any((kind.__module__, kind.__name__) == ("gymnasium.core", "Env") for kind in kinds)


class TupleAgents:
    """A Gymnasium environment behind PettingZoo's parallel interface.

    Args:
        env: the environment.

    Raises:
        UserError: spaces that do not belong to the same number of agents.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self._is_tuple, self._observes, self._acts = _spaces(env)
        self.possible_agents: list[Agent] = [f"agent_{i}" for i in range(len(self._acts))]
        self.agents: list[Agent] = []
        self._idle = [_idle_action(space, i) for i, space in enumerate(self._acts)]
        package = type(env.unwrapped).__module__.partition(".")[0]
        self._at_limit = LIMITS.get(package, lambda env: False)
        self._before_seed = BEFORE_SEED.get(package, lambda env: None)

    def __str__(self) -> str:
        return str(self.env)

    def observation_space(self, agent: Agent) -> Any:
        """Returns an agent's part of the observation space."""
        return self._observes[self.possible_agents.index(agent)]

    def action_space(self, agent: Agent) -> Any:
        """Returns an agent's part of the action space."""
        return self._acts[self.possible_agents.index(agent)]

    def reset(self, seed: int | None = None) -> tuple[dict[Agent, Any], dict[Agent, Any]]:
        """Starts an episode; returns observations and infos."""
        if seed is not None:
            self._before_seed(self.env.unwrapped)
        observation, info = self.env.reset(seed=seed)
        self.agents = list(self.possible_agents)
        return self._by_agent(observation, "observations"), self._info(info)

    def step(self, actions: Mapping[Any, Any]) -> tuple[dict[Agent, Any], ...]:
        """Plays one step.

        Args:
            actions: by agent, of those that have not ended.

        Returns:
            Observations, rewards, terminations, truncations and infos.

        Raises:
            EnvironmentFault: not as many observations, rewards or flags as agents.
        """
        present = self.agents
        joint = [actions.get(a, idle) for a, idle in zip(self.possible_agents, self._idle)]  # noqa: B905
        result = self.env.step(tuple(joint) if self._is_tuple else joint[0])
        if not isinstance(result, tuple | list) or len(result) != len(STEP):
            raise EnvironmentFault(
                f"step() of {self.env} returned something else than {len(STEP)} values; expected "
                + ", ".join(STEP)
            )
        observation, reward, terminated, truncated, info = result
        rewards = self._by_agent(reward, "rewards", shared=True)
        terminations = self._by_agent(terminated, "terminated flags", shared=True)
        truncations = self._by_agent(truncated, "truncated flags", shared=True)
        if all(terminations.values()) and self._at_limit(self.env.unwrapped):
            terminations, truncations = dict.fromkeys(present, False), dict.fromkeys(present, True)
        ended = {a for a in present if terminations[a] or truncations[a]}
        self.agents = [a for a in present if a not in ended]
        return (
            self._by_agent(observation, "observations"),
            {a: rewards[a] for a in present},
            {a: bool(terminations[a]) for a in present},
            {a: bool(truncations[a]) for a in present},
            self._info(info),
        )

    def render(self) -> Any:
        """Returns a picture, also of environments whose ``render`` takes a mode, as in old gym."""
        env = self.env.unwrapped
        if "mode" in inspect.signature(env.render).parameters:
            return env.render(mode="rgb_array")
        return self.env.render()

    def close(self) -> None:
        self.env.close()

    def _by_agent(self, values: Any, what: str, shared: bool = False) -> dict[Agent, Any]:
        """Returns values by agent; with ``shared`` one value may belong to all."""
        count = len(self.possible_agents)
        if not self._is_tuple or (shared and np.ndim(values) == 0):
            return dict.fromkeys(self.possible_agents, values)
        if len(values) != count:
            raise EnvironmentFault(f"there are {len(values)} {what}; expected {count}, by agent")
        return dict(zip(self.possible_agents, values, strict=True))

    def _info(self, info: Mapping[str, Any]) -> dict[Agent, Any]:
        """Returns the info as the first agent's; a mask is read where there is one agent only."""
        if self._is_tuple:
            info = {key: value for key, value in info.items() if key != MASK}
        return {self.possible_agents[0]: info}


def _spaces(env: Any) -> tuple[bool, tuple[Any, ...], tuple[Any, ...]]:
    """Returns whether actions are a tuple by agent, and the agents' observation and action
    spaces."""
    from gymnasium import spaces

    observes, acts = env.observation_space, env.action_space
    if not isinstance(acts, spaces.Tuple):
        return False, (observes,), (acts,)
    if not isinstance(observes, spaces.Tuple) or len(observes.spaces) != len(acts.spaces):
        raise UserError(
            f"{env} acts in {acts} and observes {observes}; expected tuples with one space for "
            "each agent"
        )
    return True, tuple(observes.spaces), tuple(acts.spaces)


def _idle_action(space: Any, index: int) -> Any:
    """Returns the action of an agent that has ended: the first of each choice, or zeros."""
    decoder = action_decoder(space, f"agent_{index}")
    if isinstance(decoder, Bounded):
        return decoder.decode(
            np.zeros(len(decoder.low), np.float32).clip(decoder.low, decoder.high)
        )
    return decoder.decode(0 if decoder.scalar else np.zeros(len(decoder.nvec), np.int64))
