"""Checks what a user asks of VMAS, and builds it."""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from marl.errors import UserError, unknown

# fmt: off
SCENARIOS: tuple[str, ...] = (
    "asym_joint", "balance", "ball_passage", "ball_trajectory", "buzz_wire", "circle_trajectory",
    "diff_drive", "discovery", "dispersion", "drone", "dropout", "flocking", "football", "give_way",
    "goal", "het_mass", "joint_passage", "joint_passage_size", "kinematic_bicycle",
    "line_trajectory", "multi_give_way", "navigation", "passage", "pollock", "reverse_transport",
    "road_traffic", "sampling", "simple", "simple_adversary", "simple_crypto", "simple_push",
    "simple_reference", "simple_speaker_listener", "simple_spread", "simple_tag",
    "simple_world_comm", "transport", "vel_control", "waterfall", "wheel", "wind_flocking",
)
# fmt: on
ACTIONS = ("continuous", "discrete", "multidiscrete")


def check_arguments(scenario: str, num_envs: int, max_steps: int, actions: str) -> None:
    if scenario not in SCENARIOS:
        raise unknown("task", f"vmas/{scenario}", [f"vmas/{name}" for name in SCENARIOS])
    if actions not in ACTIONS:
        raise unknown("actions", actions, ACTIONS)
    for name, value in (("num_envs", num_envs), ("max_steps", max_steps)):
        if value < 1:
            raise UserError(f"{name} is {value}, expected at least 1")


def build(
    scenario: str, num_envs: int, device: torch.device, actions: str, extra: dict[str, Any]
) -> Any:
    """A ``vmas.simulator.environment.Environment``; ``extra`` goes to the scenario.

    Raises:
        UserError: an argument that the scenario does not know, or a value that it refuses.
    """
    from vmas.simulator.environment import Environment

    loader = importlib.import_module("vmas.scenarios")  # the package; `vmas.scenarios` is a list
    module = loader.load(f"{scenario}.py")
    env = object.__new__(Environment)
    # The constructor without its decorator, which would draw from, and move, the random state
    # that all VMAS environments of a process share.
    construct = inspect.unwrap(Environment.__init__)
    options = {"continuous_actions": actions == "continuous"}
    options["multidiscrete_actions"] = actions == "multidiscrete"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Scenario kwargs")  # those left over
            construct(env, module.Scenario(), num_envs, device, **options, **extra)
    except Warning:
        raise _unknown_argument(scenario, extra, Path(module.__file__).read_text()) from None
    except (TypeError, ValueError, AssertionError) as error:
        if not extra:
            raise
        raise UserError(f"vmas/{scenario} cannot be built with {extra}: {error}") from error
    return env


def _unknown_argument(scenario: str, extra: dict[str, Any], source: str) -> UserError:
    """Scenarios take their arguments out of ``kwargs`` by name."""
    known = re.findall(r"kwargs\.(?:pop|get)\(\s*[\"'](\w+)", source)
    wrong = [name for name in extra if name not in known] or list(extra)
    return unknown("argument", wrong[0], known, where=f" of vmas/{scenario}")
