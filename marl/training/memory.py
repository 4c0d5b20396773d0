"""Estimates of the memory that training needs, made before it begins.

Networks are copied to torch's *meta* device, where tensors have shapes and no contents, and run
forward and backward on one minibatch while the bytes of all live tensors are counted. Torch's meta
kernels import its compiler, which takes as long as torch itself; therefore a few frames are counted
on the CPU first, and where these show that a minibatch fits, that is the answer.
"""

from __future__ import annotations

import copy
import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from marl.algorithm import Algorithm
from marl.env import VectorEnv, example_step
from marl.errors import UserError
from marl.learning.replay_limits import GIB, format_bytes, round_down
from marl.networks.entity_graph import use_sizes_of
from marl.training.settings import Settings
from marl.types import Carry, Observation, PolicyStep, tree_map, tree_tensors

META, CPU = torch.device("meta"), torch.device("cpu")
MANY = 2**62  # bytes, more than any limit
SAMPLE = 8  # frames that are counted on the CPU


@dataclass(frozen=True)
class Estimate:
    """Estimate of the memory that one rank needs."""

    #: Bytes of a rollout: all steps of all copies, with the true successors.
    rollout: int
    #: Largest number of bytes alive while a team learns from a minibatch, or acts in all copies.
    minibatch: int
    #: Frames of that team's minibatch.
    frames: int

    @property
    def total(self) -> int:
        """Bytes of the rollout and the minibatch."""
        return self.rollout + self.minibatch


class Peak(TorchDispatchMode):
    """Counts the bytes of live storages on one device, and records the largest number.

    Args:
        device: only tensors on this device count.
    """

    def __init__(self, device: torch.device = META) -> None:
        super().__init__()
        self.device = device
        self.live_bytes = self.peak_bytes = 0
        self.storages: weakref.WeakSet[Any] = weakref.WeakSet()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Returns False: else torch imports its compiler for every such mode."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor) and value.device == self.device:
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        if storage in self.storages:
            return
        self.storages.add(storage)
        self.live_bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._release, storage.nbytes())

    def _release(self, nbytes: int) -> None:
        self.live_bytes -= nbytes


def check(
    env: VectorEnv, teams: Mapping[str, Algorithm], obs: Observation, settings: Settings
) -> None:
    """Checks that training fits into the memory that it may use (``settings.memory_gib``).

    Args:
        env: this rank's copies of the environment.
        teams: algorithms by team.
        obs: observations of all copies, ``[B, ...]``.
        settings: the run's settings.

    Raises:
        UserError: training needs more; gives the numbers, and what to change.
    """
    limit = settings.memory_gib * GIB
    if estimate(env, teams, obs, settings.steps, _bound).total <= limit:
        return
    need = estimate(env, teams, obs, settings.steps)
    if need.total <= limit:
        return
    frames = int(need.frames * (limit - need.rollout) / max(need.minibatch, 1))
    smaller = f"algorithm.minibatch_size={round_down(frames)}" if frames >= env.num_envs else ""
    advice = ", ".join(filter(None, [smaller, "fewer num_envs", "fewer steps"]))
    total, rollout, minibatch = map(format_bytes, (need.total, need.rollout, need.minibatch))
    raise UserError(
        f"training weighs about {total}: a rollout of {settings.steps} steps of {env.num_envs} "
        f"copies {rollout}, and learning from {need.frames:,} frames at a time {minibatch}; "
        f"memory_gib={settings.memory_gib:g} is the limit; take {advice}, or raise memory_gib"
    )


def estimate(
    env: VectorEnv,
    teams: Mapping[str, Algorithm],
    obs: Observation,
    steps: int,
    peak: Callable[[Algorithm, Observation, int, bool], int] | None = None,
) -> Estimate:
    """Estimates the memory that training needs on this rank.

    Of off-policy algorithms only acting counts, for their minibatches are small beside the replay.

    Args:
        env: this rank's copies of the environment.
        teams: algorithms by team.
        obs: observations of all copies, ``[B, ...]``.
        steps: T, steps of a rollout.
        peak: counts a team's bytes, of the arguments and the result of ``_peak``; None for that.
    """
    peak = _peak if peak is None else peak
    rollout = steps * sum(x.nbytes for x in tree_tensors(example_step(env.groups, obs)))
    largest = Estimate(rollout, 0, env.num_envs)
    for team in teams.values():
        if not isinstance(team.policy, nn.Module):
            continue
        frames = getattr(team, "minibatch_frames", 0)
        # Acting in all copies needs no gradients, and more memory only for many more copies.
        for count, learns in ((frames, True), (env.num_envs, False)):
            if learns or count > frames:
                minibatch = peak(team, obs, count, learns) if count else 0
                candidate = Estimate(rollout, minibatch, count)
                largest = max(largest, candidate, key=lambda x: x.minibatch)
    return largest


def _peak(team: Algorithm, obs: Observation, frames: int, learns: bool) -> int:
    """Returns the largest number of live bytes while a team learns from frames, or acts in copies.

    It is 0 for networks whose work depends on the contents of tensors.
    """
    try:
        return _count(team, obs, frames, learns, META)
    except (NotImplementedError, RuntimeError):
        return 0


def _bound(team: Algorithm, obs: Observation, frames: int, learns: bool) -> int:
    """Returns a number of bytes that ``_peak`` does not exceed, from a sample of the frames.

    At each moment live bytes are a constant and a part in proportion to the frames, so that they
    grow by no more than the frames do. It is ``MANY`` for graphs, whose work depends on contents.
    """
    sample = min(frames, SAMPLE)
    if obs.graph is not None:
        return MANY
    try:
        with torch.random.fork_rng(devices=[]):
            return _count(team, obs, sample, learns, CPU) * math.ceil(frames / sample)
    except Exception:  # of a network that cannot work on blank observations
        return MANY


def _count(
    team: Algorithm, obs: Observation, frames: int, learns: bool, device: torch.device
) -> int:
    """Returns the largest number of live bytes while copies of the networks act, and learn."""
    policy = copy.deepcopy(team.policy).to(device)  # type: ignore[attr-defined]  # a module
    noise = tree_map(lambda x: x.to(device), policy.noise(frames, torch.Generator()))
    peak = Peak(device)
    with torch.set_grad_enabled(learns), use_sizes_of(obs.graph), peak:
        obs = tree_map(lambda x: _blank(x, frames, device), obs)
        start = torch.zeros(frames, dtype=torch.bool, device=device)
        carry = policy.initial_carry(frames)
        with torch.no_grad():
            step = policy.act(obs, carry, start, noise)
        if learns:
            critic: Any = copy.deepcopy(team.critic).to(device)  # type: ignore[attr-defined]
            _loss(policy, critic, obs, step, carry, start).backward()
    return peak.peak_bytes


def _blank(x: Tensor, frames: int, device: torch.device) -> Tensor:
    """Returns a blank observation of frames: zeros, but True for what is allowed or alive."""
    return x.new_full((frames, *x.shape[1:]), x.dtype == torch.bool, device=device)


def _loss(
    policy: Any, critic: Any, obs: Observation, step: PolicyStep, carry: Carry, start: Tensor
) -> Tensor:
    """Returns a scalar that depends on all outputs of the networks, as losses do.

    Networks with memory get one step, ``[1, M, ...]``.
    """
    action, aux, memory = step.action, step.aux, critic.initial_carry(len(start))
    if carry or memory:
        obs, action, aux, start = map(_one_step, (obs, action, aux, start))
    results = policy.evaluate(obs, action, carry, start, aux)
    parts = [x.sum() for by_group in results for x in by_group.values()]
    return torch.stack([*parts, critic(obs, memory, start)[0].sum()]).sum()


def _one_step(tree: Any) -> Any:
    return tree_map(lambda x: x.unsqueeze(0), tree)
