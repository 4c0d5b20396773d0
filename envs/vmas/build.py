"""Construction of VMAS environments, with checked arguments."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from marl.errors import UserError, unknown
from marl.utils.field_docs import Option

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
    """Raises UserError for the first wrong argument.

    Args:
        scenario: one of ``SCENARIOS``.
        num_envs: at least 1.
        max_steps: at least 1.
        actions: one of ``ACTIONS``.
    """
    if scenario not in SCENARIOS:
        raise unknown("task", f"vmas/{scenario}", [f"vmas/{name}" for name in SCENARIOS])
    if actions not in ACTIONS:
        raise unknown("actions", actions, ACTIONS)
    for name, value in (("num_envs", num_envs), ("max_steps", max_steps)):
        if value < 1:
            raise UserError(f"{name}={value} is out of range; expected at least 1")


def scenario_options(scenario: str) -> Iterator[Option]:
    """Yields the arguments of a scenario: what its source takes out of its ``kwargs`` by name.

    Args:
        scenario: one of ``SCENARIOS``.
    """
    for call in ast.walk(ast.parse(_source(scenario))):
        match call:
            case ast.Call(
                func=ast.Attribute(value=ast.Name("kwargs"), attr="pop" | "get"),
                args=[ast.Constant(str(name)), *rest],
            ):
                default = ast.unparse(rest[0]) if rest else "None"
                with contextlib.suppress(ValueError):
                    default = ast.literal_eval(default)
                yield Option(name, type(default).__name__, default, "")


def build(
    scenario: str, num_envs: int, device: torch.device, actions: str, extra: dict[str, Any]
) -> Any:
    """Builds a ``vmas.simulator.environment.Environment``.

    Args:
        scenario: one of ``SCENARIOS``.
        num_envs: B, the number of copies.
        device: where it runs.
        actions: one of ``ACTIONS``.
        extra: arguments of the scenario.

    Raises:
        UserError: an argument that the scenario does not know, or a value that it refuses.
    """
    from vmas.simulator.environment import Environment

    loader = importlib.import_module("vmas.scenarios")  # the package; `vmas.scenarios` is a list
    module = loader.load(f"{scenario}.py")
    env = object.__new__(Environment)
    # The constructor without its decorator, which would draw from, and advance, the random state
    # that all VMAS environments of a process share.
    construct = inspect.unwrap(Environment.__init__)
    options = {"continuous_actions": actions == "continuous"}
    options["multidiscrete_actions"] = actions == "multidiscrete"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Scenario kwargs")  # about unknown ones
            construct(env, module.Scenario(), num_envs, device, **options, **extra)
    except Warning:
        raise _unknown_argument(scenario, extra) from None
    except (TypeError, ValueError, AssertionError) as error:
        if not extra:
            raise
        raise UserError(f"vmas/{scenario} cannot be built with {extra}: {error}") from error
    return env


def _source(scenario: str) -> str:
    loader = importlib.import_module("vmas.scenarios")
    return Path(loader.load(f"{scenario}.py").__file__).read_text()


def _unknown_argument(scenario: str, extra: dict[str, Any]) -> UserError:
    """Returns the error about an argument that the scenario does not take."""
    known = [option.key for option in scenario_options(scenario)]
    wrong = [name for name in extra if name not in known] or list(extra)
    return unknown("argument", wrong[0], known, where=f" of vmas/{scenario}")
