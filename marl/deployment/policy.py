"""Trained policies outside of training: ``marl.load_policy(RUN)`` and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from marl.algorithm import Algorithm
from marl.deployment.conversion import Converter
from marl.errors import UserError, unknown
from marl.policies.independent import IndependentPolicy
from marl.training import build, loading, run_directory
from marl.training.agent_order import OrderedTask, arrange
from marl.training.stored_groups import Interface, groups_from_plain
from marl.types import AgentGroup, Carry, EntityGraph, GroupObservation, Observation
from marl.utils import seeding, stacking, trust, versions
from marl.utils.capabilities import stacked_observations
from marl.utils.device import find_device

#: Observations or actions by agent or by group: numpy arrays or tensors.
Arrays: TypeAlias = Mapping[str, Any]


class LoadedPolicy:
    """The trained policies of a run, which act without an environment.

    Call it with observations to get actions; ``marl.load_policy`` makes it. It holds the agents'
    memories from call to call: ``reset`` begins episodes.

    Args:
        teams: algorithms by team, which only act.
        interface: all groups of the environment.
        seed: of the random numbers of ``explore=True``.
        stack: number of observations that the run stacks (``task.wrappers``), which it does itself.

    Attributes:
        groups: the groups that act, by name, with the agents, observations and actions of each.
        reads_graph: True if a policy reads a graph of entities.
        frames: frames of training of each team's policy.
    """

    def __init__(
        self, teams: Mapping[str, Algorithm], interface: Interface, seed: int = 0, stack: int = 1
    ):
        self.teams, self.device = teams, interface.device
        self.frames: dict[str, int] = {}
        self.groups: dict[str, AgentGroup] = {
            name: _of_one(group, stack)
            for name, group in interface.groups.items()
            if any(name in team.policy.groups for team in teams.values())
        }
        self._stack = stack
        self._last: dict[str, GroupObservation] = {}  # the stacks of the last call
        self.generator = seeding.generator(self.device, seed, "loaded policy")
        others = [g for name, g in interface.groups.items() if name not in self.groups]
        self._converter = Converter(self.groups, self.device, others)
        policies = [p for t in teams.values() if isinstance(p := t.policy, nn.Module)]
        for policy in policies:
            if isinstance(policy, IndependentPolicy):
                policy.only_acts = True
        modules = (module for policy in policies for module in policy.modules())
        self.reads_graph = any(getattr(module, "reads_graph", False) for module in modules)
        self._carry: Carry = {}
        self._size = 0  # environments of the last call; 0 before the first and after a reset of all
        self._start = self._no_start = torch.ones(0, dtype=torch.bool, device=self.device)

    def __repr__(self) -> str:
        kinds = (type(team.policy).__name__ for team in self.teams.values())
        agents = (agent for group in self.groups.values() for agent in group.agents)
        return f"LoadedPolicy({', '.join(kinds)} of {', '.join(agents)})"

    def reset(self, mask: Any = None) -> None:
        """Begins episodes: memories are zeros at the next call.

        Args:
            mask: True for each environment of the batch whose episode begins, ``[B]``; None for all
                environments, of which there may then be another number.

        Raises:
            UserError: the mask is not of as many environments as the last call.
        """
        if mask is None:
            self._size = 0
            return
        begins = torch.as_tensor(mask, dtype=torch.bool, device=self.device).reshape(-1)
        if len(begins) != self._size:
            raise UserError(
                f"reset(mask) has {len(begins)} entries, and the last call was for "
                f"{self._size} environments; give one entry for each, or reset() for all"
            )
        self._start = self._start | begins

    def __call__(
        self,
        observations: Arrays | Observation,
        *,
        explore: bool = False,
        action_masks: Arrays | None = None,
        graph: EntityGraph | None = None,
    ) -> dict[str, Any]:
        """Chooses the actions of one step.

        Args:
            observations: by agent, ``[*shape]`` or for a batch of environments ``[B, *shape]``; or
                by group, ``[N, *shape]`` or ``[B, N, *shape]``; or an ``Observation``. Numpy arrays
                or tensors. Agents that are missing are absent; those of teams that are not loaded
                are passed over. Instead of an agent's array there may be PettingZoo's dict of
                ``observation`` and ``action_mask``.
            explore: True to sample actions, False for the most probable ones.
            action_masks: True where an action is allowed, by the same names as the observations.
            graph: the entities, for policies that read them: tensors ``[B, E, ...]``.

        Returns:
            Actions by the same names: of the environment's kind and unit, and numpy arrays where
            the observations are; only of agents that have an observation.

        Raises:
            UserError: observations of unknown agents or other shapes, a missing mask or graph, or
                another number of environments than in the step before.
        """
        obs, form = self._converter.observation(observations, action_masks, graph)
        if self.reads_graph and obs.graph is None:
            raise UserError(
                "this policy reads a graph of entities; give it by graph=marl.types.EntityGraph(…)"
            )
        if form.size != self._size:
            self._begin(form.size)
        if self._stack > 1:
            obs = self._stacked(obs)
        action: dict[str, Tensor] = {}
        carry: dict[str, Tensor] = {}
        for team in self.teams.values():
            step = team.act(obs, self._carry, self._start, self.generator, explore)
            action |= step.action
            carry |= step.carry
        self._carry, self._start = carry, self._no_start
        return self._converter.actions(action, form)

    def _stacked(self, obs: Observation) -> Observation:
        """Returns the last observations of each agent; those of the run's own environment, which
        are stacked already, as they are."""
        size = {n: g.observation.shape[-1] for n, g in self.groups.items()}
        groups = {n: obs.groups[n] for n in size}
        if all(groups[n].obs.shape[-1] == self._stack * size[n] for n in size):
            return obs
        last = self._last or {n: stacking.repeated(g, self._stack) for n, g in groups.items()}
        self._last = {n: stacking.push(last[n], g, self._start) for n, g in groups.items()}
        return replace(obs, groups=self._last)

    def _begin(self, size: int) -> None:
        """Begins episodes of a batch, where the last call was ``reset`` or there was none."""
        if self._size:
            raise UserError(
                f"these observations are of {size} environments, and those of the step before were "
                f"of {self._size}; call reset() before another batch"
            )
        self._size, self._no_start = size, self._start.new_zeros(size)
        self._last = {}
        self._start = self._start.new_ones(size)
        self._carry = {
            name: memory
            for team in self.teams.values()
            for name, memory in team.policy.initial_carry(size).items()
        }


def _of_one(group: AgentGroup, stack: int) -> AgentGroup:
    """Returns a group as its agents observe before observations are stacked."""
    spec = group.observation
    return replace(group, observation=stacking.unstacked(spec, stack)) if stack > 1 else group


def load_policy(
    run: str | Path,
    checkpoint: str = "best",
    *,
    team: str | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
    trust_code: bool = False,
) -> LoadedPolicy:
    """Loads the trained policies of a run, to act without training.

    The run is only read, also while it trains. Runs of marl before ``spaces`` stood in config.json
    make their environment once, to ask for its groups.

    Args:
        run: the run directory, or one of its checkpoint files; a record or its policy file; or a
            name of the zoo, such as ``zoo:mpe/spread/hasac`` (``marl list zoo``).
        checkpoint: of a directory: ``best``, each team's best one; ``last``, the newest; or the
            name of a file in ``checkpoints/``, such as ``frames-000000050000.pt``.
        team: the team to load; None for all teams.
        device: where the policies are and act.
        seed: of the random numbers of ``explore=True``.
        trust_code: allow the run to import third-party code even if another user made it.

    Raises:
        UserError: the run, checkpoint or team does not exist, or does not fit this version.
    """
    path, where = Path(run), find_device(str(device))
    with trust.accept_all(trust_code):
        config = run_directory.read_config(loading.directory_of(path))
        teams = config["teams"]
        if team is not None and team not in teams:
            raise unknown("team", team, teams, where=f" in run {str(run)!r}")
        names = [team] if team is not None else list(teams)
        states = {n: loading.named_checkpoint(path, checkpoint, n, where) for n in names}
        spaces = config.get("spaces") or next(iter(states.values()))[1].get("spaces")
        interface = _interface({**config, "spaces": spaces}, where)
        agents, version = config.get("agents"), versions.learning(config)
        loaded: dict[str, Algorithm] = {}
        for name, (file, state) in states.items():
            part = {name: teams[name]}
            loaded |= build.load_teams(interface, part, state["teams"], file, agents, version)
        stack = stacked_observations(config["task"])
    policy = LoadedPolicy(loaded, interface, seed, stack)
    policy.frames = {
        name: state.get("frames_by_team", {}).get(name, state["frames"])
        for name, (_, state) in states.items()
    }
    return policy


def _interface(config: Mapping[str, Any], device: torch.device) -> Interface:
    """Returns the groups of a run; those of an older run are its environment's."""
    if (spaces := config.get("spaces")) is not None:
        return groups_from_plain(spaces, device)
    if config["task"] is None:
        raise UserError(
            "this older run was made from Python by a function without a name, and stored no "
            "spaces; evaluate it with its environment"
        )
    order = partial(arrange, saved=config.get("agents"))
    env = OrderedTask(config["task"], order)(1, device)
    try:
        return Interface(dict(env.groups), env.state_size, device)
    finally:
        env.close()
