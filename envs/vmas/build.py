"""Construction of VMAS environments, with checked arguments."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch

from marl.envs.vmas import scenario as scenarios
from marl.envs.vmas.scenario import Scenario
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


def check_arguments(scenario: Scenario, num_envs: int, max_steps: int, actions: str) -> None:
    """Raises UserError for the first wrong argument.

    Args:
        scenario: one of ``SCENARIOS``, or a subclass or an instance of ``BaseScenario``.
        num_envs: at least 1.
        max_steps: at least 1.
        actions: one of ``ACTIONS``.
    """
    if isinstance(scenario, str) and scenario not in SCENARIOS:
        raise unknown("task", f"vmas/{scenario}", [f"vmas/{name}" for name in SCENARIOS])
    if not isinstance(scenario, str) and not scenarios.is_scenario(scenario):
        raise UserError(
            f"{scenario!r} is not a VMAS scenario; expected one of SCENARIOS, or a subclass or an "
            "instance of vmas.simulator.scenario.BaseScenario"
        )
    if actions not in ACTIONS:
        raise unknown("actions", actions, ACTIONS)
    for name, value in (("num_envs", num_envs), ("max_steps", max_steps)):
        if value < 1:
            raise UserError(f"{name}={value} is out of range; expected at least 1")


def build(
    scenario: Scenario, num_envs: int, device: torch.device, actions: str, extra: dict[str, Any]
) -> Any:
    """Builds a ``vmas.simulator.environment.Environment``.

    Args:
        scenario: one of ``SCENARIOS``, or a subclass or an instance of ``BaseScenario``.
        num_envs: B, the number of copies.
        device: where it runs.
        actions: one of ``ACTIONS``.
        extra: arguments of the scenario.

    Raises:
        UserError: an argument that the scenario does not know, or a value that it refuses.
    """
    from vmas.simulator.environment import Environment

    # The constructor without its decorator, which would draw from, and advance, the random state
    # that all VMAS environments of a process share.
    construct = inspect.unwrap(Environment.__init__)
    for name in extra:
        if name in inspect.signature(construct).parameters:
            raise UserError(
                f"{name}={extra[name]} is an argument of VMAS's environment, not of the scenario "
                f"{scenarios.name_of(scenario)}; leave it out"
            )
    _check_read(scenario, extra)
    env, new = object.__new__(Environment), scenarios.new(scenario)
    options = {"continuous_actions": actions == "continuous"}
    options["multidiscrete_actions"] = actions == "multidiscrete"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Scenario kwargs")  # about unknown ones
            construct(env, new, num_envs, device, **options, **extra)
    except Warning:
        raise _unknown_argument(scenario, extra) from None
    except (TypeError, ValueError, AssertionError) as error:
        if not extra:
            raise
        name = scenarios.name_of(scenario)
        raise UserError(f"{name} cannot be built with {extra}: {error}") from error
    return env


def _check_read(scenario: Scenario, extra: dict[str, Any]) -> None:
    """Raises UserError for an argument that a scenario of a user's would ignore."""
    if extra and not isinstance(scenario, str) and not scenarios.reads_others(scenario):
        known = [option.key for option in scenarios.options(scenario)]
        if any(name not in known for name in extra):
            raise _unknown_argument(scenario, extra)


def _unknown_argument(scenario: Scenario, extra: dict[str, Any]) -> UserError:
    """Returns the error about an argument that the scenario does not take."""
    known = [option.key for option in scenarios.options(scenario)]
    wrong = [name for name in extra if name not in known] or list(extra)
    return unknown("argument", wrong[0], known, where=f" of {scenarios.name_of(scenario)}")
