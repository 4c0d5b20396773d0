"""Particle worlds behind the VectorEnv contract."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.groups import find_groups, find_teams
from envs.particle.controls import Controls, action_spec
from envs.particle.render import draw
from envs.particle.scenario import Scenario, State, check_count
from envs.particle.scenarios import SCENARIOS
from marl.errors import UserError, unknown
from marl.optimizer import compiled
from marl.types import (
    AgentGroup,
    GroupObservation,
    Observation,
    TensorSpec,
    Transition,
    tree_map,
)

MAX_CYCLES = 25  # steps of an episode, as in mpe2


class ParticleEnv:
    """``num_envs`` worlds of one scenario.

    Args:
        scenario: built, not yet bound to a device.
        max_cycles: steps after which an episode is truncated.
        continuous_actions: numbers in [0, 1] (nothing, left, right, down, up, message), clipped;
            else one choice among the moves, times the messages.
        legacy: OpenAI MPE's order of movement.
        compile: one graph for a step; then nothing waits for the device.
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
        self.state = self._fresh()
        self._find_groups(groups, continuous_actions)
        self._waits = self.device.type == "cpu" and not compile
        how = list(scenario.measures.values())
        adds = [float(word != "last") for word in how]
        self._adds = torch.tensor(adds, device=self.device, dtype=dtype)
        self._averages = torch.tensor([word == "mean" for word in how], device=self.device)
        self._advance = compiled(self.advance, whole=True) if compile else self.advance
        self._restart = compiled(self.restart, whole=True) if compile else self.restart

    def reset(self, seed: int) -> Observation:
        self._random.manual_seed(seed)
        self.state = self._fresh()
        return self._observation(self.observe(self.state))

    @torch.no_grad()
    def step(self, action: Mapping[str, Tensor]) -> Transition:
        moved, seen, reward, terminated, truncated, info = self._advance(
            self.state, action, self._noise(self.scenario.event_noise)
        )
        done = terminated | truncated
        next_obs = obs = self._observation(seen)
        self.state = moved
        drawn = self._drawn()  # at every step, so that what is drawn does not hang on who waits
        if not self._waits or done.any():
            self.state, seen = self._restart(moved, done, drawn)
            obs = self._observation(seen)
        ends = {
            name: terminated.unsqueeze(-1).expand(-1, group.size)
            for name, group in self.groups.items()
        }
        return Transition(obs, next_obs, reward, ends, truncated, done, info)

    # ------------------------------------------------------------------------------- pure functions

    def advance(
        self, state: State, action: Mapping[str, Tensor], noise: Tensor | None
    ) -> tuple[Any, ...]:
        """One step without restarts: the state, what is seen, rewards, ends, and measures."""
        control, message = self._controls.decode(action)
        position, velocity = self.scenario.physics.step(state.position, state.velocity, control)
        steps = state.steps + 1
        state = State(position, velocity, message, state.chosen, steps, state.totals)
        if noise is not None:
            state = self.scenario.happen(state, noise)
        outcome = self.scenario.outcome(state)
        truncated = steps >= self.max_cycles
        ended = outcome.terminated
        terminated = torch.zeros_like(truncated) if ended is None else ended & ~truncated
        reward = outcome.reward.to(torch.float32)
        rewards = {name: reward[:, rows] for name, rows in self._rows.items()}
        state, info = self._measured(state, outcome.measures)
        return state, self.observe(state), rewards, terminated, truncated, info

    def restart(self, state: State, done: Tensor, noise: Tensor) -> tuple[State, dict[str, Tensor]]:
        """New episodes where ``done``: the state and what is seen."""
        fresh = self.scenario.start(noise)
        state = tree_map(
            lambda new, old: torch.where(done.reshape(-1, *[1] * (old.dim() - 1)), new, old),
            fresh,
            state,
        )
        return state, self.observe(state)

    def observe(self, state: State) -> dict[str, Tensor]:
        """What every group sees, ``[B, N, O]`` float32."""
        seen = self.scenario.observe(state)
        if isinstance(seen, Tensor):
            return {name: seen[:, rows].float() for name, rows in self._rows.items()}
        return {name: _rows_of(seen, rows).float() for name, rows in self._rows.items()}

    def _measured(
        self, state: State, measures: Sequence[Tensor]
    ) -> tuple[State, dict[str, Tensor]]:
        """The state with this step's measures in its totals, and the episode's so far."""
        if not measures:
            return state, {}
        now = torch.stack([measure.to(self.dtype) for measure in measures], dim=-1)
        totals = state.totals * self._adds + now
        told = torch.where(self._averages, totals / state.steps.unsqueeze(-1), totals).float()
        info = dict(zip(self.scenario.measures, told.unbind(-1), strict=True))
        values = (state.position, state.velocity, state.message, state.chosen, state.steps)
        return State(*values, totals), info

    # ---------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        return {"state": vars(self.state).copy(), "random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = State(**{k: v.to(self.device, copy=True) for k, v in state["state"].items()})
        self._random.set_state(state["random"].cpu())

    def render(self, index: int = 0) -> np.ndarray:
        """World ``index`` as ``[512, 512, 3]`` uint8."""
        if not 0 <= index < self.num_envs:
            raise UserError(f"no environment {index} to render; there are {self.num_envs}")
        return draw(self.scenario, tree_map(lambda x: x[index].cpu(), self.state))

    def close(self) -> None: ...

    def _noise(self, size: int) -> Tensor | None:
        return self._uniform(size) if size else None

    def _drawn(self) -> Tensor:
        """What an episode begins with."""
        return self._uniform(self.scenario.noise_size)

    def _uniform(self, size: int) -> Tensor:
        shape = (self.num_envs, size)
        return torch.rand(shape, generator=self._random, device=self.device, dtype=self.dtype)

    def _fresh(self) -> State:
        return self.scenario.start(self._drawn())

    def _observation(self, seen: Mapping[str, Tensor]) -> Observation:
        return Observation({name: GroupObservation(obs) for name, obs in seen.items()})

    def _find_groups(self, override: Mapping[str, Sequence[str]] | None, continuous: bool) -> None:
        names = [body.name for body in self.scenario.agents]
        seen = self.scenario.observe(self.state)
        parts = [seen] if isinstance(seen, Tensor) else seen
        sizes = [part.shape[-1] for part in parts for _ in range(part.shape[1])]
        actions = [action_spec(b, self.scenario.channels, continuous) for b in self.scenario.agents]
        spaces = zip([TensorSpec((size,)) for size in sizes], actions, strict=True)
        self.groups: Mapping[str, AgentGroup] = find_groups(
            dict(zip(names, spaces, strict=True)), override
        )
        self.teams = find_teams(self.groups)
        self._rows = {name: self._slice(names, group) for name, group in self.groups.items()}
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


def make(
    name: str,
    num_envs: int,
    device: torch.device | str = "cpu",
    max_steps: int | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    **options: Any,
) -> ParticleEnv:
    """``mpe/<scenario>`` with its own options and ParticleEnv's.

    Raises:
        UserError: an unknown name or option, or a value out of range.
    """
    scenario = SCENARIOS.get(name.removeprefix("mpe/"))
    if scenario is None:
        raise unknown("task", name, names())
    if max_steps is not None:
        options["max_cycles"] = max_steps
    own = [p for p in inspect.signature(scenario).parameters if p not in ("args", "kwargs")]
    common = ("max_cycles", "continuous_actions", "legacy", "compile", "dtype")
    for option in options:
        if option not in (*own, *common):
            raise unknown("option", option, (*own, *common), where=f" of {name}")
    for switch in ("continuous_actions", "legacy", "compile", "terminate_on_success"):
        if not isinstance(options.get(switch, False), bool):
            raise UserError(f"{switch}={options[switch]!r} must be true or false")
    if not isinstance(options.get("dtype", torch.float32), torch.dtype):
        raise UserError(f"dtype={options['dtype']!r} is set from Python only, as torch.float64")
    built = scenario(**{k: v for k, v in options.items() if k in own})
    rest = {k: v for k, v in options.items() if k in common}
    return ParticleEnv(built, num_envs, device, groups=groups, **rest)


def names() -> list[str]:
    return [f"mpe/{name}" for name in SCENARIOS]
