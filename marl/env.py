"""The protocol of environments, and a check of new ones against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

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

# What a step tells of every agent, ``[B, N]`` by group.
STEP_DTYPES = {"reward": torch.float32, "terminated": torch.bool, "truncated": torch.bool}


@runtime_checkable
class VectorEnv(Protocol):
    """``B`` copies of one multi-agent environment, stepped together.

    Episodes restart by themselves: ``Transition.obs`` is the observation to act on next, and
    ``Transition.next_obs`` the one that the step really led to. All returned tensors stay valid
    after later steps. An environment draws from its own random numbers only.
    """

    @property
    def num_envs(self) -> int:
        """B, the number of copies."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        ...

    @property
    def groups(self) -> Mapping[str, AgentGroup]:
        """Groups of agents, by name."""
        ...

    @property
    def teams(self) -> Mapping[str, tuple[str, ...]]:
        """Names of each team's groups: how the groups oppose each other by default."""
        ...

    @property
    def state_size(self) -> int | None:
        """S of ``Observation.state``; None if there is no state."""
        ...

    def reset(self, seed: int) -> Observation:
        """Starts new episodes in all copies.

        Args:
            seed: copy ``i`` is seeded by ``copy_seeds(seed, B)[i]``.

        Returns:
            The first observations, ``[B, ...]``.
        """
        ...

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        """Steps all copies, and restarts those whose episode ended.

        Args:
            action: ``[B, N, *action shape]`` by group, of the spaces ``AgentGroup.action``. Values
                for absent agents are ignored.
        """
        ...

    def state_dict(self) -> dict[str, Any] | None:
        """Returns everything that later steps depend on, random numbers included.

        It is made of nested dicts and lists of tensors and plain values; None if the environment
        cannot save its state.
        """
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads what ``state_dict`` returned."""
        ...

    def render(self, index: int = 0) -> np.ndarray:
        """Returns a picture of copy ``index``, ``[H, W, 3]`` uint8, without a display."""
        ...

    def close(self) -> None:
        """Ends the environment's processes and frees what it holds."""
        ...


class PureEnv(VectorEnv, Protocol):
    """An environment whose step is a pure function of tensors, of which programs are made.

    Steps by ``pure_step``, with ``pure_state`` set to the last state afterwards, lead to where as
    many calls of ``step`` lead, and to the same numbers up to rounding. Random numbers may be drawn
    in another order where episodes may end before their time. ``marl.training.rollout_program``
    compiles and captures what is made of such steps, so that ``pure_step`` may neither wait for
    the device nor depend on the values of tensors in Python.

    A pure step takes any number of copies, so that several environments step side by side.

    Attributes:
        pure_state: tree of tensors ``[B, ...]`` that the next step depends on, beside chance.
    """

    pure_state: Any

    def draw_ahead(self, steps: int) -> Any:
        """Draws what chance decides in the next steps, which must then be taken.

        Args:
            steps: T, their number.

        Returns:
            A tree of tensors ``[T, B, ...]``, valid until the next call: random numbers, and
            beginnings of the episodes that may begin.
        """
        ...

    def pure_step(
        self, state: Any, action: Mapping[str, Tensor], chance: Any
    ) -> tuple[Any, Transition]:
        """Steps all copies, and restarts those whose episode ended.

        Args:
            state: a ``pure_state``.
            action: ``[B, N, *action shape]`` by group.
            chance: what ``draw_ahead`` returned for this step.

        Returns:
            The next state, and the transition.
        """
        ...


def pure_env(env: VectorEnv) -> PureEnv | None:
    """Returns an environment as a ``PureEnv``; None if it has no pure step.

    A wrapper has none, but one with ``passes_steps = True`` stands for the environment within.
    """
    while getattr(type(env), "passes_steps", False):
        env = env.env  # type: ignore[attr-defined]  # a wrapper
    return cast(PureEnv, env) if hasattr(type(env), "pure_step") else None


def copy_seeds(seed: int, num_envs: int) -> list[int]:
    """Returns one seed per copy of an environment.

    All have the parity of ``seed``. Training's seeds are even and evaluation's odd, so that no
    evaluation repeats an episode of training.

    Args:
        seed: the seed of ``VectorEnv.reset``.
        num_envs: B, the number of copies.
    """
    return [(seed + 2 * index) % 2**31 for index in range(num_envs)]


def random_action(
    group: AgentGroup, observation: GroupObservation, generator: torch.Generator
) -> Tensor:
    """Samples uniformly random allowed actions.

    Args:
        group: the agents.
        observation: their observations, ``[B, N, ...]``.
        generator: the generator to draw from.

    Returns:
        ``[B, N, *action shape]``.
    """
    noise = uniform_noise(group.action, observation.obs.shape[:2], generator)
    return uniform_action(group.action, noise, observation.action_mask)


def example_step(groups: Mapping[str, AgentGroup], obs: Observation) -> Rollout:
    """Returns a rollout of one step with zeros for actions and rewards, to look at its shapes.

    Args:
        groups: all groups of the environment.
        obs: an observation, ``[B, ...]``.
    """
    obs = tree_map(lambda x: x.unsqueeze(0), obs)
    batch = {name: obs.groups[name].obs.shape[:3] for name in groups}  # [1, B, N]
    flag = {name: torch.zeros(shape, dtype=torch.bool) for name, shape in batch.items()}
    action = {
        name: torch.zeros(*batch[name], *group.action.shape, dtype=group.action.dtype)
        for name, group in groups.items()
    }
    none = torch.zeros(next(iter(batch.values()))[:2], dtype=torch.bool)
    reward = {name: torch.zeros(shape) for name, shape in batch.items()}
    return Rollout(obs, obs, action, {}, {}, reward, flag, flag, none, none, {})


def check_env(env: VectorEnv, steps: int = 50, seed: int = 0) -> None:
    """Steps an environment with random actions, and checks that it obeys ``VectorEnv``.

    Args:
        env: the environment; it is reset.
        steps: number of steps.
        seed: of the environment and the actions.

    Raises:
        AssertionError: it does not; the message says in which way.
    """
    for _ in checked_steps(env, steps, seed):
        pass


def checked_steps(
    env: VectorEnv, steps: int, seed: int
) -> Iterator[tuple[Observation, dict[str, Tensor], Transition]]:
    """Yields observation, action and transition of each step of random play, all of them checked.

    Args:
        env: the environment; it is reset.
        steps: number of steps.
        seed: of the environment and the actions.

    Raises:
        AssertionError: the environment breaks the contract of ``VectorEnv``.
    """
    generator = torch.Generator(env.device).manual_seed(seed)
    observation = env.reset(seed)
    check_observation(env, observation)
    check_teams(env)
    for _ in range(steps):
        action = {
            name: random_action(group, observation.groups[name], generator)
            for name, group in env.groups.items()
        }
        transition = env.step(action)
        check_transition(env, transition)
        yield observation, action, transition
        observation = transition.obs


def check_teams(env: VectorEnv) -> None:
    """Raises AssertionError where the teams do not hold each group once."""
    assert sorted(g for team in env.teams.values() for g in team) == sorted(env.groups), (
        f"teams {dict(env.teams)} must hold each of the groups {list(env.groups)} once"
    )


def check_observation(env: VectorEnv, observation: Observation) -> None:
    """Raises AssertionError where an observation is not what the environment's groups say.

    Args:
        env: the environment.
        observation: what its ``reset`` or ``step`` returned.
    """
    assert isinstance(observation, Observation), (
        f"an observation is a {type(observation).__name__}, expected a marl.Observation"
    )
    assert set(observation.groups) == set(env.groups), (
        f"an observation must hold the groups {list(env.groups)}, not {list(observation.groups)}"
    )
    for name, group in env.groups.items():
        assert isinstance(observation.groups[name], GroupObservation), (
            f"the observation of {name} is a {type(observation.groups[name]).__name__}, expected a "
            "marl.GroupObservation"
        )
        _check_group(name, group, observation.groups[name], env)
    assert (observation.state is not None) == (env.state_size is not None), (
        "state_size must be a number if observations hold a state, and None otherwise"
    )
    if observation.state is not None:
        size = (env.num_envs, env.state_size or 0)
        _check_tensor("state", observation.state, size, torch.float32, env.device)


def _check_group(
    name: str, group: AgentGroup, observation: GroupObservation, env: VectorEnv
) -> None:
    batch, spec, device = (env.num_envs, group.size), group.observation, env.device
    _check_tensor(f"{name}.obs", observation.obs, (*batch, *spec.shape), spec.dtype, device)
    mask, alive = observation.action_mask, observation.alive
    assert (mask is not None) == group.masked, (
        f"{name}: masked must be True if observations hold action_mask, and False otherwise"
    )
    assert (alive is not None) == group.mortal, (
        f"{name}: mortal must be True if observations hold alive, and False otherwise"
    )
    if mask is not None:
        _check_tensor(
            f"{name}.action_mask", mask, (*batch, group.action.mask_size), torch.bool, device
        )
    if alive is not None:
        _check_tensor(f"{name}.alive", alive, batch, torch.bool, device)
        assert not observation.obs[~alive].any(), f"{name}: an absent agent must observe zeros"


def check_transition(env: VectorEnv, transition: Transition) -> None:
    """Raises AssertionError where a step breaks the contract of ``VectorEnv``.

    Args:
        env: the environment.
        transition: what its ``step`` returned.
    """
    assert isinstance(transition, Transition), (
        f"step returned a {type(transition).__name__}, expected a marl.Transition"
    )
    device = env.device
    check_observation(env, transition.obs)
    _check_tensor("done", transition.done, (env.num_envs,), torch.bool, device)
    for word, dtype in STEP_DTYPES.items():
        values = getattr(transition, word)
        assert isinstance(values, Mapping) and set(values) == set(env.groups), (
            f"{word} must be a dict of the groups {list(env.groups)}, not "
            f"{list(values) if isinstance(values, Mapping) else type(values).__name__}"
        )
        for name, group in env.groups.items():
            shape = (env.num_envs, group.size)
            _check_tensor(f"{name}.{word}", values[name], shape, dtype, device)
    if transition.next_obs is not transition.obs:
        check_observation(env, transition.next_obs)
    for name in env.groups:
        _check_ends(name, transition)
    if transition.next_obs is transition.obs:
        assert not transition.done.any(), (
            "where an episode ended, next_obs must be its last observation, and obs the first of "
            "the next episode"
        )
        assert not any(cut.any() for cut in transition.truncated.values()), (
            "where an agent was truncated, next_obs must hold its last observation, and obs zeros"
        )
    _check_successors(transition)
    for name, value in transition.info.items():
        _check_tensor(f"info {name}", value, (env.num_envs,), torch.float32, device)


def _check_successors(transition: Transition) -> None:
    """Checks that obs and next_obs are equal where nothing ended: a replay stores one of them."""
    cut = torch.cat(list(transition.truncated.values()), dim=-1).any(-1)
    goes_on = ~(transition.done | cut)
    pairs = zip(tree_tensors(transition.obs), tree_tensors(transition.next_obs), strict=True)
    assert all(torch.equal(now[goes_on], last[goes_on]) for now, last in pairs), (
        "in a copy where nothing ended, obs and next_obs must be equal"
    )


def _check_ends(name: str, transition: Transition) -> None:
    """Checks how the agents of one group ended."""
    died, cut = transition.terminated[name], transition.truncated[name]
    everyone, goes_on = torch.ones_like(cut), ~transition.done.unsqueeze(-1)
    last, now = (o.groups[name].alive for o in (transition.next_obs, transition.obs))
    last, now = (everyone if alive is None else alive for alive in (last, now))
    assert not (died & cut).any(), f"{name}: an agent must not be terminated and truncated"
    assert not (cut & ~last).any(), f"{name}: a truncated agent must be alive in next_obs"
    assert not (cut & goes_on & now).any(), (
        f"{name}: an agent truncated while its episode goes on must be absent in obs"
    )
    assert not (last & ~died & ~cut & ~goes_on).any(), (
        f"{name}: where an episode is done, every agent still present must be terminated or "
        "truncated"
    )


def _check_tensor(
    name: str, value: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    assert isinstance(value, Tensor), f"{name} is a {type(value).__name__}, expected a tensor"
    assert tuple(value.shape) == shape, f"{name} has shape {tuple(value.shape)}, expected {shape}"
    assert value.dtype == dtype, f"{name} is {value.dtype}, expected {dtype}"
    device = torch.device(device)
    assert value.device.type == device.type and device.index in (None, value.device.index), (
        f"{name} is on {value.device}, expected {device}"
    )
    if dtype.is_floating_point:
        assert torch.isfinite(value).all(), f"{name} is not finite"


def uniform_noise(spec: ActionSpec, batch: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draws the random numbers in [0, 1) that ``uniform_action`` needs.

    Args:
        spec: the actions.
        batch: leading axes, usually ``[B, N]``.
        generator: the generator to draw from, on the device of the result.

    Returns:
        ``[*batch, *]``.
    """
    size = len(spec.low) if isinstance(spec, Continuous) else spec.mask_size
    return torch.rand(*batch, size, generator=generator, device=generator.device)


def uniform_action(spec: ActionSpec, noise: Tensor, mask: Tensor | None) -> Tensor:
    """Returns uniformly random allowed actions.

    Args:
        spec: the actions.
        noise: what ``uniform_noise`` drew, ``[..., N, *]``.
        mask: ``[..., N, mask_size]`` bool, True where a choice is allowed; None if all are.

    Returns:
        ``[..., N, *action shape]``.
    """
    if isinstance(spec, Continuous):
        low, high = constant(spec.low, noise), constant(spec.high, noise)
        return low + (high - low) * noise
    scores = noise if mask is None else torch.where(mask, noise, -1.0)
    if isinstance(spec, Discrete):
        return scores.argmax(-1)
    return torch.stack([part.argmax(-1) for part in scores.split(spec.nvec, dim=-1)], dim=-1)
