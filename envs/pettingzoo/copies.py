"""Copies of a PettingZoo parallel environment, stepped in plain numpy: deaths, ends and resets.

An episode ends when no agent is left in ``env.agents``, or when all of these have ended. Runs in
the training process or in a worker, and imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import numpy as np

from marl.envs.drawing import NO_RENDER, why_not_drawn
from marl.envs.pettingzoo.actions import Bounded
from marl.envs.pettingzoo.creation import create, picture
from marl.envs.pettingzoo.finite import FiniteCheck
from marl.envs.pettingzoo.layout import (
    Agent,
    Arrays,
    Factory,
    Frame,
    GroupArrays,
    GroupLayout,
    Layout,
)
from marl.envs.pettingzoo.masks import find_mask, write_mask
from marl.envs.pettingzoo.randomness import Streams
from marl.envs.pettingzoo.report import Report, add_infos, check_rewards
from marl.errors import EnvironmentFault

EVERYONE = "__all__"  # RLlib's key for all agents, in terminations and truncations


class Copies:
    """The copies ``rows`` of an environment; each reads and writes its own row of ``arrays``.

    Args:
        make: makes one environment.
        layout: sizes of the arrays, and encoders and decoders of every agent.
        arrays: memory that actions are read from and results are written to.
        rows: which copies, of all B.
        seed: of global random numbers that are drawn while the copies are made; after a reset each
            copy has its own.
    """

    def __init__(
        self, make: Factory, layout: Layout, arrays: Arrays, rows: range, seed: int = 0
    ) -> None:
        self.layout, self.arrays, self.rows = layout, arrays, rows
        self._groups = tuple(zip(layout.groups, arrays.groups, strict=True))
        self._possible_agents = {agent for group in layout.groups for agent in group.agents}
        self._streams = Streams(rows, seed)
        self._envs: dict[int, Any] = {}
        with self._streams.installed():
            for row in rows:
                self._streams.switch(row)
                self._envs[row] = create(make)
        self._step_count = dict.fromkeys(rows, 0)  # of the episode that continues
        self._last_step = dict.fromkeys(rows, 0)  # of the episode that the last step belonged to
        self._alive: dict[int, set[Agent]] = {}  # the agents that act next
        self._totals: dict[int, dict[str, float]] = {}  # of the episode's infos so far
        self._finite = FiniteCheck(layout, arrays, rows)
        self._report = Report()
        self._warned = False  # about a mask that allows nothing

    def reset(self) -> Report:
        self._last_step = dict.fromkeys(self.rows, 0)
        return self._for_all(self._begin)

    def step(self) -> Report:
        return self._for_all(self._step)

    def _for_all(self, function: Callable[[int], None]) -> Report:
        """Calls ``function`` for every copy; raises EnvironmentFault with the step and the copy."""
        self._report = Report()
        with self._streams.installed():
            for row in self.rows:
                self._streams.switch(row)
                try:
                    function(row)
                except EnvironmentFault as fault:
                    raise EnvironmentFault(
                        f"{_when(row, self._step_count[row])}, {fault}"
                    ) from None
        if fault := self._finite.find_fault():
            row = fault.row
            when = _when(row, (self._step_count if fault.after_restart else self._last_step)[row])
            raise EnvironmentFault(f"{when}, {fault.description}; expected a finite number")
        return self._report

    def render(self, index: int) -> np.ndarray:
        with self._streams.installed(index):
            return picture(self._envs[index])

    def cannot_draw(self) -> str:
        """Returns why the first copy cannot draw itself, ``""`` where it can; after a reset."""
        if not hasattr(self._envs[self.rows[0]], "render"):
            return NO_RENDER
        try:
            self.render(self.rows[0])
        except Exception as error:  # whatever an environment raises that cannot draw itself
            return why_not_drawn(error)
        return ""

    def close(self) -> None:
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    # ---------------------------------------------------------------------- one copy, one step

    def _begin(self, row: int) -> None:
        """Starts an episode from the seed in the arrays."""
        seed = int(self.arrays.seed[row])
        self._streams.seed(row, seed)
        self._streams.switch(row)
        self._start(row, seed)

    def _start(self, row: int, seed: int | None = None) -> None:
        """Resets a copy; without a seed its random numbers continue."""
        env = self._envs[row]
        observations, infos = env.reset(seed=seed)
        if not env.agents:
            raise RuntimeError("the environment has no agents after reset")
        self._check_known(env.agents)
        self._alive[row] = set(env.agents)
        self._step_count[row] = 0
        self._totals[row] = {}
        for group, arrays in self._groups:
            self._write_now(group, arrays, row, env.agents, observations, infos)
        self._write_state(row, self.arrays.state)

    def _step(self, row: int) -> None:
        env, arrays = self._envs[row], self.arrays
        observations, rewards, terminations, truncations, infos = env.step(self._actions(row))
        acted = self._alive[row]
        terminated, truncated = ends(acted | set(env.agents), terminations, truncations)
        remaining = set(env.agents) - terminated - truncated
        self._check_known(remaining)
        self._alive[row] = remaining
        self._step_count[row] = self._last_step[row] = self._step_count[row] + 1
        over = not remaining
        arrays.done[row] = done = over or self._step_count[row] == self.layout.max_steps
        truncated = (truncated & acted) | (remaining if done else set())
        successors = remaining | truncated  # the agents whose return has a future, played or not
        for group, group_arrays in self._groups:
            _write_outcome(group, group_arrays, row, rewards, acted - successors, truncated)
            if done or truncated:
                # Where agents cannot die, even an ended episode shows them all.
                present = observations if over and not group.mortal else successors
                _write_frame(group, group_arrays.final, row, present, observations, infos)
            if not done:
                self._write_now(group, group_arrays, row, remaining, observations, infos)
        self._write_state(row, arrays.final_state if done else arrays.state)
        add_infos(self._totals[row], infos, self._possible_agents)
        if done:
            self._report.infos[row] = self._totals[row]
            self._start(row)

    def _actions(self, row: int) -> dict[Agent, Any]:
        """Returns the actions of the agents that the environment asks for."""
        actions: dict[Agent, Any] = {}
        for group, arrays in self._groups:
            values = arrays.action[row]
            numbers = values if isinstance(group.decoders[0], Bounded) else values.tolist()
            for agent, decoder, number in zip(group.agents, group.decoders, numbers, strict=True):
                actions[agent] = decoder.decode(number)
        return {agent: actions[agent] for agent in self._envs[row].agents}

    def _write_state(self, row: int, out: np.ndarray) -> None:
        if self.layout.state_size is not None:
            out[row] = np.ravel(self._envs[row].state())

    def _write_now(
        self,
        group: GroupLayout,
        arrays: GroupArrays,
        row: int,
        present: Container[Agent],
        observations: Mapping[Agent, Any],
        infos: Mapping[Agent, Any],
    ) -> None:
        """Writes the observations to act on next; warns once of a mask that allows nothing."""
        blocked = _write_frame(group, arrays.current, row, present, observations, infos)
        if blocked and not self._warned:
            self._warned = True
            self._report.warnings.append(
                f"{_when(row, self._step_count[row])}, the action mask of agent {blocked[0]!r} "
                "allows nothing; expected at least one allowed action. Here and wherever it does, "
                "all of the agent's actions count as allowed"
            )

    def _check_known(self, agents: Iterable[Agent]) -> None:
        for agent in agents:
            if agent not in self._possible_agents:
                raise RuntimeError(
                    f"agent {agent!r} appeared, which is not in possible_agents; name all agents "
                    "there"
                )


def _when(row: int, step: int) -> str:
    return f"{f'in step {step}' if step else 'at the start'} of an episode of copy {row}"


def ends(
    agents: set[Agent], terminations: Mapping[Agent, bool], truncations: Mapping[Agent, bool]
) -> tuple[set[Agent], set[Agent]]:
    """Returns the agents that are terminated, and those that are truncated but not terminated.

    Args:
        agents: who may have ended.
        terminations: the environment's flags, by agent; RLlib's key ``__all__`` stands for the
            agents whose own flag is not set.
        truncations: the environment's flags likewise.
    """
    terminated = {a for a in agents if terminations.get(a)}
    truncated = {a for a in agents if truncations.get(a)} - terminated
    if terminations.get(EVERYONE):
        terminated = agents - truncated
    elif truncations.get(EVERYONE):
        truncated = agents - terminated
    return terminated, truncated


def _write_outcome(
    group: GroupLayout,
    arrays: GroupArrays,
    row: int,
    rewards: Mapping[Agent, float],
    terminated: Container[Agent],
    truncated: Container[Agent],
) -> None:
    """Writes the rewards of all agents, absent ones included, and how agents ended."""
    values = [rewards.get(a, 0.0) for a in group.agents]
    try:
        arrays.reward[row] = values
    except (TypeError, ValueError):
        check_rewards(dict(zip(group.agents, values, strict=True)))
        raise
    arrays.terminated[row] = [a in terminated for a in group.agents]
    arrays.truncated[row] = [a in truncated for a in group.agents]


def _write_frame(
    group: GroupLayout,
    frame: Frame,
    row: int,
    present: Container[Agent],
    observations: Mapping[Agent, Any],
    infos: Mapping[Agent, Any],
) -> list[Agent]:
    """Writes observations and masks of the agents that are ``present``, zeros for the others.

    Returns:
        The agents whose mask allows nothing.

    Raises:
        EnvironmentFault: no observation, one outside of its space, or a mask in a group that had
            none when the environment was probed.
    """
    blocked, has_choices = [], not isinstance(group.decoders[0], Bounded)
    for n, agent in enumerate(group.agents):
        is_present = agent in present
        frame.alive[row, n] = is_present
        if is_present:
            _write_observation(group, frame.obs[row], n, observations)
        elif group.mortal:
            frame.obs[row, n] = 0
        else:
            raise RuntimeError(
                f"agent {agent!r} is absent from an environment declared mortal=False; leave that "
                "out"
            )
        if has_choices:
            mask = find_mask(observations[agent], infos.get(agent)) if is_present else None
            if not _write_agent_mask(group, frame.mask[row, n], agent, mask):
                blocked.append(agent)
    return blocked


def _write_observation(
    group: GroupLayout, obs: np.ndarray, n: int, observations: Mapping[Agent, Any]
) -> None:
    """Writes the observation of the group's n-th agent into ``obs [N, *O]``."""
    agent = group.agents[n]
    if agent not in observations:
        raise EnvironmentFault(
            f"agent {agent!r} has no observation; expected one of everyone who acts next or was "
            "truncated"
        )
    group.encoders[n].write(observations[agent], obs[n])


def _write_agent_mask(group: GroupLayout, out: np.ndarray, agent: Agent, mask: Any) -> bool:
    """Writes one agent's mask where its group has masks; returns False where it allows nothing."""
    if group.nvec:
        return write_mask(mask, group.nvec, out)
    if mask is not None:
        raise EnvironmentFault(
            f"agent {agent!r} has an action mask, and none of its group had one in the first "
            "steps; give masks from reset on, all True where everything is allowed"
        )
    return True
