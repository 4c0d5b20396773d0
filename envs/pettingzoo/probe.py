"""Probe of one copy of an environment: spaces, masks, state size and metrics of its infos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from marl.envs.pettingzoo.actions import ActionDecoder, Bounded, action_decoder
from marl.envs.pettingzoo.copies import ends
from marl.envs.pettingzoo.creation import create
from marl.envs.pettingzoo.layout import Agent, Factory
from marl.envs.pettingzoo.masks import find_mask, write_mask
from marl.envs.pettingzoo.randomness import Streams
from marl.envs.pettingzoo.report import check_vectors, is_number
from marl.envs.pettingzoo.seeds import ignores_seed
from marl.envs.pettingzoo.spaces import Encoder, observation_encoder
from marl.errors import UserError

RESET = ("observations", "infos")
STEP = ("observations", "rewards", "terminations", "truncations", "infos")
STEPS = 32  # random ones; the numbers of their infos are metrics from the first step on


@dataclass(frozen=True)
class Profile:
    """Profile of an environment; agents are its own ids, of any type.

    Attributes:
        encoders: of the agents' observations, in the order of ``possible_agents``.
        decoders: of the agents' actions.
        masked: agents with an action mask.
        info: names of the numbers that some agent's info holds.
        state_size: S of the environment's state; None where it was not asked for.
        ignores_seed: whether two resets with one seed give other observations.
        rivals: whether every agent plays against all others.
    """

    encoders: Mapping[Agent, Encoder]
    decoders: Mapping[Agent, ActionDecoder]
    masked: frozenset[Agent]
    info: tuple[str, ...]
    state_size: int | None
    ignores_seed: bool = False
    rivals: bool = False


def probe(make: Factory, state: bool) -> Profile:
    """Returns the profile of the environments that ``make`` makes, from one that it closes again.

    Args:
        make: makes one environment.
        state: whether the environment's ``state()`` is needed.

    Raises:
        UserError: spaces that cannot be used, or a ``state()`` that is needed and fails.
    """
    streams = Streams([0], seed=0)
    with streams.installed(0):
        return _profile(make, state, streams)


def _profile(make: Factory, state: bool, streams: Streams) -> Profile:
    env = create(make)
    try:
        encoders = {
            a: observation_encoder(env.observation_space(a), a) for a in env.possible_agents
        }
        decoders = {a: action_decoder(env.action_space(a), a) for a in env.possible_agents}
        masked, info = _play(env, decoders)
        size = _state_size(env) if state else None
        unseeded, rivals = ignores_seed(env, streams), getattr(env, "rivals", False) is True
        return Profile(encoders, decoders, masked, info, size, unseeded, rivals)
    finally:
        env.close()


def _play(
    env: Any, decoders: Mapping[Agent, ActionDecoder]
) -> tuple[frozenset[Agent], tuple[str, ...]]:
    """Plays random steps, at most to the episode's end; returns the agents with masks and the names
    of the infos' numbers."""
    rng = np.random.default_rng(0)
    observations, infos = _values(env, "reset", env.reset(seed=0), RESET)
    masked, keys = _masked(observations, infos, decoders), set()
    acting, paid = set(), set()
    for _ in range(STEPS):
        actions = {
            a: decoders[a].sample(rng, _mask(decoders[a], observations.get(a), infos.get(a)))
            for a in env.agents
        }
        result = _values(env, "step", env.step(actions), STEP)
        observations, rewards, terminations, truncations, infos = result
        check_vectors(rewards)
        acting |= set(actions)
        paid |= set(rewards)
        masked |= _masked(observations, infos, decoders)
        keys |= {k for a in infos if a in decoders for k, v in infos[a].items() if is_number(k, v)}
        if set(env.agents) <= set().union(*ends(set(env.agents), terminations, truncations)):
            break
    if unpaid := sorted(acting - paid, key=str):
        raise UserError(
            f"{env} gave no reward to agent {unpaid[0]!r}, which acted; step() must return a "
            "reward for every agent that acts, 0 if it earned nothing"
        )
    return frozenset(masked), tuple(sorted(keys))


def _values(env: Any, name: str, result: Any, expected: tuple[str, ...]) -> Any:
    """Returns what a method of an environment returned.

    Raises:
        UserError: it is not as many dicts as PettingZoo's parallel environments return.
    """
    number = len(result) if isinstance(result, tuple | list) else 1
    if number != len(expected):
        raise UserError(
            f"{name}() of {env} returned {number} value{'s' if number > 1 else ''}; expected "
            f"{len(expected)}, each a dict by agent: {', '.join(expected)}"
        )
    for word, value in zip(expected, result, strict=True):
        if not isinstance(value, Mapping):
            raise UserError(
                f"{name}() of {env} returned {word} as a {type(value).__name__}; expected a dict "
                "by agent"
            )
    return result


def _masked(
    observations: Mapping[Agent, Any],
    infos: Mapping[Agent, Any],
    decoders: Mapping[Agent, ActionDecoder],
) -> set[Agent]:
    agents = [a for a in decoders if not isinstance(decoders[a], Bounded)]
    return {a for a in agents if find_mask(observations.get(a), infos.get(a)) is not None}


def _mask(decoder: ActionDecoder, observation: Any, info: Any) -> np.ndarray | None:
    """Returns an agent's mask, ``[sum(nvec)]`` bool; None without one."""
    mask = find_mask(observation, info)
    if isinstance(decoder, Bounded) or mask is None:
        return None
    flat = np.zeros(sum(decoder.nvec), dtype=bool)
    write_mask(mask, decoder.nvec, flat)
    return flat


def _state_size(env: Any) -> int:
    try:
        return int(np.size(np.asarray(env.state(), dtype=np.float32)))
    except Exception as error:  # whatever an unfinished state() raises
        raise UserError(
            f"state=true, but {env} has no usable state(): {type(error).__name__}: {error}; set "
            "task.state=false, and critics concatenate observations"
        ) from error
