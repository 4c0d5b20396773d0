"""Value decomposition from random play against the exact answers of two games."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from marl.algorithms.registry import ALGORITHMS
from marl.envs.games.tasks import make
from marl.networks.perceptron import Perceptron
from marl.types import GroupObservation, Observation
from tests.helpers.decomposition_oracle import QTRAN, additive, error, greedy, two_step
from tests.helpers.games import everything
from tests.helpers.off_policy import Play

MODEL = Perceptron([64], activation="relu", agent_id=True)
RANDOM: dict[str, Any] = {
    "epsilon": 1.0, "last_epsilon": 1.0, "warmup": 1024,
    "batch_size": 512, "tau": 0.05, "lr": 1e-3,
}  # fmt: skip


def learned(name: str, task: str, iterations: int, envs: int = 128, **config: Any) -> Any:
    """A learner after iterations of 8 random steps of all environments and 8 updates each."""
    chosen = ALGORITHMS[name](**{**RANDOM, "frames_per_update": envs, **config})
    play = Play(lambda n, device: make(task, n, device), chosen, MODEL, envs=envs, frames=4_000_000)
    play.iterate(iterations)
    return play.first


@torch.no_grad()
def values(learner: Any, task: str, seen: list[float]) -> np.ndarray:
    """Values of all joint actions where both agents observe ``seen``, ``[A_0, A_1, 1 or N]``."""
    env = make(task, 1)
    actions = everything(env)
    obs = torch.tensor(seen).expand(len(actions), 2, -1)
    given = Observation({"agent": GroupObservation(obs)})
    utilities, _ = learner.policy.unroll(given, {}, None)
    choice = learner.taken(utilities, SimpleNamespace(obs=given, action={"agent": actions}))
    return learner.mix(learner.mixer, given, choice).reshape(*env.game.choices, -1).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vdn", "qmix", "iql", "qplex", "cwqmix", "owqmix"])
def test_the_two_step_game(name: str) -> None:
    learner = learned(name, "games/two_step", 150)
    first = values(learner, "games/two_step", [1.0, 0.0, 0.0])[..., 0]
    second = values(learner, "games/two_step", [0.0, 0.0, 1.0])[..., 0]
    exact, exact_second = two_step(name if name in ("vdn", "iql") else "qmix")
    error = 0.2 if name == "owqmix" else 0.1  # whose values lean to the high side
    assert first.mean(1) == pytest.approx(exact, abs=error)
    assert (second[:, 0] if name == "iql" else second) == pytest.approx(exact_second, abs=error)
    assert greedy(first, np.array([[7, 7], [8, 8]])) == (7 if name in ("vdn", "iql") else 8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vdn", "qmix", "cwqmix"])
def test_qtrans_matrix(name: str) -> None:
    """VDN's values are exact, and it plays 0. QMIX learns a monotone function that pays 0, not the
    nearest one that pays 8, as CW-QMIX does."""
    lr = 5e-4 if name == "vdn" else 2e-3
    learner = learned(name, "games/qtran", 150, envs=2048, batch_size=2048, lr=lr)
    found = values(learner, "games/qtran", [1.0])[..., 0]
    if name == "vdn":
        assert found == pytest.approx(additive(QTRAN), abs=0.1) and greedy(found, QTRAN) == 0
    elif name == "qmix":
        literature = np.array([[-8, -8, -8], [-8, 0, 0], [-8, 0, 0]])
        assert 288 < error(found, QTRAN) < 1.01 * error(literature, QTRAN)
        assert greedy(found, QTRAN) == 0
    else:
        assert found.max() > 7 and greedy(found, QTRAN) == 8  # still rising
