"""Looks at one copy of an environment before any layout is known: spaces, masks, state, infos."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from marl.envs.pettingzoo.copies import ends
from marl.envs.pettingzoo.factories import create
from marl.envs.pettingzoo.layout import Agent, Factory
from marl.envs.pettingzoo.randomness import Streams
from marl.envs.pettingzoo.report import check_vectors, is_number
from marl.envs.pettingzoo.spaces import (
    ActionDecoder,
    Bounded,
    Encoder,
    action_decoder,
    find_mask,
    observation_encoder,
    write_mask,
)
from marl.errors import UserError

STEPS = 32  # of random actions: what infos tell by then is a metric from the first step on


@dataclass(frozen=True)
class Profile:
    """What is known of an environment. Agents are the environment's own ids, of any type."""

    encoders: Mapping[Agent, Encoder]  # in the order of possible_agents
    decoders: Mapping[Agent, ActionDecoder]
    masked: frozenset[Agent]
    info: tuple[str, ...]  # numbers that some agent's info holds
    state_size: int | None


def probe(make: Factory, state: bool) -> Profile:
    """The profile of the environments that ``make`` makes, from one that is closed again.

    Raises:
        UserError: spaces that cannot be used, or a state that was asked for and cannot be had.
    """
    with Streams([0], seed=0).lent(0):
        return _profile(make, state)


def _profile(make: Factory, state: bool) -> Profile:
    env = create(make)
    try:
        encoders = {
            a: observation_encoder(env.observation_space(a), a) for a in env.possible_agents
        }
        decoders = {a: action_decoder(env.action_space(a), a) for a in env.possible_agents}
        masked, info = _play(env, decoders)
        return Profile(encoders, decoders, masked, info, _state_size(env) if state else None)
    finally:
        env.close()


def _play(
    env: Any, decoders: Mapping[Agent, ActionDecoder]
) -> tuple[frozenset[Agent], tuple[str, ...]]:
    """A few random steps, at most to the episode's end: who is masked, and the keys of infos."""
    rng = np.random.default_rng(0)
    observations, infos = env.reset(seed=0)
    masked, keys = _masked(observations, infos, decoders), set()
    for _ in range(STEPS):
        actions = {
            a: decoders[a].sample(rng, _mask(decoders[a], observations.get(a), infos.get(a)))
            for a in env.agents
        }
        observations, rewards, terminations, truncations, infos = env.step(actions)
        check_vectors(rewards)
        masked |= _masked(observations, infos, decoders)
        keys |= {k for a in infos if a in decoders for k, v in infos[a].items() if is_number(k, v)}
        if set(env.agents) <= set().union(*ends(set(env.agents), terminations, truncations)):
            break
    return frozenset(masked), tuple(sorted(keys))


def _masked(
    observations: Mapping[Agent, Any],
    infos: Mapping[Agent, Any],
    decoders: Mapping[Agent, ActionDecoder],
) -> set[Agent]:
    agents = [a for a in decoders if not isinstance(decoders[a], Bounded)]
    return {a for a in agents if find_mask(observations.get(a), infos.get(a)) is not None}


def _mask(decoder: ActionDecoder, observation: Any, info: Any) -> np.ndarray | None:
    found = find_mask(observation, info)
    if isinstance(decoder, Bounded) or found is None:
        return None
    mask = np.zeros(sum(decoder.nvec), dtype=bool)
    write_mask(found, decoder.nvec, mask)
    return mask


def _state_size(env: Any) -> int:
    try:
        return int(np.size(np.asarray(env.state(), dtype=np.float32)))
    except Exception as error:  # whatever an unfinished state() raises
        raise UserError(
            f"state=true, but {env} has no usable state(): {type(error).__name__}: {error}; "
            "without it, critics concatenate observations"
        ) from error
