"""The environment of all particle worlds: ``mpe/<scenario>`` and ``navigation/<task>``.

What the worlds have in common; each scenario's module has the rest:

- **Units**: metres, seconds, newtons; a step is 0.1 s (``marl.envs.particle.physics``).
- **Actions**: Discrete(5), nothing, left, right, down, up; of an agent that talks times the C
  messages, the move varying fastest; Discrete(C) where it cannot move. With
  ``continuous_actions=true`` a vector in [0, 1]: nothing, left, right, down, up, then C numbers of
  the message; what an agent cannot do is left out.
- **Episode**: 25 steps (``max_cycles``, ``task.max_steps``), then a truncation.
- **Options** of every world, by ``task.kwargs``: ``max_cycles``, ``continuous_actions``,
  ``legacy``, ``compile``.

Sources: Lowe et al. 2017, and mpe2 1.1.1 (PettingZoo's MPE), with which observations, rewards and
ends agree in every step from the same state. Random numbers differ: worlds are drawn in a batch,
and restart by themselves.

With ``legacy=true`` bodies move and agents earn as in OpenAI's MPE; each scenario states its legacy
reward. Two things stay mpe2's: choices (OpenAI's 1 to 4 go right, left, up and down, and its
messages are chosen apart from moves), and ends (OpenAI's MPE never ends an episode). Worlds that
OpenAI's MPE never had (treasure, formation, line) only move so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.envs.checks import check_count
from marl.envs.groups import find_groups, find_teams
from marl.envs.native import (
    Beginnings,
    Measures,
    check_copies,
    check_index,
    for_all_agents,
    restart_where,
)
from marl.envs.particle.controls import Controls, action_spec
from marl.envs.particle.render import draw
from marl.envs.particle.scenario import Scenario, State
from marl.errors import UserError
from marl.types import AgentGroup, GroupObservation, Observation, TensorSpec, Transition, tree_map
from marl.utils.compilation import compile_function

MAX_CYCLES = 25  # steps of an episode, as in mpe2


class ParticleEnv:
    """Worlds of one scenario.

    Args:
        scenario: built, not yet bound to a device.
        num_envs: B, the number of worlds.
        device: where they run.
        max_cycles: steps after which an episode is truncated.
        continuous_actions: whether actions are vectors in [0, 1], clipped, rather than choices.
        legacy: whether bodies move and agents earn as in OpenAI's MPE.
        compile: whether a step is compiled into one graph, and a restart into another.
        groups: group -> agents, in place of groups by name and spaces.
        dtype: of the physics; observations and rewards are float32.

    Raises:
        UserError: a count out of range, or groups whose agents do not follow each other.
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
        self._may_terminate = scenario.outcome(self.state).terminated is not None
        self._checks_ends = self.device.type == "cpu"  # where checking for ends is cheap
        self._measures = Measures(scenario.measures, self.device, dtype)
        bodies = len(scenario.agents) + len(scenario.landmarks)
        self._beginnings = Beginnings(self._begin, most=2**26 // bodies**2)
        self._advance = compile_function(self.advance, whole=True) if compile else self.advance
        self._restart = compile_function(self.restart, whole=True) if compile else self.restart

    def reset(self, seed: int) -> Observation:
        self._random.manual_seed(seed)
        self.state = self._fresh()
        return self.observe(self.state)

    @torch.no_grad()
    def step(self, action: Mapping[str, Tensor]) -> Transition:
        noise = self._events()
        state, obs, reward, over, cut, info = self._advance(self.state, action, noise)
        done, next_obs, self.state = over | cut, obs, state
        if not self._checks_ends or done.any():
            self.state, obs = self._restart(state, done, self._start_noise())
        return self._transition(obs, next_obs, reward, over, cut, info)

    def _transition(
        self, obs: Observation, next_obs: Observation, reward: Mapping[str, Tensor],
        over: Tensor, cut: Tensor, info: Mapping[str, Tensor],
    ) -> Transition:  # fmt: skip
        ends = for_all_agents(self.groups, over), for_all_agents(self.groups, cut)
        return Transition(obs, next_obs, reward, *ends, over | cut, info)

    # ------------------------------------------------------------------------------- pure functions

    def advance(self, state: State, action: Mapping[str, Tensor], noise: Tensor) -> tuple[Any, ...]:
        """Computes one step without restarts.

        Args:
            state: the worlds.
            action: ``[B, N]`` or ``[B, N, A]`` by group.
            noise: uniform in [0, 1), ``[B, event_noise]``.

        Returns:
            The state, the observation, rewards by group ``[B, N]``, whether an episode terminated
            and whether it is truncated, ``[B]``, and measures by name ``[B]``.
        """
        control, message = self._controls.decode(action)
        position, velocity = self.scenario.physics.step(state.position, state.velocity, control)
        steps = state.steps + 1
        state = State(position, velocity, message, state.chosen, steps, state.totals)
        state = self.scenario.apply_events(state, noise)
        outcome = self.scenario.outcome(state)
        truncated = steps >= self.max_cycles
        ended = outcome.terminated
        terminated = torch.zeros_like(truncated) if ended is None else ended & ~truncated
        reward = outcome.reward.to(torch.float32)
        rewards = {name: reward[:, rows] for name, rows in self._rows.items()}
        totals = self._measures.add(state.totals, outcome.measures)
        info = self._measures.by_name(totals, state.steps)
        values = (state.position, state.velocity, state.message, state.chosen, state.steps)
        state = State(*values, totals)
        return state, self.observe(state), rewards, terminated, truncated, info

    def restart(self, state: State, done: Tensor, noise: Tensor) -> tuple[State, Observation]:
        """Starts new episodes.

        Args:
            state: the worlds.
            done: where, ``[B]`` bool.
            noise: uniform in [0, 1), ``[B, noise_size]``.

        Returns:
            The state and the observation.
        """
        state = restart_where(done, state, self.scenario.start(noise))
        return state, self.observe(state)

    def observe(self, state: State) -> Observation:
        """Returns the observations of all groups, ``[B, N, O]`` float32, and the graph if any."""
        obs = self.scenario.observe(state)
        parts = (obs,) if isinstance(obs, Tensor) else obs
        groups = {
            name: GroupObservation(_rows_of(parts, rows).float())
            for name, rows in self._rows.items()
        }
        graph = self.scenario.graph(state)
        return Observation(groups, graph=graph and replace(graph, ego=self._ego))

    # ------------------------------------------------------------------- as ``marl.env.PureEnv``

    @property
    def pure_state(self) -> State:
        return self.state

    @pure_state.setter
    def pure_state(self, state: State) -> None:
        self.state = state

    def draw_ahead(self, steps: int) -> Any:
        """Draws what chance decides in the next steps: their events, and beginnings of episodes.

        Where only time ends episodes, a CPU draws beginnings for the steps that end one, as
        ``step`` does; elsewhere for every step.
        """
        events, noise, ends = [], [], self._ends_ahead(steps)
        for step in range(steps):
            events.append(self._events())
            if ends[step]:
                noise.append(self._start_noise())
        fresh = self._beginnings.of(noise, ends, lambda: (self.state, self.observe(self.state)))
        return torch.stack(events), fresh

    def pure_step(
        self, state: State, action: Mapping[str, Tensor], chance: Any
    ) -> tuple[State, Transition]:
        events, fresh = chance
        state, next_obs, reward, over, cut, info = self.advance(state, action, events)
        state, obs = restart_where(over | cut, (state, next_obs), fresh)
        return state, self._transition(obs, next_obs, reward, over, cut, info)

    def _ends_ahead(self, steps: int) -> list[bool]:
        """Returns in which of the next steps an episode may end."""
        if not self._checks_ends or self._may_terminate:
            return [True] * steps
        ahead = torch.arange(1, steps + 1).unsqueeze(-1)
        return ((self.state.steps + ahead) % self.max_cycles == 0).any(-1).tolist()

    def _begin(self, noise: Tensor) -> tuple[State, Observation]:
        state = self.scenario.start(noise)
        return state, self.observe(state)

    # ---------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        return {"state": vars(self.state).copy(), "random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state of ``state_dict``; raises UserError for another number of worlds."""
        check_copies(state["state"]["steps"], self.num_envs)
        self.state = State(**{k: v.to(self.device, copy=True) for k, v in state["state"].items()})
        self._random.set_state(state["random"].cpu())

    def render(self, index: int = 0) -> np.ndarray:
        """Returns a picture of world ``index``, ``[512, 512, 3]`` uint8."""
        check_index(index, self.num_envs)
        return draw(self.scenario, tree_map(lambda x: x[index].cpu(), self.state))

    def close(self) -> None: ...

    def _events(self) -> Tensor:
        """Draws the noise of a step."""
        return self._uniform(self.scenario.event_noise) if self.scenario.event_noise else self._none

    def _start_noise(self) -> Tensor:
        """Draws the noise that an episode starts from."""
        return self._uniform(self.scenario.noise_size)

    def _uniform(self, size: int) -> Tensor:
        shape = (self.num_envs, size)
        return torch.rand(shape, generator=self._random, device=self.device, dtype=self.dtype)

    def _fresh(self) -> State:
        return self.scenario.start(self._start_noise())

    def _find_groups(self, override: Mapping[str, Sequence[str]] | None, continuous: bool) -> None:
        names = [body.name for body in self.scenario.agents]
        obs = self.scenario.observe(self.state)
        parts = [obs] if isinstance(obs, Tensor) else obs
        sizes = [part.shape[-1] for part in parts for _ in range(part.shape[1])]
        actions = [action_spec(b, self.scenario.channels, continuous) for b in self.scenario.agents]
        spaces = zip([TensorSpec((size,)) for size in sizes], actions, strict=True)
        groups = find_groups(dict(zip(names, spaces, strict=True)), override)
        entities = self.scenario.entities()
        self.groups: Mapping[str, AgentGroup] = {
            name: replace(group, entities=entities) for name, group in groups.items()
        }
        self.teams = find_teams(self.groups)
        self._rows = {name: self._slice(names, group) for name, group in self.groups.items()}
        self._ego = tuple((name, range(r.start, r.stop)) for name, r in self._rows.items())
        self._controls.set_groups(self._rows, {n: g.action for n, g in self.groups.items()})

    @staticmethod
    def _slice(names: list[str], group: AgentGroup) -> slice:
        first = names.index(group.agents[0])
        if names[first : first + group.size] != list(group.agents):
            raise UserError(
                f"task.groups: the agents of {group.name!r} must follow each other as in {names}"
            )
        return slice(first, first + group.size)


def _rows_of(parts: Sequence[Tensor], rows: slice) -> Tensor:
    """Returns agents ``rows`` of parts that hold consecutive agents."""
    first = 0
    for part in parts:
        if rows.start < first + part.shape[1]:
            return part[:, rows.start - first : rows.stop - first]
        first += part.shape[1]
    raise AssertionError(f"no part holds the agents from {rows.start} on")
