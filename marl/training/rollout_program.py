"""The rollout as a program: act, step and record as one pure function of several steps.

A block of K steps is a function of the environment's state, what the agents observe and remember,
and what chance decides (``marl.env.PureEnv``, ``marl.algorithm.PureActor``). It is run eager,
compiled or captured (``marl.utils.programs``), T / K times a rollout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from marl.algorithm import PureActor
from marl.env import PureEnv
from marl.types import Carry, Noise, Observation, PolicyStep, Rollout, Transition, tree_map
from marl.utils.programs import Leaves, Prepare, TreeFunction, eager

LONGEST = 8  # steps of a block; compiling takes a minute for 8, and several for 16


def block_length(steps: int) -> int:
    """Returns K, the largest divisor of ``steps`` that is at most 8."""
    return max(k for k in range(1, LONGEST + 1) if steps % k == 0)


def joint_step(steps: Sequence[PolicyStep]) -> PolicyStep:
    """Returns the step of all teams' groups together."""
    return PolicyStep(
        *({k: v for step in steps for k, v in getattr(step, field).items()}
          for field in ("action", "log_prob", "carry", "aux"))
    )  # fmt: skip


def record(obs: Observation, start: Tensor, step: PolicyStep, transition: Transition) -> Rollout:
    """Returns what a rollout holds of one step, ``[B, ...]``, without memories.

    Args:
        obs: what the agents acted on.
        start: where an episode began with the step, ``[B]``.
        step: what they did.
        transition: what it led to.
    """
    return Rollout(
        obs=obs,
        next_obs=transition.next_obs,
        action=step.action,
        log_prob=step.log_prob,
        aux=step.aux,
        reward=transition.reward,
        terminated=transition.terminated,
        truncated=transition.truncated,
        done=transition.done,
        start=start,
        carry={},
    )


class RolloutProgram:
    """Plays rollouts in blocks of steps.

    Args:
        env: the environment.
        teams: algorithms by team.
        steps: T, steps of a rollout.
        prepare: how blocks are run, such as ``marl.utils.programs.compiled``.
        failed: called with the error if a block cannot be run so; it then runs eager.
    """

    def __init__(
        self,
        env: PureEnv,
        teams: Mapping[str, PureActor],
        steps: int,
        prepare: Prepare,
        failed: Callable[[Exception], None],
    ):
        self.env, self.teams, self.steps = env, teams, steps
        self._prepare, self._failed = prepare, failed
        self.length = block_length(steps)
        self._blocks: dict[Any, TreeFunction] = {}  # by the structure of the arguments

    @torch.no_grad()
    def play(
        self,
        now: tuple[Observation, Carry, Tensor],
        generator: torch.Generator,
        store: Callable[[int, Leaves, Any], None],
    ) -> tuple[Observation, Carry, Tensor]:
        """Plays a rollout on from the environment's state.

        Args:
            now: observations of all groups ``[B, ...]``, memories by group, and where an episode
                begins, ``[B]``.
            generator: random numbers of actions.
            store: called with the first step of each block, and the leaves and structure of what it
                holds, ``[K, B, ...]``: the part of a rollout, and metrics by name.

        Returns:
            ``now`` after the rollout.
        """
        noise = self._noise(len(now[2]), generator)
        chance = self.env.draw_ahead(self.steps)
        leaves, spec = pytree.tree_flatten((self.env.pure_state, now))
        ahead, ahead_spec = pytree.tree_flatten((noise, chance))
        parts = [self._split(x) for x in ahead]
        block = known = None
        for number in range(self.steps // self.length):
            arguments = [*leaves, *(part[number] for part in parts)]
            if block is None or spec is not known:  # to compare structures takes long
                block, known = self._block(arguments, spec, ahead_spec), spec
            result = block(arguments)
            spec, records = block.results
            leaves = result[: spec.num_leaves]
            store(number * self.length, result[spec.num_leaves :], records)
        last = [None if x is None else x.clone() for x in leaves]  # blocks may reuse theirs
        self.env.pure_state, now = pytree.tree_unflatten(last, spec)
        return now

    def _split(self, x: Tensor | None) -> Sequence[Tensor | None]:
        """Splits ``[T, ...]`` into what each block reads."""
        return [None] * self.steps if x is None else x.split(self.length)

    def _block(self, leaves: Leaves, spec: Any, ahead_spec: Any) -> TreeFunction:
        """Returns the block for arguments of a structure: the first step changes that of some
        memories, and the end of a warm-up that of the noise."""
        key = spec, ahead_spec
        if key not in self._blocks:
            examples = (
                pytree.tree_unflatten(list(leaves[: spec.num_leaves]), spec),
                *pytree.tree_unflatten(list(leaves[spec.num_leaves :]), ahead_spec),
            )
            self._blocks[key] = block = TreeFunction(self.block, examples)
            try:
                block.prepare(self._prepare)
            except Exception as error:
                self._failed(error)
                self._prepare = eager
        return self._blocks[key]

    def block(self, now: Any, noise: Sequence[Noise], chance: Any) -> tuple[Any, Any]:
        """Plays K steps; a pure function.

        Args:
            now: the environment's state; observations, memories, and where an episode begins.
            noise: of each team's actions, ``[K, ...]``.
            chance: what chance decides in the environment, ``[K, ...]``.

        Returns:
            ``now`` after the steps, and ``(Rollout, info)`` of the steps, ``[K, B, ...]``.
        """
        (state, (obs, carry, start)), records = now, []
        for k in range(self.length):
            drawn, luck = tree_map(lambda x, k=k: x[k], (noise, chance))
            steps = [
                team.decide(obs, carry, start, own)
                for team, own in zip(self.teams.values(), drawn, strict=True)
            ]
            step = joint_step(steps)
            state, transition = self.env.pure_step(state, step.action, luck)
            records.append((record(obs, start, step, transition), dict(transition.info)))
            obs, carry, start = transition.obs, step.carry, transition.done
        stacked = tree_map(lambda *values: torch.stack(values), *records)
        return (state, (obs, carry, start)), stacked

    def _noise(self, num_envs: int, generator: torch.Generator) -> list[Noise]:
        """Draws the noise of all teams' actions in T steps, in the order of an eager rollout."""
        teams = list(self.teams.values())
        if len(teams) == 1:
            ahead = getattr(teams[0], "acting_noise_ahead", lambda *_: None)
            if (noise := ahead(self.steps, num_envs, generator)) is not None:
                return [noise]
        steps = [
            [team.acting_noise(num_envs, generator) for team in teams] for _ in range(self.steps)
        ]
        return tree_map(lambda *values: torch.stack(values), *steps)
