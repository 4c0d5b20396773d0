"""Particle worlds behind the VectorEnv contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.envs.checks import check_count
from marl.envs.groups import find_groups, find_teams
from marl.envs.native import Measures, check_copies, check_index, for_all, restarted
from marl.envs.particle.controls import Controls, action_spec
from marl.envs.particle.render import draw
from marl.envs.particle.scenario import Scenario, State
from marl.errors import UserError
from marl.types import AgentGroup, GroupObservation, Observation, TensorSpec, Transition, tree_map
from marl.utils.compilation import compile_function

MAX_CYCLES = 25  # steps of an episode, as in mpe2


class ParticleEnv:
    """``num_envs`` worlds of one scenario.

    Args:
        scenario: built, not yet bound to a device.
        max_cycles: steps after which an episode is truncated.
        continuous_actions: numbers in [0, 1] (nothing, left, right, down, up, message), clipped;
            else one choice among the moves, times the messages.
        legacy: OpenAI MPE's order of movement and its rewards, as the scenarios tell; those that it
            never had (treasure, formation, line) only move so. All else is the same there, except
            that it never ends an episode, and that the choices here stay mpe2's: OpenAI's 1 to 4
            go right, left, up and down, and its messages are chosen apart from moves.
        compile: a step becomes one graph, and a restart another.
        groups: group -> agents, in place of those found by name.
        dtype: of the physics. What is observed and earned is float32.
    """

    state_size = None

    def __init__(
        self,
        scenario: Scenario,
        num_envs: int,
        device: torch.device | str = "cpu",
        max_cycles: int = MAX_CYCLES,
        continuous_actions: bool = False,
        legacy: bool = False,
        compile: bool = False,
        groups: Mapping[str, Sequence[str]] | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        check_count("num_envs", num_envs)
        check_count("max_cycles", max_cycles)
        self.scenario, self.num_envs, self.device = scenario, num_envs, torch.device(device)
        self.max_cycles, self.dtype = max_cycles, dtype
        scenario.bind(self.device, dtype, legacy)
        self._controls = Controls(scenario, continuous_actions, self.device, dtype)
        self._random = torch.Generator(self.device)
        self._none = torch.zeros(num_envs, 0, device=self.device, dtype=dtype)
        self.state = self._fresh()
        self._find_groups(groups, continuous_actions)
        self._waits = self.device.type == "cpu"  # where looking whether anything is done is free
        self._measures = Measures(scenario.measures, self.device, dtype)
        self._advance = compile_function(self.advance, whole=True) if compile else self.advance
        self._restart = compile_function(self.restart, whole=True) if compile else self.restart

    def reset(self, seed: int) -> Observation:
        self._random.manual_seed(seed)
        self.state = self._fresh()
        return self.observe(self.state)

    @torch.no_grad()
    def step(self, action: Mapping[str, Tensor]) -> Transition:
        noise = self._events()
        moved, obs, reward, over, cut, info = self._advance(self.state, action, noise)
        done, next_obs, self.state = over | cut, obs, moved
        if not self._waits or done.any():
            self.state, obs = self._restart(moved, done, self._drawn())
        terminated, truncated = for_all(self.groups, over), for_all(self.groups, cut)
        return Transition(obs, next_obs, reward, terminated, truncated, done, info)

    # ------------------------------------------------------------------------------- pure functions

    def advance(self, state: State, action: Mapping[str, Tensor], noise: Tensor) -> tuple[Any, ...]:
        """One step without restarts: the state, the observation, rewards, ends, and measures."""
        control, message = self._controls.decode(action)
        position, velocity = self.scenario.physics.step(state.position, state.velocity, control)
        steps = state.steps + 1
        state = State(position, velocity, message, state.chosen, steps, state.totals)
        state = self.scenario.happen(state, noise)
        outcome = self.scenario.outcome(state)
        truncated = steps >= self.max_cycles
        ended = outcome.terminated
        terminated = torch.zeros_like(truncated) if ended is None else ended & ~truncated
        reward = outcome.reward.to(torch.float32)
        rewards = {name: reward[:, rows] for name, rows in self._rows.items()}
        totals = self._measures.add(state.totals, outcome.measures)
        info = self._measures.told(totals, state.steps)
        values = (state.position, state.velocity, state.message, state.chosen, state.steps)
        state = State(*values, totals)
        return state, self.observe(state), rewards, terminated, truncated, info

    def restart(self, state: State, done: Tensor, noise: Tensor) -> tuple[State, Observation]:
        """New episodes where ``done``: the state and the observation."""
        state = restarted(state, self.scenario.start(noise), done)
        return state, self.observe(state)

    def observe(self, state: State) -> Observation:
        """What every group sees, ``[B, N, O]`` float32, and the graph of all where there is one."""
        seen = self.scenario.observe(state)
        parts = (seen,) if isinstance(seen, Tensor) else seen
        groups = {
            name: GroupObservation(_rows_of(parts, rows).float())
            for name, rows in self._rows.items()
        }
        graph = self.scenario.graph(state)
        return Observation(groups, graph=graph and replace(graph, ego=self._ego))

    # ---------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        return {"state": vars(self.state).copy(), "random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises UserError where the state is of another number of worlds."""
        check_copies(state["state"]["steps"], self.num_envs)
        self.state = State(**{k: v.to(self.device, copy=True) for k, v in state["state"].items()})
        self._random.set_state(state["random"].cpu())

    def render(self, index: int = 0) -> np.ndarray:
        """World ``index`` as ``[512, 512, 3]`` uint8."""
        check_index(index, self.num_envs)
        return draw(self.scenario, tree_map(lambda x: x[index].cpu(), self.state))

    def close(self) -> None: ...

    def _events(self) -> Tensor:
        """What a step needs."""
        return self._uniform(self.scenario.event_noise) if self.scenario.event_noise else self._none

    def _drawn(self) -> Tensor:
        """What an episode begins with."""
        return self._uniform(self.scenario.noise_size)

    def _uniform(self, size: int) -> Tensor:
        shape = (self.num_envs, size)
        return torch.rand(shape, generator=self._random, device=self.device, dtype=self.dtype)

    def _fresh(self) -> State:
        return self.scenario.start(self._drawn())

    def _find_groups(self, override: Mapping[str, Sequence[str]] | None, continuous: bool) -> None:
        names = [body.name for body in self.scenario.agents]
        seen = self.scenario.observe(self.state)
        parts = [seen] if isinstance(seen, Tensor) else seen
        sizes = [part.shape[-1] for part in parts for _ in range(part.shape[1])]
        actions = [action_spec(b, self.scenario.channels, continuous) for b in self.scenario.agents]
        spaces = zip([TensorSpec((size,)) for size in sizes], actions, strict=True)
        found = find_groups(dict(zip(names, spaces, strict=True)), override)
        entities = self.scenario.entities()
        self.groups: Mapping[str, AgentGroup] = {
            name: replace(group, entities=entities) for name, group in found.items()
        }
        self.teams = find_teams(self.groups)
        self._rows = {name: self._slice(names, group) for name, group in self.groups.items()}
        self._ego = tuple((name, range(r.start, r.stop)) for name, r in self._rows.items())
        self._controls.find(self._rows, {n: g.action for n, g in self.groups.items()})

    @staticmethod
    def _slice(names: list[str], group: AgentGroup) -> slice:
        first = names.index(group.agents[0])
        if names[first : first + group.size] != list(group.agents):
            raise UserError(
                f"task.groups: the agents of {group.name!r} must follow each other as in {names}"
            )
        return slice(first, first + group.size)


def _rows_of(parts: Sequence[Tensor], rows: slice) -> Tensor:
    """Agents ``rows`` from parts that hold consecutive agents."""
    first = 0
    for part in parts:
        if rows.start < first + part.shape[1]:
            return part[:, rows.start - first : rows.stop - first]
        first += part.shape[1]
    raise AssertionError(f"no part holds the agents from {rows.start} on")
