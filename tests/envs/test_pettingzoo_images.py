"""Images as PettingZoo's environments give them: bytes, floats, alone or beside other parts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Space, Tuple

from marl.algorithms.mappo import MAPPOConfig
from marl.cli.run_report import print_images
from marl.envs.task import Task
from marl.errors import UserError
from marl.experiment import Experiment, Settings
from marl.learning.replay import Replay
from marl.networks.encoders import Convolutions
from marl.networks.perceptron import Perceptron
from marl.types import TensorSpec
from tests.algorithms.test_contract import configured, parts, teams
from tests.helpers.adapted_envs import UNIT, scripted
from tests.helpers.builders import CPU
from tests.helpers.scripted_envs import Step
from tests.helpers.tiny_env import Tiny

BYTES = Box(0, 255, (40, 40, 3), np.uint8)


def spec(space: Space, value: Any = None) -> TensorSpec:
    value = space.sample() if value is None else value
    return scripted([Step({"a": value}, ["a"])], {"a": space}).groups["a"].observation


@pytest.mark.parametrize(
    ("space", "low", "high"),
    [
        (Box(0, 255, (8, 8), np.uint8), (0,), (255,)),
        (Box(0, 1, (8, 8, 2), np.uint8), (0, 0), (1, 1)),
        (Box(-1, 2, (8, 8, 2)), (-1, -1), (2, 2)),
        (Box(0, 9, (8, 8, 1), np.int64), (0,), (9,)),
        (Box(-np.inf, np.inf, (8, 8, 1)), (-math.inf,), (math.inf,)),
        (Box(0, np.finfo(np.float32).max, (8, 8, 1)), (-math.inf,), (math.inf,)),
        (Box(np.zeros((4, 4, 2), np.float32), np.stack([np.full((4, 4), 1), np.eye(4) + 6], -1)
             .astype(np.float32)), (0, 0), (1, 7)),
    ],
)  # fmt: skip
def test_images_have_the_bounds_of_their_channels(space: Space, low: tuple, high: tuple) -> None:
    found = spec(space)
    assert found.is_image and (found.low, found.high) == (low, high)
    assert found.shape == (*space.shape, 1)[:3]  # type: ignore[misc]  # a Box has one


@pytest.mark.parametrize("space", [Box(0, 1, (40, 40)), Box(0, 1, (3,)), MultiBinary((4, 4, 4))])
def test_others_are_numbers(space: Space) -> None:
    assert not spec(space).is_image


def test_floats_stay_what_they_are() -> None:
    image = np.random.default_rng(0).random((40, 40, 3), np.float32)
    env = scripted([Step({"a": image}, ["a"])], {"a": Box(0, 1, (40, 40, 3))})
    seen = env.reset(0).groups["a"].obs
    assert seen.dtype == torch.float32 and np.array_equal(seen.numpy()[0, 0], image)


@pytest.mark.parametrize(
    ("space", "key"),
    [
        (Dict({"state": UNIT, "depth": Box(0, 255, (12, 12), np.uint8)}), "'depth'"),
        (Dict({"state": UNIT, "depth": Box(0, 1, (12, 12, 1))}), "'depth'"),
        (Dict({"x": UNIT, "d": BYTES, "action_mask": MultiBinary(3)}), "'d'"),
        (Dict({"x": UNIT, "more": Dict({"y": UNIT, "deep": BYTES})}), "'deep'"),
        (Tuple([UNIT, BYTES]), "1"),
    ],
)
def test_an_image_beside_other_parts_is_refused(space: Space, key: str) -> None:
    with pytest.raises(UserError, match=f"agent 'a' observes an image .* key {key} beside"):
        spec(space)


def test_what_is_no_image_may_stand_beside_others() -> None:
    assert spec(Dict({"x": UNIT, "grid": Box(0, 1, (5, 5)), "n": Discrete(2)})).shape == (28,)


@pytest.mark.parametrize("mask", [{}, {"action_mask": MultiBinary(3)}])
def test_an_image_alone_in_a_dict_is_one(mask: dict) -> None:
    space = Dict({"rgb": BYTES, **mask})
    value = space.sample()
    env = scripted([Step({"a": value}, ["a"])], {"a": space})
    assert env.groups["a"].observation == TensorSpec((40, 40, 3), torch.uint8)
    seen = env.reset(0).groups["a"].obs
    assert np.array_equal(seen.numpy()[0, 0], value["rgb"])


class Floats(Tiny):
    """Sees an image of floats."""

    shape = (40, 40, 3)

    def observation_space(self, agent: Any) -> Space:
        return Box(0, 1, self.shape, np.float32)

    def observe(self, agent: Any) -> np.ndarray:
        return self.rng.random(self.shape, np.float32)


class Grid(Floats):
    shape = (7, 7, 3)


def said(directory: Path, task: str, model: Perceptron, capsys: Any) -> str:
    """What is printed before a run begins."""
    run = Experiment(Task(f"tests.envs.test_pettingzoo_images:{task}"), MAPPOConfig(), model,
                     settings=Settings(num_envs=2, steps=10), directory=directory)  # fmt: skip
    print_images(run)
    run.close()
    return capsys.readouterr().out


def test_what_is_done_with_images_is_said(tmp_path: Path, capsys: Any) -> None:
    told = said(tmp_path / "one", "Floats", Perceptron(), capsys)
    assert told == "images   a: images of 40x40x3, read from 0..1, through 3 convolutions\n"
    told = said(tmp_path / "two", "Grid", Perceptron(), capsys)
    assert "flattened to 147 numbers" in told
    with pytest.raises(UserError, match="7x7 pixels are too small"):
        said(tmp_path / "three", "Grid", Perceptron(images="convolve"), capsys)


@pytest.mark.parametrize("name", ["mappo", "masac", "maddpg"])
def test_every_network_convolves(name: str) -> None:
    """Policies and central critics, on and off policy."""
    env = Task("tests.envs.test_pettingzoo_images:Floats")(2, CPU)
    built = teams(env, configured(name), Perceptron([8]), Replay(100, 2, CPU))
    for part in parts(built["team"]):
        assert any(isinstance(m, Convolutions) for m in part.modules())
