"""Whether what a rollout or a step holds are numbers; and where they are not, in words.

The device is asked once: finite numbers have a finite sum (but for one beyond what a float holds,
which costs a closer look and no more), and a sum reads everything once and allocates nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from marl.errors import Diverged, EnvironmentFault, UserError
from marl.types import AgentGroup, Observation, Rollout, Transition, tree_map

Groups = Mapping[str, AgentGroup]
PLACES = ("position", "velocity", "goal")  # of a graph


@dataclass(frozen=True)
class Place:
    """Where numbers stand, and what is said of one that is not finite."""

    words: str
    values: Tensor  # [T, B, ...]
    agents: tuple[str, ...] = ()  # of the axis after B, where it is of agents
    error: type[UserError] = EnvironmentFault


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether none of the tensors holds NaN or infinity. Waits for the device."""
    floats = [x for x in tensors if x.is_floating_point()]
    if not floats or bool(torch.stack([x.sum().float() for x in floats]).sum().isfinite()):
        return True
    return all(bool(x.isfinite().all()) for x in floats)


def check_rollout(rollout: Rollout, info: Mapping[str, Tensor], groups: Groups) -> None:
    """Looks at what the environment gave in ``rollout``, and at the metrics ``info [T, B]``.

    Raises:
        EnvironmentFault: a number is not finite; names what and whose, the step and the copy.
        Diverged: the same of an action, which came first.
    """
    observed = [*_tensors(rollout.obs), *_tensors(rollout.next_obs)]
    if all_finite([*observed, *rollout.reward.values(), *info.values()]):
        return
    places = [
        *_observed(rollout.obs, groups),
        *_acted(rollout.action, groups),
        *_paid(rollout.reward, groups),
        *_observed(rollout.next_obs, groups),
        *(Place(f"metric {name!r} is {{value}}", value) for name, value in info.items()),
    ]
    raise first_fault(places, "in step {step} of the rollout, in copy {copy}", 1)


def check_step(obs: Observation, transition: Transition, step: int, groups: Groups) -> None:
    """Looks at what the ``step``-th step (from 1) of an episode began with and led to; where the
    next one begins with what this one led to, that is left to the next.

    Raises:
        EnvironmentFault: a number is not finite; names what and whose, the step and the copy.
    """
    observed = _tensors(obs)
    if transition.next_obs is not transition.obs:
        observed += _tensors(transition.next_obs)
    if all_finite([*observed, *transition.reward.values()]):
        return
    given = (obs, transition.reward, transition.next_obs)
    before, reward, after = tree_map(lambda x: x.unsqueeze(0), given)
    places = [*_observed(before, groups), *_paid(reward, groups), *_observed(after, groups)]
    raise first_fault(places, "in step {step} of an episode of copy {copy}", step)


def check_metrics(metrics: Mapping[str, Tensor]) -> None:
    """Looks at the metrics ``[B]`` of evaluated episodes.

    Raises:
        EnvironmentFault: one is not finite; names it and the copy.
    """
    if all_finite(metrics.values()):
        return
    places = [Place(f"metric {n!r} is {{value}}", v.unsqueeze(0)) for n, v in metrics.items()]
    raise first_fault(places, "at the end of an episode of copy {copy}", 0)


def first_fault(places: Sequence[Place], when: str, first: int) -> UserError:
    """The error of what is not finite first in time, and of these of what comes first in
    ``places``; their steps count from ``first``."""
    found = [(p, (~p.values.isfinite()).nonzero()) for p in places if p.values.is_floating_point()]
    place, bad = min((f for f in found if len(f[1])), key=lambda f: int(f[1][0, 0]))
    step, copy, *entry = index = bad[0].tolist()
    agent = place.agents[entry.pop(0)] if place.agents else None
    value = place.values[tuple(index)].item()
    fact = place.words.format(agent=agent, value=value, entry=entry)
    return place.error(
        f"{when.format(step=first + step, copy=copy)}, {fact}; expected a finite number"
    )


def _tensors(obs: Observation) -> list[Tensor]:
    """What can hold numbers that are not finite. By hand, for a walk of the tree takes longer than
    a small environment's step has to spare."""
    found = [seen.obs for seen in obs.groups.values()]
    if obs.state is not None:
        found.append(obs.state)
    if obs.graph is not None:
        found += [getattr(obs.graph, name) for name in PLACES]
    return found


def _observed(obs: Observation, groups: Groups) -> Iterator[Place]:
    for name, group in groups.items():
        words = f"agent {{agent!r}} of group {name!r} observes {{value}} at {{entry}}"
        yield Place(words, obs.groups[name].obs, group.agents)
    if obs.state is not None:
        yield Place("the state is {value} at {entry}", obs.state)
    for name in PLACES if obs.graph is not None else ():
        words = f"the graph's {name} is {{value}} at {{entry}} (entity, coordinate)"
        yield Place(words, getattr(obs.graph, name))


def _paid(reward: Mapping[str, Tensor], groups: Groups) -> Iterator[Place]:
    for name, group in groups.items():
        words = f"agent {{agent!r}} of group {name!r} was paid {{value}}"
        yield Place(words, reward[name], group.agents)


def _acted(action: Mapping[str, Tensor], groups: Groups) -> Iterator[Place]:
    for name, group in groups.items():
        words = f"the policy of agent {{agent!r}} of group {name!r} acts {{value}} at {{entry}}"
        yield Place(words, action[name], group.agents, Diverged)
