"""Detection of rivals in one team, whose rewards cancel.

If the rewards of a team's agents add up to the same number at each step, whatever they do, a team
that learns from their mean or sum has nothing to learn.
"""

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

MIN_STEPS = 40  # of random play, if any reward is paid in them
MAX_STEPS = 200  # of random play, if none is paid
MAX_SECONDS = 1.0  # of random play, in slow simulators
TOLERANCE = 1e-5  # as a share of the largest reward: rounding of a float32 sum that is 0
MAX_SIDES = 6  # that a warning names


def warnings(
    specs: Mapping[str, Team],
    env: VectorEnv,
    seed: int,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Returns a warning for each team whose rewards cancel in random play, with a remedy.

    Global random states do not change.

    Args:
        specs: teams of the run, by name.
        env: environment to play in; it is not reset afterwards.
        seed: seed of random play.
        clock: returns seconds.
    """
    with seeding.fork_random_state(env.device):
        rewards_by_team = cancelling_rewards(specs, env, seed, clock)
    return [_warning(name, specs[name], env, x) for name, x in rewards_by_team.items()]


def cancelling_rewards(
    specs: Mapping[str, Team], env: VectorEnv, seed: int, clock: Callable[[], float]
) -> dict[str, Tensor]:
    """Plays at random, and returns the rewards of teams whose common reward never changes.

    Only teams in which several agents learn from one reward are candidates, and only those whose
    agents' own rewards do change are returned. The first step with another sum clears a team.

    Args:
        specs: teams of the run, by name.
        env: environment to play in; it is not reset afterwards.
        seed: seed of random play.
        clock: returns seconds.

    Returns:
        The agents' rewards by team, ``[T, B, N]``.
    """
    candidates: dict[str, list[Tensor]] = {
        name: [] for name, team in specs.items() if _shares_reward(team, env)
    }
    start_time = clock()
    for step, reward in enumerate(_random_rewards(env, seed) if candidates else (), 1):
        for name, steps in list(candidates.items()):
            steps.append(torch.cat([reward[g] for g in specs[name].groups or ()], dim=-1).cpu())
            if not _has_same_sum(steps[-1], steps[0]):
                del candidates[name]
        any_paid = all(any(x.any() for x in steps) for steps in candidates.values())
        too_long = step >= MAX_STEPS or clock() - start_time > MAX_SECONDS
        if not candidates or too_long or (any_paid and step >= MIN_STEPS):
            break
    rewards_by_team = {name: torch.stack(steps) for name, steps in candidates.items()}
    return {name: rewards for name, rewards in rewards_by_team.items() if _cancels(rewards)}


def _shares_reward(team: Team, env: VectorEnv) -> bool:
    """Returns whether several agents learn from one reward."""
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


def _has_same_sum(rewards: Tensor, first: Tensor) -> bool:
    """Returns whether rewards ``[B, N]`` add up to the sum in the first step's first copy."""
    scale = max(rewards.abs().max().item(), first.abs().max().item())
    total = first.sum(-1).flatten()[0]
    return bool(((rewards.sum(-1) - total).abs() <= TOLERANCE * scale).all())


def _cancels(rewards: Tensor) -> bool:
    """Returns whether rewards ``[T, B, N]`` of a constant sum hold anything that the sum hides.

    These are rewards that change, or constant ones with sum 0.
    """
    flat, scale = rewards.flatten(0, 1), rewards.abs().max()
    varies = (flat.amax(0) - flat.amin(0)).max() > TOLERANCE * scale
    sum_is_zero = flat[0].sum().abs() <= TOLERANCE * scale
    return bool((scale > 0) & (varies | sum_is_zero))


# ------------------------------------------------------------------------------ splitting the team


def _warning(name: str, team: Team, env: VectorEnv, rewards: Tensor) -> str:
    agents = [(group, agent) for group in team.groups or () for agent in env.groups[group].agents]
    total, steps = rewards[0, 0].sum().item(), rewards[..., 0].numel()
    options = " ".join(map(shlex.quote, split(agents, rewards, env)))
    return (
        f"team {name!r} has nothing to learn: in {steps:,} random steps the rewards of its agents "
        f"always added up to {round(total, 4) + 0:g}, and it learns from "
        f"{team.algorithm.reward} alone; rivals need a team each, for instance\n"
        f"    {options}\n  or their own rewards: algorithm.reward=own (evaluations then "
        "show their mean return, which never changes)"
    )


def split(agents: Sequence[tuple[str, str]], rewards: Tensor, env: VectorEnv) -> list[str]:
    """Returns settings for the command line that put rivals into teams of their own.

    Args:
        agents: agents of the team as (group, name).
        rewards: their rewards, ``[T, B, N]``.
        env: the environment.
    """
    sides = _sides([group for group, _ in agents], rewards)
    members = [[agents[i] for i in side] for side in sides]
    names = [_name(side, env, number) for number, side in enumerate(members, 1)]
    new: dict[str, list[str]] = {}
    settings = []
    for name, side in zip(names, members, strict=True):
        by_group: dict[str, list[str]] = {}
        for group, agent in side:
            by_group.setdefault(group, []).append(agent)
        complete = all(len(by_group[group]) == env.groups[group].size for group in by_group)
        groups = by_group
        if not complete:
            groups = {_group_name(name, g, by_group): names for g, names in by_group.items()}
        new |= groups
        settings.append(f"teams.{name}.groups=[{','.join(map(_quote, groups))}]")
    present = {name: list(group.agents) for name, group in env.groups.items()}
    if new.items() <= present.items():
        return settings
    others = {n: a for n, a in present.items() if n not in {group for group, _ in agents}}
    parts = [f"{_quote(n)}:[{','.join(map(_quote, a))}]" for n, a in {**others, **new}.items()]
    return [f"task.groups={{{','.join(parts)}}}", *settings]


def _sides(groups: Sequence[str], rewards: Tensor) -> list[list[int]]:
    """Divides a team into sides, as places in it.

    Agents with the same rewards are on one side, and so are whole groups if that separates rivals
    all the same. Instead of too many sides it returns two halves.
    """
    columns = rewards.flatten(0, 1).T
    same_rewards = [
        [j for j in range(len(groups)) if torch.equal(columns[i], columns[j]) and columns[i].any()]
        for i in range(len(groups))
    ]
    allies = [places or [i] for i, places in enumerate(same_rewards)]
    same_group = [[j for j, other in enumerate(groups) if other == group] for group in groups]
    for links in ([a + g for a, g in zip(allies, same_group, strict=True)], allies):
        sides = _connected(links)
        constant = (_is_constant(rewards[..., side]) for side in sides)
        if 1 < len(sides) <= MAX_SIDES and not any(constant):
            return sides
    if len(sides) <= MAX_SIDES:
        return sides
    places = list(range(len(groups)))
    return [places[: len(places) // 2], places[len(places) // 2 :]]


def _is_constant(rewards: Tensor) -> bool:
    """Returns whether the rewards of a side add up to the same number at each step."""
    total = rewards.sum(-1)
    return bool(total.max() - total.min() <= TOLERANCE * rewards.abs().max())


def _connected(links: Sequence[Sequence[int]]) -> list[list[int]]:
    """Returns the connected components of places, in order; ``links`` are the edges of each."""
    side = list(range(len(links)))
    for _ in links:
        for i, others in enumerate(links):
            least = min(side[j] for j in (i, *others))
            for j in (i, *others):
                side[j] = least
    return [[i for i, of_place in enumerate(side) if of_place == s] for s in sorted(set(side))]


def _name(side: Sequence[tuple[str, str]], env: VectorEnv, number: int) -> str:
    """Returns a name for a side: that of its only agent or its whole group, or ``side_1``."""
    groups = {group for group, _ in side}
    (group, agent), *rest = side
    if len(groups) == 1 and len(side) == env.groups[group].size and re.fullmatch(r"\w+", group):
        return group
    return agent if not rest and re.fullmatch(r"[A-Za-z_]\w*", agent) else f"side_{number}"


def _group_name(name: str, group: str, by_group: Mapping[str, list[str]]) -> str:
    return name if len(by_group) == 1 else f"{name}_{group}"


def _quote(name: str) -> str:
    """Quotes a name for Hydra if that is necessary."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else "'" + name.replace("'", "\\'") + "'"
