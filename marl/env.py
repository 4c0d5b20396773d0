"""The contract of an environment, and a validator to run a new one against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from marl.types import (
    ActionSpec,
    AgentGroup,
    Continuous,
    Discrete,
    GroupObservation,
    Observation,
    Rollout,
    Transition,
    constant,
    tree_map,
    tree_tensors,
)


@runtime_checkable
class VectorEnv(Protocol):
    """``B`` copies of one multi-agent environment, stepped together.

    Episodes restart by themselves: ``Transition.obs`` is the observation to act on next, and
    ``Transition.next_obs`` the one the episode really ended with. Every tensor that is returned
    stays valid after later steps. ``reset(seed)`` seeds copy ``i`` from ``copy_seeds(seed, B)[i]``,
    and nothing in an environment touches the random state of anything else. Actions are those of
    ``AgentGroup.action``; what they contain for an absent agent is ignored. ``teams`` is how the
    groups oppose each other by default.
    """

    @property
    def num_envs(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def groups(self) -> Mapping[str, AgentGroup]: ...

    @property
    def teams(self) -> Mapping[str, tuple[str, ...]]:
        """The groups of each team."""
        ...

    @property
    def state_size(self) -> int | None:
        """S of ``Observation.state``; None where there is none."""
        ...

    def reset(self, seed: int) -> Observation: ...

    def step(self, action: Mapping[str, Tensor]) -> Transition: ...

    def state_dict(self) -> dict[str, Any] | None:
        """Everything that decides what comes next, random numbers included, as nested dicts and
        lists of tensors and plain values; None where it cannot be had."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def render(self, index: int = 0) -> np.ndarray:
        """Environment ``index`` as ``[H, W, 3]`` uint8, without a display."""
        ...

    def close(self) -> None: ...


def copy_seeds(seed: int, num_envs: int) -> list[int]:
    """One seed per copy, of ``seed``'s own parity: training's seeds are even, evaluation's odd, so
    that no evaluation ever replays an episode that was trained on."""
    return [(seed + 2 * index) % 2**31 for index in range(num_envs)]


def random_action(
    group: AgentGroup, observation: GroupObservation, generator: torch.Generator
) -> Tensor:
    """A uniformly random allowed action of every agent, ``[B, N, *action shape]``."""
    noise = uniform_noise(group.action, observation.obs.shape[:2], generator)
    return uniform_action(group.action, noise, observation.action_mask)


def example_step(groups: Mapping[str, AgentGroup], obs: Observation) -> Rollout:
    """A rollout of one step as the spaces and a first observation ``[B, ...]`` let expect it, to
    see its shapes."""
    seen = tree_map(lambda x: x.unsqueeze(0), obs)
    batch = {name: seen.groups[name].obs.shape[:3] for name in groups}  # [1, B, N]
    flag = {name: torch.zeros(shape, dtype=torch.bool) for name, shape in batch.items()}
    action = {
        name: torch.zeros(*batch[name], *group.action.shape, dtype=group.action.dtype)
        for name, group in groups.items()
    }
    none = torch.zeros(next(iter(batch.values()))[:2], dtype=torch.bool)
    reward = {name: torch.zeros(shape) for name, shape in batch.items()}
    return Rollout(seen, seen, action, {}, {}, reward, flag, flag, none, none, {})


def check_env(env: VectorEnv, steps: int = 50, seed: int = 0) -> None:
    """Runs ``env`` with random actions and raises AssertionError, in words, where it breaks the
    contract."""
    generator = torch.Generator(env.device).manual_seed(seed)
    observation = env.reset(seed)
    _check_observation(env, observation)
    assert sorted(g for team in env.teams.values() for g in team) == sorted(env.groups), (
        f"teams {dict(env.teams)} must hold each of the groups {list(env.groups)} once"
    )
    for _ in range(steps):
        action = {
            name: random_action(group, observation.groups[name], generator)
            for name, group in env.groups.items()
        }
        transition = env.step(action)
        _check_transition(env, transition)
        observation = transition.obs


def _check_observation(env: VectorEnv, observation: Observation) -> None:
    assert set(observation.groups) == set(env.groups), "an observation holds every group"
    for name, group in env.groups.items():
        seen, batch = observation.groups[name], (env.num_envs, group.size)
        _check_tensor(
            f"{name}.obs", seen.obs, (*batch, *group.observation.shape), group.observation.dtype
        )
        assert (seen.action_mask is not None) == group.masked, (
            f"{name}: masked must tell of action_mask"
        )
        assert (seen.alive is not None) == group.mortal, f"{name}: mortal must tell of alive"
        if seen.action_mask is not None:
            _check_tensor(
                f"{name}.action_mask",
                seen.action_mask,
                (*batch, group.action.mask_size),
                torch.bool,
            )
        if seen.alive is not None:
            _check_tensor(f"{name}.alive", seen.alive, batch, torch.bool)
            assert not seen.obs[~seen.alive].any(), f"{name}: an absent agent observes zeros"
    assert (observation.state is not None) == (env.state_size is not None), (
        "state_size must tell of state"
    )
    if observation.state is not None:
        _check_tensor(
            "state", observation.state, (env.num_envs, env.state_size or 0), torch.float32
        )


def _check_transition(env: VectorEnv, transition: Transition) -> None:
    _check_observation(env, transition.obs)
    _check_tensor("done", transition.done, (env.num_envs,), torch.bool)
    for name, group in env.groups.items():
        shape = (env.num_envs, group.size)
        _check_tensor(f"{name}.reward", transition.reward[name], shape, torch.float32)
        for word in ("terminated", "truncated"):
            _check_tensor(f"{name}.{word}", getattr(transition, word)[name], shape, torch.bool)
        _check_ends(name, transition)
    if transition.next_obs is not transition.obs:
        _check_observation(env, transition.next_obs)
    else:
        assert not transition.done.any(), (
            "where an episode ended, next_obs is not the reset observation"
        )
        assert not any(cut.any() for cut in transition.truncated.values()), (
            "where an agent was truncated, next_obs shows its last observation and obs does not"
        )
    _check_successors(transition)
    for name, value in transition.info.items():
        _check_tensor(f"info {name}", value, (env.num_envs,), torch.float32)


def _check_successors(transition: Transition) -> None:
    """Replays store one of the two where nothing ended."""
    cut = torch.cat(list(transition.truncated.values()), dim=-1).any(-1)
    going_on = ~(transition.done | cut)
    pairs = zip(tree_tensors(transition.obs), tree_tensors(transition.next_obs), strict=True)
    assert all(torch.equal(now[going_on], last[going_on]) for now, last in pairs), (
        "in a copy where nothing ended, obs and next_obs are the same"
    )


def _check_ends(name: str, transition: Transition) -> None:
    """How the agents of one group ended."""
    died, cut = transition.terminated[name], transition.truncated[name]
    everyone, going_on = torch.ones_like(cut), ~transition.done.unsqueeze(-1)
    last, now = (o.groups[name].alive for o in (transition.next_obs, transition.obs))
    last, now = (everyone if alive is None else alive for alive in (last, now))
    assert not (died & cut).any(), f"{name}: an agent is terminated or truncated, not both"
    assert not (cut & ~last).any(), f"{name}: a truncated agent is alive in next_obs"
    assert not (cut & going_on & now).any(), (
        f"{name}: an agent truncated while its episode goes on is absent in obs"
    )
    assert not (last & ~died & ~cut & ~going_on).any(), (
        f"{name}: where an episode is done, everyone still there is terminated or truncated"
    )


def _check_tensor(name: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert tuple(value.shape) == shape, f"{name} has shape {tuple(value.shape)}, expected {shape}"
    assert value.dtype == dtype, f"{name} is {value.dtype}, expected {dtype}"
    if dtype.is_floating_point:
        assert torch.isfinite(value).all(), f"{name} is not finite"


def uniform_noise(spec: ActionSpec, batch: Sequence[int], generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1) for ``uniform_action``."""
    size = len(spec.low) if isinstance(spec, Continuous) else spec.mask_size
    return torch.rand(*batch, size, generator=generator, device=generator.device)


def uniform_action(spec: ActionSpec, noise: Tensor, mask: Tensor | None) -> Tensor:
    """The action that ``noise`` draws, each allowed one as likely as the others."""
    if isinstance(spec, Continuous):
        low, high = constant(spec.low, noise), constant(spec.high, noise)
        return low + (high - low) * noise
    scores = noise if mask is None else torch.where(mask, noise, -1.0)
    if isinstance(spec, Discrete):
        return scores.argmax(-1)
    return torch.stack([part.argmax(-1) for part in scores.split(spec.nvec, dim=-1)], dim=-1)
