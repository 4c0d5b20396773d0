"""Steps copies of a PettingZoo parallel environment in plain numpy: deaths, ends and resets.

An episode is over when no agent is left in ``env.agents``, or when all that are have ended. Runs in
the training process or in a worker, and imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import numpy as np

from marl.envs.pettingzoo.factories import create, picture
from marl.envs.pettingzoo.finite import Watch
from marl.envs.pettingzoo.layout import (
    Agent,
    Arrays,
    Factory,
    Frame,
    GroupArrays,
    GroupLayout,
    Layout,
)
from marl.envs.pettingzoo.randomness import Streams
from marl.envs.pettingzoo.report import Report, add_infos, check_paid
from marl.envs.pettingzoo.spaces import Bounded, find_mask, write_mask
from marl.errors import EnvironmentFault

EVERYONE = "__all__"  # RLlib's word for all agents, in what tells who ended


class Copies:
    """The copies ``rows`` of an environment; each reads and writes its own row of ``arrays``. What
    they draw from global generators while they are made hangs on ``seed``, later on their own."""

    def __init__(
        self, make: Factory, layout: Layout, arrays: Arrays, rows: range, seed: int = 0
    ) -> None:
        self.layout, self.arrays, self.rows = layout, arrays, rows
        self._groups = tuple(zip(layout.groups, arrays.groups, strict=True))
        self._known = {agent for group in layout.groups for agent in group.agents}
        self._streams = Streams(rows, seed)
        self._envs: dict[int, Any] = {}
        with self._streams.lent():
            for row in rows:
                self._streams.switch(row)
                self._envs[row] = create(make)
        self._age = dict.fromkeys(rows, 0)  # steps of the episode that is to go on
        self._played = dict.fromkeys(rows, 0)  # and of the one that the last step was of
        self._living: dict[int, set[Agent]] = {}  # who acts next
        self._totals: dict[int, dict[str, float]] = {}  # of the infos so far
        self._watch = Watch(layout, arrays, rows)
        self._report = Report()
        self._warned = False  # of a mask that allows nothing

    def reset(self) -> Report:
        self._played = dict.fromkeys(self.rows, 0)
        return self._for_all(self._begin)

    def step(self) -> Report:
        return self._for_all(self._step)

    def _for_all(self, function: Callable[[int], None]) -> Report:
        """Calls it for every copy.

        Raises:
            EnvironmentFault: naming the step and the copy.
        """
        self._report = Report()
        with self._streams.lent():
            for row in self.rows:
                self._streams.switch(row)
                try:
                    function(row)
                except EnvironmentFault as fault:
                    raise EnvironmentFault(f"{_when(row, self._age[row])}, {fault}") from None
        if fault := self._watch.find():
            row = fault.row
            when = _when(row, (self._age if fault.after else self._played)[row])
            raise EnvironmentFault(f"{when}, {fault.fact}; expected a finite number")
        return self._report

    def render(self, index: int) -> np.ndarray:
        with self._streams.lent(index):
            return picture(self._envs[index])

    def cannot_draw(self) -> str:
        """Returns why the first copy draws nothing, ``""`` where it does; after a reset."""
        try:
            self.render(self.rows[0])
        except Exception as error:  # whatever an environment raises that cannot draw itself
            return " ".join(str(error).split()) or type(error).__name__
        return ""

    def close(self) -> None:
        for env in self._envs.values():
            env.close()
        self._envs.clear()

    # ---------------------------------------------------------------------- one copy, one step

    def _begin(self, row: int) -> None:
        seed = int(self.arrays.seed[row])
        self._streams.seed(row, seed)
        self._streams.switch(row)
        self._start(row, seed)

    def _start(self, row: int, seed: int | None = None) -> None:
        env = self._envs[row]
        observations, infos = env.reset(seed=seed)  # without a seed, its random numbers go on
        if not env.agents:
            raise RuntimeError("the environment has no agents after reset")
        self._check_known(env.agents)
        self._living[row] = set(env.agents)
        self._age[row] = 0
        self._totals[row] = {}
        for group, arrays in self._groups:
            self._write_now(group, arrays, row, env.agents, observations, infos)
        self._write_state(row, self.arrays.state)

    def _step(self, row: int) -> None:
        env, arrays = self._envs[row], self.arrays
        observations, rewards, terminations, truncations, infos = env.step(self._actions(row))
        acted = self._living[row]
        died, cut = ends(acted | set(env.agents), terminations, truncations)
        left = set(env.agents) - died - cut
        self._check_known(left)
        self._living[row] = left
        self._age[row] = self._played[row] = self._age[row] + 1
        over = not left
        arrays.done[row] = done = over or self._age[row] == self.layout.max_steps
        cut = (cut & acted) | (left if done else set())
        lasting = left | cut  # who has a future, lived or not
        for group, group_arrays in self._groups:
            _write_outcome(group, group_arrays, row, rewards, acted - lasting, cut)
            if done or cut:
                # Where agents cannot die, even an ended episode shows them all.
                seen = observations if over and not group.mortal else lasting
                _write_frame(group, group_arrays.final, row, seen, observations, infos)
            if not done:
                self._write_now(group, group_arrays, row, left, observations, infos)
        self._write_state(row, arrays.final_state if done else arrays.state)
        add_infos(self._totals[row], infos, self._known)
        if done:
            self._report.infos[row] = self._totals[row]
            self._start(row)

    def _actions(self, row: int) -> dict[Agent, Any]:
        chosen: dict[Agent, Any] = {}
        for group, arrays in self._groups:
            values = arrays.action[row]
            numbers = values if isinstance(group.decoders[0], Bounded) else values.tolist()
            for agent, decoder, number in zip(group.agents, group.decoders, numbers, strict=True):
                chosen[agent] = decoder.decode(number)
        return {agent: chosen[agent] for agent in self._envs[row].agents}

    def _write_state(self, row: int, out: np.ndarray) -> None:
        if self.layout.state_size is not None:
            out[row] = np.ravel(self._envs[row].state())

    def _write_now(
        self,
        group: GroupLayout,
        arrays: GroupArrays,
        row: int,
        seen: Container[Agent],
        observations: Mapping[Agent, Any],
        infos: Mapping[Agent, Any],
    ) -> None:
        """What is acted on next. The first mask that allows nothing is told, once."""
        blocked = _write_frame(group, arrays.now, row, seen, observations, infos)
        if blocked and not self._warned:
            self._warned = True
            self._report.warnings.append(
                f"{_when(row, self._age[row])}, the action mask of agent {blocked[0]!r} allows "
                "nothing; here and wherever it does, all the agent's actions are taken as allowed"
            )

    def _check_known(self, agents: Iterable[Agent]) -> None:
        for agent in agents:
            if agent not in self._known:
                raise RuntimeError(f"agent {agent!r} appeared, which is not in possible_agents")


def _when(row: int, step: int) -> str:
    return f"{f'in step {step}' if step else 'at the start'} of an episode of copy {row}"


def ends(
    agents: set[Agent], terminations: Mapping[Agent, bool], truncations: Mapping[Agent, bool]
) -> tuple[set[Agent], set[Agent]]:
    """Who of ``agents`` is terminated, and who is truncated and not terminated. RLlib's key
    ``__all__`` speaks for those that are not told apart."""
    died = {a for a in agents if terminations.get(a)}
    cut = {a for a in agents if truncations.get(a)} - died
    if terminations.get(EVERYONE):
        died = agents - cut
    elif truncations.get(EVERYONE):
        cut = agents - died
    return died, cut


def _write_outcome(
    group: GroupLayout,
    arrays: GroupArrays,
    row: int,
    rewards: Mapping[Agent, float],
    died: Container[Agent],
    cut: Container[Agent],
) -> None:
    """What everyone is paid, those too who are gone; who died, and who was cut off."""
    paid = [rewards.get(a, 0.0) for a in group.agents]
    try:
        arrays.reward[row] = paid
    except (TypeError, ValueError):
        check_paid(dict(zip(group.agents, paid, strict=True)))
        raise
    arrays.terminated[row] = [a in died for a in group.agents]
    arrays.truncated[row] = [a in cut for a in group.agents]


def _write_frame(
    group: GroupLayout,
    frame: Frame,
    row: int,
    seen: Container[Agent],
    observations: Mapping[Agent, Any],
    infos: Mapping[Agent, Any],
) -> list[Agent]:
    """What those who are ``seen`` observe and may do. Returns whose mask allows nothing.

    Raises:
        EnvironmentFault: no observation, one outside of its space, or a mask of a group that had
            none when the environment was probed.
    """
    obs, mask, blocked = frame.obs[row], frame.mask[row], []
    unmasked = not group.nvec and not isinstance(group.decoders[0], Bounded)
    for n, agent in enumerate(group.agents):
        here = agent in seen
        frame.alive[row, n] = here
        if here:
            if agent not in observations:
                raise EnvironmentFault(
                    f"agent {agent!r} has no observation; expected one of everyone who acts next "
                    "or was truncated"
                )
            group.encoders[n].write(observations[agent], obs[n])
        elif group.mortal:
            obs[n] = 0
        else:
            raise RuntimeError(
                f"agent {agent!r} is absent from an environment declared mortal=False"
            )
        if group.nvec:
            found = find_mask(observations[agent], infos.get(agent)) if here else None
            if not write_mask(found, group.nvec, mask[n]):
                blocked.append(agent)
        elif unmasked and here and find_mask(observations[agent], infos.get(agent)) is not None:
            raise EnvironmentFault(
                f"agent {agent!r} has an action mask, and none of its group had one in the first "
                "steps; give masks from reset on, all True where everything is allowed"
            )
    return blocked
