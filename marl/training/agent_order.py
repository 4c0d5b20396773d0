"""Agents by name. Weights, states and replays go by an agent's place in its group, so a run tells
who stands where (``agents`` in config.json), and whoever plays with its policies puts the
environment's agents there, or refuses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from marl.env import VectorEnv
from marl.errors import UserError
from marl.types import AgentGroup
from marl.utils import distributed

Order: TypeAlias = Mapping[str, Sequence[str]]  # group -> its agents, both in order
SHOWN = 6  # agents of a group in an error


def order_of(groups: Mapping[str, AgentGroup]) -> dict[str, list[str]]:
    return {name: list(group.agents) for name, group in groups.items()}


def read(directory: Path) -> Order | None:
    """The order that a run saved; None where there is no such run, or it is older than this."""
    try:
        return json.loads((directory / "config.json").read_text()).get("agents")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def new(found: Order) -> Order:
    """The order of a new run: agents of a group by number, for those of a set come in another order
    in every process; the first rank's on all of them."""
    counted = {name: sorted(agents, key=_number) for name, agents in found.items()}
    return json.loads(distributed.broadcast_text(json.dumps(counted)))


def _number(agent: str) -> tuple[str, int, str]:
    stem = re.sub(r"\d+$", "", agent)
    return stem, int(agent[len(stem) :] or 0), agent


def arranged(found: Order, saved: Order | None) -> Order:
    """``found`` in the order of ``saved``; what that does not know comes last."""
    if saved is None:
        return found
    places = {agent: i for agents in saved.values() for i, agent in enumerate(agents)}
    groups = [*(g for g in saved if g in found), *(g for g in found if g not in saved)]
    return {g: sorted(found[g], key=lambda agent: places.get(agent, len(places))) for g in groups}


def alike(one: Order, other: Order) -> bool:
    return [(n, list(a)) for n, a in one.items()] == [(n, list(a)) for n, a in other.items()]


class Ordered:
    """Makes environments of ``task`` with their agents in the order that ``wanted`` makes of what
    the task finds. A task without ``groups``, or whose maker reads none, stays as it is.

    Args:
        task: called with (num_envs, device).
        wanted: the order found -> the order wanted.
    """

    def __init__(self, task: Callable[..., VectorEnv], wanted: Callable[[Order], Order]):
        self.task, self.wanted = task, wanted

    def __call__(self, num_envs: int, device: torch.device) -> VectorEnv:
        env = self.task(num_envs, device)
        found = order_of(env.groups)
        wanted = self.wanted(found)
        given = getattr(self.task, "groups", wanted)
        if alike(found, wanted) or alike(given, wanted):
            return env
        env.close()
        task: Any = self.task
        self.task = replace(task, groups={name: list(agents) for name, agents in wanted.items()})
        return self.task(num_envs, device)


def check(env: VectorEnv, saved: Order | None, run: Path) -> None:
    """Raises UserError where ``env`` has other agents than the run to be resumed, or an order that
    could not be changed."""
    found = order_of(env.groups)
    if saved is not None and not alike(found, saved):
        raise UserError(
            f"{str(run)!r} was trained with the agents {written(saved)}, and its environment now "
            f"has {written(found)}; resume it where the environment has the same, in that order"
        )


def check_places(
    groups: Mapping[str, AgentGroup],
    saved: Order | None,
    path: Path,
    build: Callable[[Mapping[str, AgentGroup]], object] | None = None,
) -> None:
    """Raises UserError where ``groups``, which are to play with the policy in ``path``, are other
    agents than those it learned for, or in another order, and it tells agents apart.

    ``build`` makes such a policy for groups; without it, one for as many agents may tell them
    apart.
    """
    before = {name: list((saved or {}).get(name, ())) for name in groups}
    found = order_of(groups)
    if saved is None or before == found:
        return
    if build is None:
        knows = all(len(before[name]) == len(found[name]) for name in groups)
    else:  # weights of each agent's own, one-hot numbers and graphs grow with the group
        more = {n: replace(g, agents=(*g.agents, "one more")) for n, g in groups.items()}
        knows = _shapes(build(groups)) != _shapes(build(more))
    if knows:
        raise UserError(
            f"the policy of {str(path)!r} has learned for the agents {written(before)}, each in "
            f"its place, and here are {written(found)}; play it with the same, in that order"
        )


def _shapes(policy: object) -> list[torch.Size]:
    if not isinstance(policy, nn.Module):
        return []
    return [x.shape for x in (*policy.parameters(), *policy.buffers())]


def written(order: Order) -> str:
    """``unit: unit_1, unit_2; other: other_1``; of many agents the first and the last."""
    parts = []
    for name, agents in order.items():
        some = agents if len(agents) <= SHOWN else [*agents[: SHOWN - 1], "…", agents[-1]]
        parts.append(f"{name}: {', '.join(map(str, some)) or 'none'}")
    return "(" + "; ".join(parts) + ")"
