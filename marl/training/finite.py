"""Checks that rollouts and steps hold finite numbers, and errors that say which do not.

A check waits for the device once: finite numbers have a finite sum, and a sum reads everything once
and allocates nothing. A sum that overflows only costs a second, closer check.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from marl.errors import Diverged, EnvironmentFault, UserError
from marl.types import AgentGroup, Observation, Rollout, Transition, tree_map

Groups = Mapping[str, AgentGroup]
GRAPH_FIELDS = ("position", "velocity", "goal")  # tensors of a graph that may be not finite


@dataclass(frozen=True)
class Place:
    """A tensor to check, and the error about a number in it that is not finite."""

    #: Template of the error, with the fields ``agent``, ``value`` and ``entry``.
    template: str
    #: The numbers, ``[T, B, ...]``.
    values: Tensor
    #: Agents of the axis after B; empty if that axis is not of agents.
    agents: tuple[str, ...] = ()
    #: Class of the error.
    error: type[UserError] = EnvironmentFault


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Returns whether no tensor holds NaN or infinity; waits for the device."""
    floats = [x for x in tensors if x.is_floating_point()]
    if not floats or bool(torch.stack([x.sum().float() for x in floats]).sum().isfinite()):
        return True
    return all(bool(x.isfinite().all()) for x in floats)


def check_rollout(rollout: Rollout, info: Mapping[str, Tensor], groups: Groups) -> None:
    """Checks what the environment returned in a rollout.

    Args:
        rollout: ``[T, B, ...]``.
        info: metrics by name, ``[T, B]``.
        groups: groups of the environment.

    Raises:
        EnvironmentFault: a number is not finite; names it, its agent, the step and the copy.
        Diverged: an action is not finite, and came first.
    """
    observed = [*_tensors(rollout.obs), *_tensors(rollout.next_obs)]
    if all_finite([*observed, *rollout.reward.values(), *info.values()]):
        return
    places = [
        *_observation_places(rollout.obs, groups),
        *_action_places(rollout.action, groups),
        *_reward_places(rollout.reward, groups),
        *_observation_places(rollout.next_obs, groups),
        *(Place(f"metric {name!r} is {{value}}", value) for name, value in info.items()),
    ]
    raise first_fault(places, "in step {step} of the rollout, in copy {copy}", 1)


def check_step(obs: Observation, transition: Transition, step: int, groups: Groups) -> None:
    """Checks one step of an episode.

    Successors that the next step begins with are left to the check of that step.

    Args:
        obs: observations that the step began with, ``[B, ...]``.
        transition: what it led to.
        step: number of the step in its episode, from 1.
        groups: groups of the environment.

    Raises:
        EnvironmentFault: a number is not finite; names it, its agent, the step and the copy.
    """
    observed = _tensors(obs)
    if transition.next_obs is not transition.obs:
        observed += _tensors(transition.next_obs)
    if all_finite([*observed, *transition.reward.values()]):
        return
    parts = (obs, transition.reward, transition.next_obs)
    before, reward, after = tree_map(lambda x: x.unsqueeze(0), parts)
    places = [
        *_observation_places(before, groups),
        *_reward_places(reward, groups),
        *_observation_places(after, groups),
    ]
    raise first_fault(places, "in step {step} of an episode of copy {copy}", step)


def check_metrics(metrics: Mapping[str, Tensor]) -> None:
    """Checks the metrics ``[B]`` of evaluated episodes, by name.

    Raises:
        EnvironmentFault: a metric is not finite; names it and the copy.
    """
    if all_finite(metrics.values()):
        return
    places = [Place(f"metric {n!r} is {{value}}", v.unsqueeze(0)) for n, v in metrics.items()]
    raise first_fault(places, "at the end of an episode of copy {copy}", 0)


def first_fault(places: Sequence[Place], when: str, first: int) -> UserError:
    """Returns the error about the number that is the first in time not to be finite.

    Args:
        places: tensors to search; of several in the same step the first in this order counts.
        when: template of the beginning of the error, with the fields ``step`` and ``copy``.
        first: number of the tensors' first step.
    """
    floats = [place for place in places if place.values.is_floating_point()]
    faults = [(place, (~place.values.isfinite()).nonzero()) for place in floats]
    place, indices = min((f for f in faults if len(f[1])), key=lambda f: int(f[1][0, 0]))
    step, copy, *entry = index = indices[0].tolist()
    agent = place.agents[entry.pop(0)] if place.agents else None
    value = place.values[tuple(index)].item()
    fact = place.template.format(agent=agent, value=value, entry=entry)
    return place.error(
        f"{when.format(step=first + step, copy=copy)}, {fact}; expected a finite number"
    )


def _tensors(obs: Observation) -> list[Tensor]:
    """Returns the tensors of observations that may hold numbers which are not finite.

    They are listed by hand, for a walk of the tree is slow beside a small environment's step.
    """
    tensors = [group_obs.obs for group_obs in obs.groups.values()]
    if obs.state is not None:
        tensors.append(obs.state)
    if obs.graph is not None:
        tensors += [getattr(obs.graph, name) for name in GRAPH_FIELDS]
    return tensors


def _observation_places(obs: Observation, groups: Groups) -> Iterator[Place]:
    for name, group in groups.items():
        template = f"agent {{agent!r}} of group {name!r} observes {{value}} at {{entry}}"
        yield Place(template, obs.groups[name].obs, group.agents)
    if obs.state is not None:
        yield Place("the state is {value} at {entry}", obs.state)
    for name in GRAPH_FIELDS if obs.graph is not None else ():
        template = f"the graph's {name} is {{value}} at {{entry}} (entity, coordinate)"
        yield Place(template, getattr(obs.graph, name))


def _reward_places(reward: Mapping[str, Tensor], groups: Groups) -> Iterator[Place]:
    for name, group in groups.items():
        template = f"agent {{agent!r}} of group {name!r} was paid {{value}}"
        yield Place(template, reward[name], group.agents)


def _action_places(action: Mapping[str, Tensor], groups: Groups) -> Iterator[Place]:
    for name, group in groups.items():
        template = f"the policy of agent {{agent!r}} of group {name!r} acts {{value}} at {{entry}}"
        yield Place(template, action[name], group.agents, Diverged)
