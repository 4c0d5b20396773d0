"""Adapter of VMAS (Bettini et al. 2022): the tasks ``vmas/<scenario>``, and scenarios of users.

Task, agents, observations and rewards are the scenario's own:

- **Agents** are grouped by the prefix of their names and their spaces.
- **Observation**: what the scenario observes, float32; a dictionary's parts one after the other.
  ``task.graph`` with ``positions=world`` adds the graph of all agents and landmarks.
- **Actions**: continuous within the scenario's bounds, clamped; discrete (all choices of an agent
  as one), or multidiscrete (``task.actions``).
- **Reward**: the scenario's, for each agent.
- **Episode**: ends where the scenario says so (a termination, for all agents alike), or after 100
  steps or ``task.max_steps`` (a truncation).

Source: vmas 1.5.2, which is batched already. Differences: groups and teams; restarts of single
copies without a Python loop over them; terminations apart from time limits; own random numbers,
apart from everybody else's; exact states; pictures without a display. A step equals VMAS's own,
less its checks. VMAS's ``simple_spread`` observes 14 numbers, not 18 as mpe2's, and does not
compare with it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.envs.graph import GraphOptions
from marl.envs.groups import find_groups, find_teams
from marl.envs.native import check_copies, check_index, for_all_agents
from marl.envs.vmas import state as vmas_state
from marl.envs.vmas.actions import GroupActions, action_spec
from marl.envs.vmas.build import ACTIONS, SCENARIOS, build, check_arguments
from marl.envs.vmas.capture import find_reads
from marl.envs.vmas.entities import Entities
from marl.envs.vmas.info import EpisodeInfo
from marl.envs.vmas.merge import Snapshot
from marl.envs.vmas.outputs import CheckedScenario
from marl.envs.vmas.quiet import make_quiet
from marl.envs.vmas.random import RandomStreams
from marl.envs.vmas.render import Renderer
from marl.envs.vmas.scenario import Scenario, ends_by_time, name_of
from marl.types import (
    AgentGroup,
    GroupObservation,
    Observation,
    TensorSpec,
    Transition,
)
from marl.utils.device import find_device

__all__ = ["ACTIONS", "MAX_STEPS", "SCENARIOS", "VmasEnv"]

MAX_STEPS = 100  # BenchMARL's, for every scenario


class VmasEnv:
    """Copies of a VMAS scenario.

    VMAS draws the random numbers of all copies from one stream, which ``reset(seed)`` seeds. It
    ends whole environments, for all agents alike. What a scenario has only once for all copies (the
    goal in simple_adversary, simple_push, simple_reference and simple_speaker_listener, het_mass's
    masses) changes when all of them end together.

    ``info`` holds the scenario's own numbers by their names, averaged over the agents that have
    them and summed over the episode.

    Args:
        scenario: one of ``SCENARIOS``, or a subclass or an instance of VMAS's ``BaseScenario``; an
            instance is copied.
        num_envs: B, the number of copies.
        device: where the simulation runs.
        max_steps: steps after which an episode is truncated; None for ``MAX_STEPS``.
        actions: ``continuous``, ``discrete`` (all choices of an agent as one) or ``multidiscrete``.
        groups: group -> agents; None for groups by name and spaces.
        graph: adds the graph of the world's agents and landmarks, with the agents' ``goal`` where a
            scenario gives them one; None for no graph.
        scenario_kwargs: arguments of the scenario itself.

    Raises:
        UserError: an unknown scenario or argument, a device that does not exist, or wrong groups.
    """

    def __init__(
        self,
        scenario: Scenario,
        num_envs: int,
        device: torch.device | str = "cpu",
        max_steps: int | None = None,
        actions: str = "continuous",
        groups: Mapping[str, Sequence[str]] | None = None,
        graph: GraphOptions | None = None,
        **scenario_kwargs: Any,
    ) -> None:
        self.groups: Mapping[str, AgentGroup]
        self.teams: Mapping[str, tuple[str, ...]]
        self.state_size: int | None = None
        self.max_steps = MAX_STEPS if max_steps is None else max_steps
        check_arguments(scenario, num_envs, self.max_steps, actions)
        self.scenario = scenario
        self.num_envs = num_envs
        self.device = find_device(str(device))
        self._random = RandomStreams(self.device)
        with torch.no_grad(), self._random.everything():
            self._vmas = build(scenario, num_envs, self.device, actions, scenario_kwargs)
        self._arguments = {"max_steps": max_steps, "actions": actions, **scenario_kwargs}
        if self.device.type == "cuda":
            make_quiet(self._vmas.world)
        # Where time alone ends episodes, the host counts the steps and need not ask the device.
        self._ends_by_time = ends_by_time(self._vmas.scenario)
        self._host_steps = np.zeros(num_envs, np.int64)
        self._outputs = self._vmas.scenario
        if not isinstance(scenario, str):
            self._outputs = CheckedScenario(self._vmas, name_of(scenario))
        self._graph = graph
        self._find_groups(groups)
        self._steps = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._info = EpisodeInfo(num_envs, self.device)
        self._renderer = Renderer(self._vmas)

    def reset(self, seed: int) -> Observation:
        self._random.seed(seed)
        with torch.no_grad(), self._random.torch:
            self._steps = torch.zeros_like(self._steps)
            self._host_steps = np.zeros_like(self._host_steps)
            self._info.restart(None)
            return self._observation(self._reset_world())

    @torch.no_grad()
    def step(self, action: Mapping[str, Tensor]) -> Transition:
        with self._random.torch:
            self._advance(action)
            reward = self._grouped([self._reward(agent) for agent in self._vmas.agents])
            ended = self._observe()
            info = self._info.add([self._outputs.info(agent) for agent in self._vmas.agents])
            over = self._over()
            cut = (self._steps >= self.max_steps) & ~over
            done = over | cut
            next_obs = obs = self._observation(ended)
            if (rows := self._ended_rows(done)).any():
                obs = self._observation(self._restart(done, rows, ended))
        terminated, truncated = for_all_agents(self.groups, over), for_all_agents(self.groups, cut)
        return Transition(obs, next_obs, reward, terminated, truncated, done, info)

    def state_dict(self) -> dict[str, Any]:
        return {
            "vmas": vmas_state.save(self._roots(), self.device),
            "random": self._random.state_dict(),
            "steps": self._steps.clone(),
            "info": self._info.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        check_copies(state["steps"], self.num_envs)
        vmas_state.load(self._roots(), self.device, state["vmas"])
        self._random.load_state_dict(state["random"])
        self._steps = state["steps"].to(self.device, copy=True)
        self._host_steps = state["steps"].cpu().numpy().copy()
        self._info.load_state_dict(state["info"])

    def render(self, index: int = 0) -> np.ndarray:
        """Returns a picture of copy ``index``, ``[512, 512, 3]`` uint8, or wider where the scenario
        is."""
        check_index(index, self.num_envs)
        with torch.no_grad(), RandomStreams(self.device).everything():  # of its own
            return self._renderer.frame(index)

    def capturable(self) -> str:
        """Returns why a step cannot be recorded as a CUDA graph, ``""`` where it can.

        Asks a small copy of the environment on the CPU, by its calls. Restarts are not part of a
        step: they come after it, where the host says so.
        """
        if not self._ends_by_time:
            return f"{name_of(self.scenario)} ends episodes by itself, which the host has to read"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of its construction were shown already
            env = VmasEnv(self.scenario, 2, "cpu", graph=self._graph, **self._arguments)
        make_quiet(env._vmas.world)
        reads = find_reads(env)
        return f"a step of {name_of(self.scenario)} {reads[0]}" if reads else ""

    def close(self) -> None:
        self._renderer.close()

    def _find_groups(self, override: Mapping[str, Sequence[str]] | None) -> None:
        agents = {agent.name: agent for agent in self._vmas.agents}
        observations = [TensorSpec(_shape(space)) for space in self._vmas.observation_space]
        actions = [action_spec(space) for space in self._vmas.action_space]
        spaces = zip(agents, zip(observations, actions, strict=True), strict=True)
        groups = find_groups(dict(spaces), override)
        spec = self._graph.spec if self._graph else None
        self.groups = {name: replace(group, entities=spec) for name, group in groups.items()}
        self.teams = find_teams(self.groups)
        places = {name: place for place, name in enumerate(agents)}
        self._indices = {g: [places[a] for a in group.agents] for g, group in self.groups.items()}
        self._entities = Entities(self._vmas, self._indices, self._graph) if self._graph else None
        self._actions = {
            name: GroupActions([agents[a] for a in group.agents], group.action, self._vmas.world)
            for name, group in self.groups.items()
        }

    def _advance(self, action: Mapping[str, Tensor]) -> None:
        """Steps the world as VMAS's own ``step`` does, less its checks, which wait for the
        device."""
        scenario, world = self._vmas.scenario, self._vmas.world
        for name, decoder in self._actions.items():
            decoder.apply(action[name])
        for agent in world.agents:
            scenario.env_process_action(agent)
        scenario.pre_step()
        world.step()
        scenario.post_step()
        self._steps = self._steps + 1
        self._host_steps = self._host_steps + 1

    def _over(self) -> Tensor:
        """Returns where the scenario ends the episode, ``[B]`` bool."""
        if self._ends_by_time:
            return torch.zeros_like(self._steps, dtype=torch.bool)
        return self._outputs.done().clone()

    def _ended_rows(self, done: Tensor) -> np.ndarray:
        """Returns ``done [B]`` on the host.

        Waits for the device only where the scenario ends episodes by itself.
        """
        if self._ends_by_time:
            return self._host_steps >= self.max_steps
        return done.cpu().numpy()

    def _reward(self, agent: Any) -> Tensor:
        """Returns an agent's reward, ``[B]`` float32."""
        # A copy: scenarios add the next agent's reward to the same tensor.
        reward = self._outputs.reward(agent).reshape(self.num_envs)
        return reward.to(torch.float32, copy=True)

    def _observe(self) -> dict[str, Tensor]:
        """Returns all observations, ``[B, N, O]`` by group.

        Called once per step only: some scenarios draw noise, or remember what they observed.
        """
        return self._grouped([_flat(self._outputs.observation(a)) for a in self._vmas.agents])

    def _grouped(self, values: list[Tensor]) -> dict[str, Tensor]:
        return {
            name: torch.stack([values[index] for index in indices], dim=1)
            for name, indices in self._indices.items()
        }

    def _observation(self, parts: dict[str, Tensor]) -> Observation:
        graph = self._entities() if self._entities else None
        return Observation({n: GroupObservation(obs) for n, obs in parts.items()}, graph=graph)

    def _reset_world(self) -> dict[str, Tensor]:
        """Resets all copies; returns the first observations, by group."""
        with self._random.host:
            self._vmas.scenario.env_reset_world_at(env_index=None)
            return self._observe()

    def _restart(
        self, done: Tensor, rows: np.ndarray, ended: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Starts new episodes.

        Args:
            done: where, ``[B]`` bool.
            rows: the same on the host.
            ended: observations that the step led to, ``[B, N, O]`` by group.

        Returns:
            The first observations where ``done``, and ``ended`` elsewhere.
        """
        self._steps = self._steps.masked_fill(done, 0)
        self._host_steps = np.where(rows, 0, self._host_steps)
        self._info.restart(done)
        if rows.all():
            return self._reset_world()
        before = Snapshot(self._roots(), self.num_envs)
        fresh = self._reset_world()
        before.merge(done)
        return {name: torch.where(done[:, None, None], fresh[name], ended[name]) for name in ended}

    def _roots(self) -> list[Any]:
        """Returns the objects that everything is reachable from; entities too, so that references
        to them are distinct from their contents."""
        world = self._vmas.world
        return [world, *world.entities, self._vmas.scenario]


def _flat(obs: Any) -> Tensor:
    """Returns one agent's observation as a float32 copy; a dictionary's parts in order, ``[B,
    O]``."""
    if isinstance(obs, Tensor):
        return obs.to(torch.float32, copy=True)
    return torch.cat([_flat(part).flatten(1) for part in obs.values()], dim=-1)


def _shape(space: Any) -> tuple[int, ...]:
    """Returns the shape that ``_flat`` gives to observations of this space of the old ``gym``."""
    if space.shape is not None:
        return tuple(space.shape)
    return (sum(math.prod(_shape(part)) for part in space.spaces.values()),)
