"""Agents that end by themselves: what their values, and those of their team, are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from marl.algorithms.maddpg import IDDPGConfig
from marl.algorithms.mappo import MAPPO, IPPOConfig, MAPPOConfig
from marl.envs.task import Task
from marl.experiment import Experiment, Settings
from marl.types import Rollout
from tests.helpers.builders import mappo, rollout_of
from tests.helpers.experiments import SHORT
from tests.learning.test_returns import naive

PLAIN: dict[str, Any] = {"normalize_value": False, "normalize_advantage": False}


def prepared(**config: Any) -> tuple[MAPPO, Rollout, Tensor, Tensor]:
    """What MAPPO makes of a rollout with deaths and limits: advantages and values ``[T, B, K]``."""
    algorithm = mappo("mortal", **PLAIN, **config)
    rollout = rollout_of("mortal", algorithm)
    batch, _, _ = algorithm.prepare(rollout, algorithm.critic_carry)
    return algorithm, rollout, batch.advantage, batch.value


@pytest.mark.parametrize("critic", ["agent", "team"])
def test_own_returns_are_cut_with_their_agent_and_bootstrapped(critic: str) -> None:
    algorithm, rollout, advantage, value = prepared(critic=critic, reward="own")
    after = algorithm.critic(rollout.next_obs, {}, None)[0].detach()
    reward, died, cut = (
        torch.cat([getattr(rollout, word)[name] for name in algorithm.team], -1)
        for word in ("reward", "terminated", "truncated")
    )
    done = rollout.done.unsqueeze(-1) | cut
    assert (cut & ~rollout.done.unsqueeze(-1)).any()
    for b in range(4):
        for i in range(3):
            one = [x[:, b, i] for x in (reward, value, after, died, done)]
            torch.testing.assert_close(advantage[:, b, i], naive(one, 0.99, 0.95))


def test_a_teams_return_goes_on_as_the_next_step_sees_it() -> None:
    """Within an episode the value after a step is that of the next one, in which whoever was cut
    off is absent; at its end that of what it ended with."""
    algorithm, rollout, advantage, value = prepared(critic="team", reward="team_mean")
    last = algorithm.critic(rollout.next_obs, {}, None)[0].detach()
    cut = torch.cat([rollout.truncated[name] for name in algorithm.team], -1).any(-1)
    alone = cut & ~rollout.done
    copies = (~alone[-1]).nonzero().flatten().tolist()  # whose rollout does not end with it
    assert alone[:-1, copies].any()
    following = torch.cat([value[1:], last[-1:]])
    after = torch.where(rollout.done.unsqueeze(-1), last, following)[..., 0]
    reward = torch.cat([rollout.reward[name] for name in algorithm.team], -1).mean(-1)
    columns = (reward, value[..., 0], after, rollout.done & ~cut, rollout.done)
    for b in copies:
        expected = naive([x[:, b] for x in columns], 0.99, 0.95)
        torch.testing.assert_close(advantage[:, b, 0], expected)


# ----------------------------------------------------------------------------------------- learning


def trained(directory: Path, task: str, config: Any, frames: int) -> Experiment:
    settings = {**SHORT, "total_frames": frames, "num_envs": 10, "steps": 50}
    idle = {"evaluation_interval": 0, "checkpoint_interval": frames, "video": False}
    run = Experiment(
        Task(f"tests.helpers.tiny_env:{task}"), config, settings=Settings(**{**settings, **idle}),
        directory=directory,
    )  # fmt: skip
    run.run()
    return run


@pytest.mark.slow
def test_a_limit_of_ones_own_costs_no_value(tmp_path: Path) -> None:
    """1 a step for ever is worth 1 / (1 - 0.9) = 10, wherever one's own limit stands. Measured 10.0
    twice; where an agent cut off alone is taken for dead, 2.7 for the second."""
    run = trained(tmp_path / "run", "Staggered", IPPOConfig(gamma=0.9, critic_lr=3e-3), 30_000)
    team: Any = run.teams["team"]
    value = team.critic(run.env.reset(4), {}, torch.ones(10, dtype=torch.bool))[0]
    assert team.value_norm.denormalize(value)[0].tolist() == pytest.approx([10, 10], abs=0.3)


@pytest.mark.slow
@pytest.mark.parametrize("n_step", [1, 3])
def test_nor_off_policy(tmp_path: Path, n_step: int) -> None:
    """Measured 9.8 twice with one step, 10.0 with three; taken for dead, the second's is 3.5."""
    options: dict[str, Any] = {"warmup": 500, "frames_per_update": 5, "critic_lr": 3e-3}
    config = IDDPGConfig(gamma=0.9, n_step=n_step, tau=0.05, batch_size=128, **options)
    run = trained(tmp_path / "run", "Staggered", config, 4_000)
    team: Any = run.teams["team"]
    assert run.replay is not None
    batch = run.replay.take(run.replay.draw(2000, torch.Generator().manual_seed(0)))
    action = {n: g.action.encode(batch.action[n]) for n, g in run.env.groups.items()}
    q, alive = team.critic(batch.obs, action).mean(0), batch.obs.groups["a"].alive
    assert alive is not None
    for i in range(2):
        assert q[alive[:, i], i].mean().item() == pytest.approx(10, abs=1)


@pytest.mark.slow
def test_a_sacrifice_that_pays_the_team_is_learned(tmp_path: Path) -> None:
    """The dead are paid at the end: 1 each with the sacrifice, 0.6 without. Measured 1.0; where
    the pay of the dead is lost, a sacrifice is worth 0.5, and the return stays 0.6."""
    run = trained(tmp_path / "run", "Sacrifice", MAPPOConfig(), 20_000)
    assert run.evaluations.returns["team"] == pytest.approx([1.0] * 3)
