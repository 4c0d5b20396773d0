"""What training weighs in memory, estimated before it begins.

Networks are copied to torch's *meta* device, where tensors have shapes and no contents, and run
forward and backward on one minibatch while the bytes of all living tensors are counted.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from marl.algorithm import Algorithm
from marl.env import VectorEnv, example_step
from marl.errors import UserError
from marl.learning.replay import GIB, rounded, weight
from marl.networks.entity_graph import use_sizes_of
from marl.training.settings import Settings
from marl.types import Carry, Observation, PolicyStep, tree_map, tree_tensors

META = torch.device("meta")


@dataclass(frozen=True)
class Estimate:
    """Bytes, of one rank."""

    rollout: int  # all steps of all copies, with the true successors
    minibatch: int  # what lives at most while a team learns from one, or acts in all copies
    frames: int  # of that team's minibatch

    @property
    def total(self) -> int:
        return self.rollout + self.minibatch


class Peak(TorchDispatchMode):
    """Counts the bytes of the storages on the meta device that live at the same time; ``most`` is
    the highest number there was."""

    def __init__(self) -> None:
        super().__init__()
        self.living = self.most = 0
        self.known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor) and value.is_meta:
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        if storage in self.known:
            return
        self.known.add(storage)
        self.living += storage.nbytes()
        self.most = max(self.most, self.living)
        weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, nbytes: int) -> None:
        self.living -= nbytes


def check(
    env: VectorEnv, teams: Mapping[str, Algorithm], obs: Observation, settings: Settings
) -> None:
    """Checks that training fits into the memory it may take (``settings.memory_gib``).

    Args:
        obs: of all copies, ``[B, ...]``.

    Raises:
        UserError: it would weigh more; with the numbers, and what to change.
    """
    found = estimate(env, teams, obs, settings.steps)
    limit = settings.memory_gib * GIB
    if found.total <= limit:
        return
    left = int(found.frames * (limit - found.rollout) / max(found.minibatch, 1))
    smaller = f"algorithm.minibatch_size={rounded(left)}" if left >= env.num_envs else ""
    advice = ", ".join(filter(None, [smaller, "fewer num_envs", "fewer steps"]))
    raise UserError(
        f"training weighs about {weight(found.total)}: a rollout of {settings.steps} steps of "
        f"{env.num_envs} copies {weight(found.rollout)}, and learning from {found.frames:,} frames "
        f"at a time {weight(found.minibatch)}; memory_gib={settings.memory_gib:g} is the limit; "
        f"take {advice}, or raise memory_gib"
    )


def estimate(
    env: VectorEnv, teams: Mapping[str, Algorithm], obs: Observation, steps: int
) -> Estimate:
    """Returns what training weighs. Off policy, where minibatches are small beside the replay, only
    acting is counted."""
    rollout = steps * sum(x.nbytes for x in tree_tensors(example_step(env.groups, obs)))
    found = Estimate(rollout, 0, env.num_envs)
    for team in teams.values():
        if not isinstance(team.policy, nn.Module):
            continue
        frames = getattr(team, "minibatch_frames", 0)
        # Acting in all copies has no gradients, and weighs more only where they are many more.
        for count, learns in ((frames, True), (env.num_envs, False)):
            if learns or count > frames:
                peak = _peak(team, obs, count, learns) if count else 0
                found = max(found, Estimate(rollout, peak, count), key=lambda x: x.minibatch)
    return found


def _peak(team: Algorithm, obs: Observation, frames: int, learns: bool) -> int:
    """Bytes that live at most while the team learns from so many frames, or acts in so many copies;
    0 of networks whose work depends on what tensors hold."""
    policy = copy.deepcopy(team.policy).to(META)  # type: ignore[attr-defined]  # a module
    noise = _on_meta(policy.noise(frames, torch.Generator()))
    peak = Peak()
    try:
        with torch.set_grad_enabled(learns), use_sizes_of(obs.graph), peak:
            some = tree_map(lambda x: x.new_empty(frames, *x.shape[1:], device=META), obs)
            start = torch.zeros(frames, dtype=torch.bool, device=META)
            carry = policy.initial_carry(frames)
            with torch.no_grad():
                step = policy.act(some, carry, start, noise)
            if learns:
                critic: Any = copy.deepcopy(team.critic).to(META)  # type: ignore[attr-defined]
                _loss(policy, critic, some, step, carry, start).backward()
    except (NotImplementedError, RuntimeError):
        return 0
    return peak.most


def _loss(
    policy: Any, critic: Any, obs: Observation, step: PolicyStep, carry: Carry, start: Tensor
) -> Tensor:
    """Something of all that the networks give, as losses are; with memories as one step ``[1, M,
    ...]``."""
    action, aux, memory = step.action, step.aux, critic.initial_carry(len(start))
    if carry or memory:
        obs, action, aux, start = map(_one_step, (obs, action, aux, start))
    given = policy.evaluate(obs, action, carry, start, aux)
    parts = [x.sum() for by_group in given for x in by_group.values()]
    return torch.stack([*parts, critic(obs, memory, start)[0].sum()]).sum()


def _one_step(tree: Any) -> Any:
    return tree_map(lambda x: x.unsqueeze(0), tree)


def _on_meta(tree: Any) -> Any:
    return tree_map(lambda x: x.to(META), tree)
