"""The order of agents in their groups.

Weights, states and replays go by an agent's place in its group. Therefore a run records its agents
in order (``agents`` in config.json). Before its policies play, the environment's agents are put
into that order, or refused.
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
MAX_NAMES = 6  # agents of a group that an error names


def order_of(groups: Mapping[str, AgentGroup]) -> dict[str, list[str]]:
    """Returns the order of the agents of an environment's groups."""
    return {name: list(group.agents) for name, group in groups.items()}


def read(directory: Path) -> Order | None:
    """Returns the order that a run recorded; None without a run, or for one that has no record."""
    try:
        return json.loads((directory / "config.json").read_text()).get("agents")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def new_order(order: Order) -> Order:
    """Returns the order for a new run: the agents of each group by number.

    Environments that keep agents in a set return them in another order in each process. The order
    of rank 0 holds for all ranks.
    """
    by_number = {name: sorted(agents, key=_number) for name, agents in order.items()}
    return json.loads(distributed.broadcast_text(json.dumps(by_number)))


def _number(agent: str) -> tuple[str, int, str]:
    stem = re.sub(r"\d+$", "", agent)
    return stem, int(agent[len(stem) :] or 0), agent


def arrange(order: Order, saved: Order | None) -> Order:
    """Returns the agents of ``order`` as a run had them; those that it did not have come last.

    Args:
        order: the environment's order.
        saved: the run's order; None leaves ``order`` as it is.
    """
    if saved is None:
        return order
    places = {agent: i for agents in saved.values() for i, agent in enumerate(agents)}
    groups = [*(g for g in saved if g in order), *(g for g in order if g not in saved)]
    return {g: sorted(order[g], key=lambda agent: places.get(agent, len(places))) for g in groups}


def is_same(order: Order, other: Order) -> bool:
    """Returns whether groups and agents are the same, in the same order.

    Args:
        order: agents by group.
        other: agents by group to compare with.
    """
    first, second = ([(n, list(agents)) for n, agents in o.items()] for o in (order, other))
    return first == second


class OrderedTask:
    """A task whose environments have their agents in an order of choice.

    A task without ``groups``, or whose maker does not read them, is left as it is.

    Args:
        task: makes an environment, called with (num_envs, device).
        reorder: returns the required order, called with the order of the task's environment.
    """

    def __init__(self, task: Callable[..., VectorEnv], reorder: Callable[[Order], Order]):
        self.task, self.reorder = task, reorder

    def __call__(self, num_envs: int, device: torch.device) -> VectorEnv:
        """Makes an environment.

        Args:
            num_envs: B, copies stepped together.
            device: where they are.
        """
        env = self.task(num_envs, device)
        order = order_of(env.groups)
        required = self.reorder(order)
        configured = getattr(self.task, "groups", required)
        if is_same(order, required) or is_same(configured, required):
            return env
        env.close()
        task: Any = self.task
        groups = {name: list(agents) for name, agents in required.items()}
        self.task = replace(task, groups=groups)
        return self.task(num_envs, device)


def check(env: VectorEnv, saved: Order | None, run: Path) -> None:
    """Raises an error if an environment cannot continue a run.

    Args:
        env: the environment.
        saved: the order of the run; None if it has no record.
        run: the run's directory, for the error.

    Raises:
        UserError: the environment has other agents, or an order that could not be changed.
    """
    order = order_of(env.groups)
    if saved is not None and not is_same(order, saved):
        raise UserError(
            f"{str(run)!r} was trained with the agents {format_order(saved)}, and its environment "
            f"now has {format_order(order)}; resume it where the environment has the same, in that "
            "order"
        )


def check_places(
    groups: Mapping[str, AgentGroup],
    saved: Order | None,
    path: Path,
    build: Callable[[Mapping[str, AgentGroup]], object] | None = None,
) -> None:
    """Raises an error if agents are not those that a policy has learned for.

    A policy that does not tell agents apart plays for any agents.

    Args:
        groups: the agents that are to play with the policy.
        saved: the order of the policy's run; None if it has no record.
        path: where the policy is, for the error.
        build: makes such a policy for given groups; without it a policy for as many agents counts
            as one that tells them apart.

    Raises:
        UserError: the agents or their order differ, and the policy tells agents apart.
    """
    before = {name: list((saved or {}).get(name, ())) for name in groups}
    order = order_of(groups)
    if saved is None or before == order:
        return
    if build is None:
        tells_apart = all(len(before[name]) == len(order[name]) for name in groups)
    else:  # weights of each agent's own, one-hot numbers and graphs grow with the group
        larger = {n: replace(g, agents=(*g.agents, "one more")) for n, g in groups.items()}
        tells_apart = _shapes(build(groups)) != _shapes(build(larger))
    if tells_apart:
        raise UserError(
            f"the policy of {str(path)!r} has learned for the agents {format_order(before)}, each "
            f"in its place, and here are {format_order(order)}; play it with the same agents, in "
            "that order"
        )


def _shapes(policy: object) -> list[torch.Size]:
    if not isinstance(policy, nn.Module):
        return []
    return [x.shape for x in (*policy.parameters(), *policy.buffers())]


def format_order(order: Order) -> str:
    """Returns ``(unit: unit_1, unit_2; other: other_1)``; long groups are abbreviated."""
    parts = []
    for name, agents in order.items():
        long = len(agents) > MAX_NAMES
        names = [*agents[: MAX_NAMES - 1], "…", agents[-1]] if long else agents
        parts.append(f"{name}: {', '.join(map(str, names)) or 'none'}")
    return "(" + "; ".join(parts) + ")"
