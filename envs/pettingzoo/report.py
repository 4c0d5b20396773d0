"""Report of a step beside its arrays: the infos of episodes that ended, and warnings."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from marl.envs.pettingzoo.masks import MASK
from marl.errors import EnvironmentFault


@dataclass(frozen=True)
class Report:
    """Report of one reset or step of some copies; false where it is empty.

    Attributes:
        infos: sums over the episode, by name, of each row that is done.
        warnings: in words.
    """

    infos: dict[int, dict[str, float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.infos or self.warnings)


def merge_reports(reports: Iterable[Report]) -> Report:
    """Returns one report of all copies."""
    whole = Report()
    for report in reports:
        whole.infos.update(report.infos)
        whole.warnings.extend(report.warnings)
    return whole


def is_number(key: Any, value: Any) -> bool:
    """Returns whether an entry of an info is one number, and so a metric.

    Args:
        key: its name.
        value: its value, of any type.
    """
    if isinstance(value, np.ndarray):
        return key != MASK and value.ndim == 0 and value.dtype.kind in "biuf"
    return key != MASK and _is_real(type(value))


@functools.cache  # checks against abstract classes are slow, and this runs at every step
def _is_real(kind: type) -> bool:
    return issubclass(kind, numbers.Real | np.bool_)  # numpy's floats and ints are Real


def add_infos(totals: dict[str, float], infos: Mapping[Any, Any], agents: Container[Any]) -> None:
    """Adds a step's numbers to the episode's: each the mean over the agents whose info holds it.

    Args:
        totals: the episode's sums by name, which it updates.
        infos: by agent.
        agents: the agents that count.

    Raises:
        EnvironmentFault: a number that is not finite.
    """
    step: dict[str, list[float]] = {}
    for agent, info in infos.items():
        for key, value in info.items() if agent in agents else ():
            if is_number(key, value):
                step.setdefault(key, []).append(_finite(agent, key, float(value)))
    for key, values in step.items():
        totals[key] = totals.get(key, 0.0) + sum(values) / len(values)


def _finite(agent: object, key: str, value: float) -> float:
    if not math.isfinite(value):
        raise EnvironmentFault(
            f"the info of agent {agent!r} holds {key}={value}; expected a finite number"
        )
    return value


def check_rewards(rewards: Mapping[Any, Any]) -> None:
    """Raises EnvironmentFault for the first agent whose reward is not one number."""
    for agent, value in rewards.items():
        if is_number("", value):
            continue
        if np.ndim(value) == 1:
            raise EnvironmentFault(
                f"agent {agent!r} was paid the vector {np.asarray(value).tolist()}; expected one "
                "number: weigh its objectives, as LinearizeReward(env, weights) of "
                "momaland.utils.parallel_wrappers does"
            )
        raise EnvironmentFault(f"agent {agent!r} was paid {value!r}; expected one number")


def check_vectors(rewards: Mapping[Any, Any]) -> None:
    """Raises EnvironmentFault where agents are paid a vector of objectives."""
    check_rewards({agent: value for agent, value in rewards.items() if np.size(value) > 1})
