"""The same seed gives the same episodes, wherever an environment takes its random numbers from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from marl.envs.pettingzoo.env import PettingZooEnv
from tests.helpers import random_envs
from tests.helpers.processes import cli
from tests.helpers.random_envs import Built, GoesOn, Pythons, Reseeds, Unseeded
from tests.helpers.tiny_env import Tiny


def played(factory: Any, workers: int = 0, seed: int = 4, steps: int = 12) -> torch.Tensor:
    """Observations and rewards of 4 copies, ``[steps, 4, 6]``, over several episodes of five."""
    env = PettingZooEnv(factory, 4, workers=workers)
    env.reset(seed)
    action = {"a": torch.zeros(4, 2, dtype=torch.int64)}
    rows = []
    for _ in range(steps):
        made = env.step(action)
        rows.append(torch.cat([made.obs.groups["a"].obs.flatten(1), made.reward["a"]], 1))
    env.close()
    return torch.stack(rows)


@pytest.mark.parametrize("factory", [Reseeds, Unseeded])
def test_episodes_hang_on_the_seed_alone(factory: Any) -> None:
    first = played(factory)
    np.random.random()  # noqa: NPY002
    for workers in (0, 1, 2):
        assert torch.equal(played(factory, workers), first)
    assert not torch.equal(played(factory, seed=6), first)
    flat = first.flatten()
    assert len(flat.unique()) == len(flat)  # copies and episodes differ


def test_what_went_on_goes_on_as_before() -> None:
    """An environment with a generator of its own plays what a plain loop plays."""
    result = played(GoesOn)[..., :4]
    for row in range(4):
        env = GoesOn()
        env.reset(seed=4 + 2 * row)
        for step in range(12):
            observations, *_ = env.step({"a_0": 0, "a_1": 0})
            if not env.agents:
                observations, _ = env.reset()
            expected = np.concatenate([observations["a_0"], observations["a_1"]])
            assert np.array_equal(result[step, row].numpy(), expected)


def _borrowed() -> list[Any]:
    """Returns the seeds that numpy finds for generators made without one, while an environment
    runs."""
    found: list[Any] = []

    class Looks(Tiny):
        def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
            found.append(np.random.SeedSequence().entropy)
            return super().reset(seed)

    for _ in range(2):
        played(Looks, steps=1)
    assert found[3:7] == found[10:14]  # after the probe's three, of each copy
    return found


def test_others_random_numbers_are_left_alone() -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = [*np.random.normal(size=3), *np.random.random(3)]  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    drawn = [np.random.normal()]  # noqa: NPY002  # the second of the pair is kept for later
    played(Unseeded, steps=3)
    drawn += [*np.random.normal(size=2)]  # noqa: NPY002
    played(Reseeds, steps=3)
    drawn += [*np.random.random(3)]  # noqa: NPY002
    assert drawn == expected
    fresh = {int(np.random.SeedSequence().entropy) for _ in range(3)}  # type: ignore[arg-type]
    assert len(fresh) == 3 and fresh.isdisjoint({int(x) for x in _borrowed()})


def test_what_is_drawn_while_it_is_made_hangs_on_the_process_s_seed() -> None:
    levels = []
    for seed, workers in ((1, 0), (1, 2), (2, 0)):
        np.random.seed(seed)  # noqa: NPY002
        levels.append(played(Built, workers, steps=1)[..., :4])
    assert torch.equal(levels[0], levels[1]) and not torch.equal(levels[0], levels[2])
    assert len(levels[0][0, :, 0].unique()) == 4


@pytest.mark.slow
def test_python_s_random_numbers_in_workers() -> None:
    assert torch.equal(played(Pythons, 2), played(Pythons, 2))
    assert not torch.equal(played(Pythons, 2), played(Pythons, 2, seed=6))


@pytest.mark.parametrize(
    "words", [["Reseeds"], pytest.param(["Unseeded", "task.workers=2"], marks=pytest.mark.slow)]
)
def test_runs_of_a_seed_are_the_same(tmp_path: Path, words: list[str]) -> None:
    short = ["total_frames=160", "num_envs=4", "steps=20", "evaluation_episodes=2", "video=false"]
    task, *more = f"task={random_envs.__name__}:{words[0]}", *words[1:]
    for folder in ("one", "two"):
        result = cli(tmp_path, "train", task, *more, *short, f"directory={folder}")
        assert result.code == 0, result
    for file in ("metrics.jsonl", "evaluations.jsonl"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
