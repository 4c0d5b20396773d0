"""Settings that nothing reads with a run's task, networks and algorithms: refused, or warned of.

An algorithm's method ``unread_settings`` has the reason, and what to do, by the setting's name, as
in ``{"algorithm.burn_in": "the networks have no memory; …"}``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields
from typing import Any

from marl.algorithm import Algorithm
from marl.errors import UserError
from marl.training.teams import Team
from marl.utils.capabilities import learns, unread_settings

ALGORITHM = "algorithm."
OF_TEAM = re.compile(r"teams\.(?P<team>\w+)\.(?P<setting>.+)")


def check(teams: Mapping[str, Algorithm], chosen: Collection[str]) -> None:
    """Checks that some team reads each setting that the user chose for this run alone.

    Args:
        teams: algorithms of the run, by team.
        chosen: names of settings, such as ``algorithm.burn_in`` or ``teams.left.algorithm.bins``.

    Raises:
        UserError: no team that learns reads one of them.
    """
    unread = {name: unread_settings(team) for name, team in teams.items() if learns(team)}
    for key in chosen:
        of_team = OF_TEAM.fullmatch(key)
        owners = [of_team["team"]] if of_team else list(unread)
        setting = of_team["setting"] if of_team else key
        reasons = [unread.get(name, {}).get(setting) for name in owners]
        if reasons and all(reasons):
            raise UserError(f"nothing reads {key}: {reasons[0]}")


def warnings(specs: Mapping[str, Team], teams: Mapping[str, Algorithm]) -> list[str]:
    """Returns a warning for each reason why some settings of a team that differ from their defaults
    change nothing.

    Args:
        specs: teams of the run, by name.
        teams: their algorithms.
    """
    lines = []
    for name, team in teams.items():
        changed: dict[str, list[str]] = {}
        for key, why in unread_settings(team).items():
            if (value := _changed(specs[name], key)) is not None:
                changed.setdefault(why, []).append(value)
        lines += [
            f"team {name!r}: nothing reads {' and '.join(settings)}: {why}"
            for why, settings in changed.items()
        ]
    return lines


def _changed(spec: Team, key: str) -> str | None:
    """Returns ``KEY=VALUE`` of a team's setting; None where it has its default."""
    if not key.startswith(ALGORITHM):
        return key if getattr(spec, key) != spec.model else None
    name = key.removeprefix(ALGORITHM)
    value, default = getattr(spec.algorithm, name), _default(spec.algorithm, name)
    return None if value == default else f"{key}={value}"


def _default(config: Any, name: str) -> Any:
    return next((f.default for f in fields(config) if f.name == name), MISSING)
