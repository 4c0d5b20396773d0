"""Particle worlds by the name of a task, and their options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from marl.envs.checks import check_options, check_switch, options_of
from marl.envs.particle.env import ParticleEnv
from marl.envs.particle.scenario import Scenario
from marl.envs.particle.scenarios.adversary import Adversary
from marl.envs.particle.scenarios.crypto import Crypto
from marl.envs.particle.scenarios.formation import SimpleFormation, SimpleLine
from marl.envs.particle.scenarios.navigation_tasks import Coverage, Formation, Line, Target
from marl.envs.particle.scenarios.push import Push
from marl.envs.particle.scenarios.reference import Reference
from marl.envs.particle.scenarios.simple import Simple
from marl.envs.particle.scenarios.speaker_listener import SpeakerListener
from marl.envs.particle.scenarios.spread import Spread
from marl.envs.particle.scenarios.tag import Tag
from marl.envs.particle.scenarios.treasure import CollectTreasure
from marl.envs.particle.scenarios.world_comm import WorldComm
from marl.errors import UserError, unknown
from marl.utils.argument_docs import argument_options
from marl.utils.field_docs import Option

# Options of ParticleEnv, which every world has.
COMMON = ("max_cycles", "continuous_actions", "legacy", "compile", "dtype")
#: The scenario of every task.
SCENARIOS: dict[str, type[Scenario]] = {
    "mpe/collect_treasure": CollectTreasure,
    "mpe/simple": Simple,
    "mpe/simple_adversary": Adversary,
    "mpe/simple_crypto": Crypto,
    "mpe/simple_formation": SimpleFormation,
    "mpe/simple_line": SimpleLine,
    "mpe/simple_push": Push,
    "mpe/simple_reference": Reference,
    "mpe/simple_speaker_listener": SpeakerListener,
    "mpe/simple_spread": Spread,
    "mpe/simple_tag": Tag,
    "mpe/simple_world_comm": WorldComm,
    "navigation/coverage": Coverage,
    "navigation/formation": Formation,
    "navigation/line": Line,
    "navigation/target": Target,
}


def make(
    name: str,
    num_envs: int,
    device: torch.device | str = "cpu",
    max_steps: int | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    **options: Any,
) -> ParticleEnv:
    """Returns worlds of ``mpe/<scenario>`` or ``navigation/<task>``.

    Args:
        name: the task.
        num_envs: B, the number of worlds.
        device: where they run.
        max_steps: steps of an episode; None for ``max_cycles``, 25 by default.
        groups: group -> agents, in place of groups by name and spaces.
        options: the scenario's own and ParticleEnv's.

    Raises:
        UserError: an unknown name or option, or a value out of range.
    """
    scenario = SCENARIOS.get(name)
    if scenario is None:
        raise unknown("task", name, names())
    if max_steps is not None:
        options["max_cycles"] = max_steps
    check_options(name, options, scenario, *COMMON)
    for switch in ("continuous_actions", "legacy", "compile", "terminate_on_success", "directed"):
        check_switch(switch, options.get(switch, False))
    if not isinstance(options.get("dtype", torch.float32), torch.dtype):
        raise UserError(
            f"dtype={options['dtype']!r} can be set from Python only, to a torch.dtype such as "
            "torch.float64; leave it out"
        )
    own_options = options_of(scenario)
    world = scenario(**{k: v for k, v in options.items() if k in own_options})
    common = {k: v for k, v in options.items() if k in COMMON}
    return ParticleEnv(world, num_envs, device, groups=groups, **common)


def task_options(name: str) -> Iterator[Option]:
    """Yields the options of a task that can be set by ``task.kwargs``.

    Args:
        name: the task.

    Raises:
        UserError: an unknown name.
    """
    if name not in SCENARIOS:
        raise unknown("task", name, names())
    yield from argument_options(SCENARIOS[name])
    yield from (o for o in argument_options(ParticleEnv, without=["dtype"]) if o.key in COMMON)


def names() -> list[str]:
    """Returns the names of all tasks of this provider."""
    return list(SCENARIOS)
