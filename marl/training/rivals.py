"""Rivals in one team: where what its agents earn adds up to the same at every step, whatever they
do, a team that learns from its mean or sum has nothing to learn."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from marl.env import VectorEnv, random_action
from marl.training.teams import Team
from marl.utils import seeding

STEPS = 40  # random ones, where rewards are paid in them
MOST = 200  # where none are
SECONDS = 1.0  # at most, in slow simulators
TOLERANCE = 1e-5  # of the largest reward: what float32 makes of a sum that is 0
SIDES = 6  # more are not written out


def warnings(
    specs: Mapping[str, Team],
    env: VectorEnv,
    seed: int,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """A sentence on each team whose rewards cancel in random play in ``env``, which tells how to
    split it. Global random states stay as they are."""
    with seeding.fork_random_state(env.device):
        found = cancelling(specs, env, seed, clock)
    return [_sentence(name, specs[name], env, rewards) for name, rewards in found.items()]


def cancelling(
    specs: Mapping[str, Team], env: VectorEnv, seed: int, clock: Callable[[], float]
) -> dict[str, Tensor]:
    """What agents earned at random, ``[T, B, N]``, in teams of one reward for all that was the same
    at every step while its agents' were not. The first step that differs acquits a team."""
    suspects: dict[str, list[Tensor]] = {n: [] for n, t in specs.items() if _shares(t, env)}
    began = clock()
    for step, reward in enumerate(_random_rewards(env, seed) if suspects else (), 1):
        for name, earned in list(suspects.items()):
            earned.append(torch.cat([reward[g] for g in specs[name].groups or ()], dim=-1).cpu())
            if not _level(earned[-1], earned[0]):
                del suspects[name]
        paid = all(any(e.any() for e in earned) for earned in suspects.values())
        late = step >= MOST or clock() - began > SECONDS
        if not suspects or late or (paid and step >= STEPS):
            break
    stacked = {name: torch.stack(earned) for name, earned in suspects.items()}
    return {name: rewards for name, rewards in stacked.items() if _cancels(rewards)}


def _shares(team: Team, env: VectorEnv) -> bool:
    """Whether several agents learn from one reward."""
    agents = sum(env.groups[name].size for name in team.groups or ())
    return agents > 1 and getattr(team.algorithm, "reward", "") in ("team_mean", "team_sum")


def _random_rewards(env: VectorEnv, seed: int) -> Iterator[Mapping[str, Tensor]]:
    random = seeding.generator(env.device, seed, "rivals")
    obs = env.reset(seeding.evaluation_seed(seed, "rivals"))
    while True:
        action = {n: random_action(g, obs.groups[n], random) for n, g in env.groups.items()}
        transition = env.step(action)
        yield transition.reward
        obs = transition.obs


def _level(rewards: Tensor, first: Tensor) -> bool:
    """Whether ``[..., N]`` add up to what the first of all did."""
    scale = max(rewards.abs().max().item(), first.abs().max().item())
    total = first.sum(-1).flatten()[0]
    return bool(((rewards.sum(-1) - total).abs() <= TOLERANCE * scale).all())


def _cancels(rewards: Tensor) -> bool:
    """Whether agents earn anything ``[T, B, N]`` that their sum, always the same, does not show:
    changing rewards, or constant ones that make 0."""
    flat, scale = rewards.flatten(0, 1), rewards.abs().max()
    varies = (flat.amax(0) - flat.amin(0)).max() > TOLERANCE * scale
    makes_nothing = flat[0].sum().abs() <= TOLERANCE * scale
    return bool((scale > 0) & (varies | makes_nothing))


# -------------------------------------------------------------------------------- how to split them


def _sentence(name: str, team: Team, env: VectorEnv, rewards: Tensor) -> str:
    agents = [(group, agent) for group in team.groups or () for agent in env.groups[group].agents]
    total, steps = rewards[0, 0].sum().item(), rewards[..., 0].numel()
    words = " ".join(shlex.quote(word) for word in split(agents, rewards, env))
    return (
        f"team {name!r} has nothing to learn: in {steps:,} random steps what its agents earned "
        f"always added up to {round(total, 4) + 0:g}, and it learns from "
        f"{team.algorithm.reward} alone; rivals need a team each, for instance\n"
        f"    {words}\n  or their own rewards: algorithm.reward=own (evaluations then "
        "show their mean return, which never changes)"
    )


def split(agents: Sequence[tuple[str, str]], rewards: Tensor, env: VectorEnv) -> list[str]:
    """Settings that put rivals, of ``agents`` (group, name) with these rewards ``[T, B, N]``, into
    teams of their own."""
    sides = _sides([group for group, _ in agents], rewards)
    members = [[agents[i] for i in side] for side in sides]
    names = [_name(side, env, number) for number, side in enumerate(members, 1)]
    new: dict[str, list[str]] = {}
    settings = []
    for name, side in zip(names, members, strict=True):
        inside: dict[str, list[str]] = {}
        for group, agent in side:
            inside.setdefault(group, []).append(agent)
        whole = all(len(inside[group]) == env.groups[group].size for group in inside)
        groups = inside if whole else {_joined(name, g, inside): a for g, a in inside.items()}
        new |= groups
        settings.append(f"teams.{name}.groups=[{','.join(map(_word, groups))}]")
    there = {name: list(group.agents) for name, group in env.groups.items()}
    if new.items() <= there.items():
        return settings
    others = {n: a for n, a in there.items() if n not in {group for group, _ in agents}}
    parts = [f"{_word(n)}:[{','.join(map(_word, a))}]" for n, a in {**others, **new}.items()]
    return [f"task.groups={{{','.join(parts)}}}", *settings]


def _sides(groups: Sequence[str], rewards: Tensor) -> list[list[int]]:
    """Who may be on whose side, as places in the team: those that were always paid alike, and
    whole groups where that leaves rivals apart. Of too many sides two halves."""
    columns = rewards.flatten(0, 1).T
    alike = [
        [j for j in range(len(groups)) if torch.equal(columns[i], columns[j]) and columns[i].any()]
        for i in range(len(groups))
    ]
    friends = [own or [i] for i, own in enumerate(alike)]
    together = [[j for j, other in enumerate(groups) if other == group] for group in groups]
    for links in ([f + t for f, t in zip(friends, together, strict=True)], friends):
        sides = _connected(links)
        if 1 < len(sides) <= SIDES and not any(_flat(rewards[..., side]) for side in sides):
            return sides
    if len(sides) <= SIDES:
        return sides
    places = list(range(len(groups)))
    return [places[: len(places) // 2], places[len(places) // 2 :]]


def _flat(rewards: Tensor) -> bool:
    """Whether a side's rewards add up to the same at every step."""
    total = rewards.sum(-1)
    return bool(total.max() - total.min() <= TOLERANCE * rewards.abs().max())


def _connected(links: Sequence[Sequence[int]]) -> list[list[int]]:
    """The sets of places that links hold together, in order."""
    side = list(range(len(links)))
    for _ in links:
        for i, others in enumerate(links):
            least = min(side[j] for j in (i, *others))
            for j in (i, *others):
                side[j] = least
    return [[i for i, own in enumerate(side) if own == s] for s in sorted(set(side))]


def _name(side: Sequence[tuple[str, str]], env: VectorEnv, number: int) -> str:
    """The team's: its only agent's, its whole group's, or ``side_1``."""
    groups = {group for group, _ in side}
    (group, agent), *more = side
    if len(groups) == 1 and len(side) == env.groups[group].size and re.fullmatch(r"\w+", group):
        return group
    return agent if not more and re.fullmatch(r"[A-Za-z_]\w*", agent) else f"side_{number}"


def _joined(name: str, group: str, inside: Mapping[str, list[str]]) -> str:
    return name if len(inside) == 1 else f"{name}_{group}"


def _word(name: str) -> str:
    """As Hydra reads it."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else "'" + name.replace("'", "\\'") + "'"
