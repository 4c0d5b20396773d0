"""Turn-based (AEC) environments as parallel ones: one turn of one agent is one step.

- **Actions**: each choice has one more option, the last, to wait. An agent whose turn it is has the
  environment's own actions, by the environment's mask; every other agent can only wait, whatever
  its policy says, and observes what ``observe(agent)`` shows it now.
- **Rewards** are those of ``rewards`` after each turn, for all agents: what an agent earns between
  two of its turns is paid in the steps in which it arises, and adds up to what ``last()`` gives in
  its next turn. What ``step(None)`` of an agent that has ended leaves in ``rewards`` is not paid.
- **Ends**: an agent ends where its turn comes and ``last()`` says that it has ended; until then it
  waits. Such turns take no step: all that come at once belong to the step before them.
- **Infos** of an agent count in the step that leads to its turn, once per turn.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from marl.envs.aec.spaces import TurnActions, turn_actions
from marl.envs.pettingzoo.layout import Agent
from marl.envs.pettingzoo.masks import MASK, find_mask
from marl.envs.pettingzoo.report import check_rewards
from marl.errors import EnvironmentFault

OBSERVATION = "observation"
#: Names of PettingZoo's games in which every player plays against all others.
RIVALS = re.compile(
    r"(chess|connect_four|gin_rummy|go|leduc_holdem|rps|texas_holdem(_no_limit)?|tictactoe)_v\d+"
)


class TurnBased:
    """A turn-based environment behind PettingZoo's parallel interface.

    Args:
        env: the AEC environment.

    Raises:
        UserError: an agent whose actions are not choices.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self.possible_agents: list[Agent] = list(env.possible_agents)
        self._actions: dict[Agent, TurnActions] = {
            agent: turn_actions(env.action_space(agent), agent) for agent in self.possible_agents
        }
        self._earned: dict[Agent, float] = {}  # by agent, since its last turn

    def __str__(self) -> str:
        return str(self.env)

    @property
    def rivals(self) -> bool:
        """Whether every agent plays against all others, by the name in the metadata."""
        name = getattr(self.env, "metadata", {}).get("name", "")
        return RIVALS.fullmatch(str(name)) is not None

    @property
    def agents(self) -> list[Agent]:
        """The agents that have not ended."""
        return list(self.env.agents)

    def observation_space(self, agent: Agent) -> Any:
        """Returns the space of an agent's observation beside its action mask."""
        from gymnasium import spaces

        space = self.env.observation_space(agent)
        if isinstance(space, spaces.Dict) and MASK in space.spaces:
            rest = _without_mask(space.spaces)
            space = spaces.Dict(rest) if isinstance(rest, dict) else rest
        mask = spaces.MultiBinary(len(self._actions[agent].waiting))
        return spaces.Dict({OBSERVATION: space, MASK: mask})

    def action_space(self, agent: Agent) -> Any:
        """Returns the space of an agent's actions, with the option to wait."""
        return self._actions[agent].space

    def reset(self, seed: int | None = None) -> tuple[dict[Agent, Any], dict[Agent, Any]]:
        """Starts an episode; returns observations and infos."""
        self.env.reset(seed=seed)
        self._earned = dict.fromkeys(self.env.agents, 0.0)
        return self._observe(), self._info() if self.env.agents else {}

    def step(self, actions: Mapping[Any, Any]) -> tuple[dict[Agent, Any], ...]:
        """Plays one turn, and the turns of agents that have ended.

        Args:
            actions: by agent, of which only that of the agent whose turn it is counts.

        Returns:
            Observations, rewards, terminations, truncations and infos.

        Raises:
            EnvironmentFault: the agent whose turn it is waits, its mask allows nothing, or
                ``last()`` contradicts ``rewards``.
        """
        env, agent = self.env, self.env.agent_selection
        present = list(env.agents)
        self._earned[agent] = 0.0
        self._actions[agent].check(actions[agent])
        env.step(actions[agent])
        rewards = {a: env.rewards.get(a, 0.0) for a in dict.fromkeys((*present, *env.agents))}
        check_rewards(rewards)
        for a, reward in rewards.items():
            self._earned[a] = self._earned.get(a, 0.0) + reward
        observations = self._observe()
        terminations, truncations, infos = self._remove_ended()
        if env.agents:
            if terminations:  # it may be another agent's turn now
                observations |= self._observe()
            infos |= self._info()
            self._check_paid()
        return observations, rewards, terminations, truncations, infos

    def state(self) -> Any:
        return self.env.state()

    def render(self) -> Any:
        return self.env.render()

    def close(self) -> None:
        self.env.close()

    def _observe(self) -> dict[Agent, Any]:
        """Returns what every agent observes, with a mask of what it may do."""
        return {agent: self._observe_one(agent) for agent in self.env.agents}

    def _observe_one(self, agent: Agent) -> dict[str, Any]:
        actions = self._actions.get(agent)
        whole = self.env.observe(agent)
        observation = {OBSERVATION: _without_mask(whole)}
        if actions is None:  # an agent that is not in possible_agents, which the copies refuse
            return observation
        return observation | {MASK: self._mask(agent, actions, whole)}

    def _mask(self, agent: Agent, actions: TurnActions, observation: Any) -> np.ndarray:
        """Returns what an agent may do; where the game was truncated, what it could have done."""
        env = self.env
        if agent != env.agent_selection or env.terminations[agent]:
            return actions.waiting
        mask = find_mask(observation, env.infos.get(agent))
        if env.truncations[agent] and mask is not None and not np.any(mask):
            return actions.waiting
        return actions.acting(mask)

    def _info(self) -> dict[Agent, dict[str, Any]]:
        """Returns the info of the agent whose turn it is, without its mask."""
        agent = self.env.agent_selection
        info = self.env.infos.get(agent) or {}
        return {agent: {key: value for key, value in info.items() if key != MASK}}

    def _has_ended(self, agent: Agent) -> bool:
        return bool(self.env.terminations[agent] or self.env.truncations[agent])

    def _remove_ended(self) -> tuple[dict[Agent, bool], dict[Agent, bool], dict[Agent, Any]]:
        """Plays the turns of agents that have ended, up to one that has not; returns their
        terminations, truncations and infos."""
        env = self.env
        terminated: dict[Agent, bool] = {}
        truncated: dict[Agent, bool] = {}
        infos: dict[Agent, Any] = {}
        while env.agents and self._has_ended(agent := env.agent_selection):
            terminated[agent] = bool(env.terminations[agent])
            truncated[agent] = bool(env.truncations[agent])
            infos |= self._info()
            env.step(None)
            if agent in env.agents:
                raise RuntimeError(
                    f"agent {agent!r} has ended, and step(None) did not remove it; call "
                    "_was_dead_step in step()"
                )
        return terminated, truncated, infos

    def _check_paid(self) -> None:
        """Raises EnvironmentFault where ``last()`` says another reward than the sum since the last
        turn of the agent whose turn it is."""
        agent = self.env.agent_selection
        reward, earned = float(self.env.last(observe=False)[1]), float(self._earned[agent])
        same = math.isclose(reward, earned, rel_tol=1e-5, abs_tol=1e-5)
        if not same and math.isfinite(earned):  # the copies say which reward is not finite
            raise EnvironmentFault(
                f"agent {agent!r} earned {earned:g} since its last turn by rewards, and "
                f"{reward:g} by last(); expected the same, as pettingzoo.test.api_test checks"
            )


def _without_mask(observation: Any) -> Any:
    """Returns the observation beside an action mask in a dict: its one other part, or a dict of
    several."""
    if not isinstance(observation, dict) or MASK not in observation:
        return observation
    rest = {key: value for key, value in observation.items() if key != MASK}
    return next(iter(rest.values())) if len(rest) == 1 else rest
