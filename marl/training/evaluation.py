"""Evaluation: the episodes of evaluations and videos."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
import torch
from torch import Tensor

from marl.env import VectorEnv
from marl.errors import EndlessEpisode
from marl.learning.rewards import team_mean_reward
from marl.training import finite
from marl.training.collector import Teams, act, initial_carry
from marl.training.settings import Settings
from marl.types import Transition
from marl.utils import seeding


@dataclass(frozen=True)
class Limit:
    """The longest episode of an evaluation, and the time after which it reports progress."""

    #: Longest episode in steps; an evaluation with a longer one is refused.
    steps: int = Settings.evaluation_max_steps
    #: What is played, such as ``random play``; for messages.
    name: str = "evaluation"
    #: The setting that changes ``steps``; for messages.
    setting: str = "evaluation_max_steps"
    #: Seconds until the first line on stderr; each later line comes after twice the time.
    after: float = 5.0
    #: Returns seconds.
    clock: Callable[[], float] = time.monotonic


class LimitCheck:
    """Watches one round of episodes: reports progress, and stops episodes that are too long.

    Args:
        limit: longest episode, and the time of reports.
    """

    def __init__(self, limit: Limit):
        self.limit, self.start_time, self.next = limit, limit.clock(), limit.after

    def __call__(self, steps: int, running: Tensor) -> None:
        """Reports on stderr, from time to time, how many episodes have ended.

        Args:
            steps: steps of the round so far.
            running: True for copies whose episode has not ended, ``[B]``.

        Raises:
            EndlessEpisode: an episode has not ended within the limit.
        """
        seconds = self.limit.clock() - self.start_time
        if seconds < self.next and steps < self.limit.steps:
            return
        unfinished, number = int(running.sum()), len(running)
        if steps >= self.limit.steps:
            raise EndlessEpisode(
                f"{self.limit.name}: {unfinished} of {number} episodes have not ended after "
                f"{steps:,} steps; end them by task.max_steps={min(1000, steps)}, for instance, or "
                f"allow longer ones by {self.limit.setting}={10 * steps}"
            )
        self.next = 2 * seconds
        if unfinished < number:
            progress, advice = f"{number - unfinished} of {number} episodes have", ""
        else:
            progress = f"no episode of {number} has"
            advice = "; if none ever does, set task.max_steps"
        print(
            f"marl: {self.limit.name}: {progress} ended after {steps:,} steps ({seconds:.0f} s)"
            f"{advice}",
            file=sys.stderr, flush=True,
        )  # fmt: skip


def evaluate(
    env: VectorEnv,
    teams: Teams,
    episodes: int,
    seed: int,
    explore: bool = False,
    limit: Limit | None = None,
    on_round: Callable[[int], None] = lambda episodes: None,
) -> dict[str, dict[str, list[float]]]:
    """Plays episodes in rounds, the first one of each copy, until there are enough.

    Random numbers come from a stream of its own; no other random state changes.

    Args:
        env: environment to play in.
        teams: algorithms by team.
        episodes: number of episodes.
        seed: seed of the episodes.
        explore: False for greedy actions.
        limit: longest episode; the default of ``Limit`` if None.
        on_round: called after each round with the number of its episodes.

    Returns:
        ``{"returns": {team: [one per episode]}, "metrics": {name: [one per episode]}}``; a return
        is the mean over the team's agents of their summed rewards.

    Raises:
        EndlessEpisode: an episode is longer than ``limit`` allows.
        EnvironmentFault: a number from the environment is not finite.
    """
    limit = limit or Limit()
    returns: dict[str, list[float]] = {name: [] for name in teams}
    rounds: list[tuple[int, dict[str, Tensor]]] = []  # episodes of it that count, and metrics
    for number in range(-(-episodes // env.num_envs)):
        used = min(env.num_envs, episodes - number * env.num_envs)
        round_seed = seed + 2 * env.num_envs * number
        round_returns, round_metrics = _play_round(env, teams, round_seed, explore, limit)
        for name, values in round_returns.items():
            returns[name] += values[:used].tolist()
        rounds.append((used, round_metrics))
        on_round(used)
    return {"returns": returns, "metrics": _concat_metrics(rounds, torch.zeros(env.num_envs))}


def _concat_metrics(
    rounds: Sequence[tuple[int, Mapping[str, Tensor]]], default: Tensor
) -> dict[str, list[float]]:
    """Concatenates the metrics of all rounds; ``default [B]`` is for those that a round lacks."""
    names = dict.fromkeys(name for _, metrics in rounds for name in metrics)
    return {
        name: [x for used, metrics in rounds for x in metrics.get(name, default)[:used].tolist()]
        for name in names
    }


def _play_round(
    env: VectorEnv, teams: Teams, seed: int, explore: bool, limit: Limit
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Plays one episode in each copy; returns and metrics ``[B]`` by name."""
    returns = {name: torch.zeros(env.num_envs, device=env.device) for name in teams}
    metrics: dict[str, Tensor] = {}
    running = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    check_limit = LimitCheck(limit)
    for steps, transition in enumerate(episode_steps(env, teams, seed, explore), 1):
        for name, team in teams.items():
            groups = [g for g in env.groups if g in team.policy.groups]
            returns[name] += team_mean_reward(transition.reward, groups) * running
        ends_now = transition.done & running
        for name, value in transition.info.items():
            old_value = metrics.get(name, torch.zeros_like(value))
            metrics[name] = torch.where(ends_now, value, old_value)
        running = running & ~transition.done
        if not running.any():
            break
        check_limit(steps, running)
    finite.check_metrics(metrics)
    return returns, metrics


def episode_steps(env: VectorEnv, teams: Teams, seed: int, explore: bool) -> Iterator[Transition]:
    """Resets an environment and yields its steps without end, with random numbers of its own.

    Args:
        env: environment to play in.
        teams: algorithms by team.
        seed: seed of the reset and of the actions.
        explore: False for greedy actions.

    Raises:
        EnvironmentFault: a number from the environment is not finite (``marl.training.finite``).
    """
    generator = seeding.generator(env.device, seed, "acting")
    obs, carry = env.reset(seed), initial_carry(teams, env.num_envs)
    start = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    for number in count(1):
        step = act(teams, obs, carry, start, generator, explore)
        transition = env.step(step.action)
        finite.check_step(obs, transition, number, env.groups)
        yield transition
        obs, carry, start = transition.obs, step.carry, transition.done


def film(env: VectorEnv, teams: Teams, seed: int, max_steps: int = 1000) -> list[np.ndarray]:
    """Films one greedy episode of an environment's first copy.

    The frame after the last step is left out unless it is the only one, for it shows the next
    episode already; not so where the environment says ``draws_ends``. Frames are held in memory:
    the film of a longer episode ends after ``max_steps``, with a message on stderr.

    Args:
        env: environment to play in.
        teams: algorithms by team.
        seed: seed of the episode.
        max_steps: largest number of frames.

    Returns:
        Frames, ``[H, W, 3]`` uint8 each.
    """
    frames = []
    for transition in islice(episode_steps(env, teams, seed, explore=False), max_steps):
        done = bool(transition.done[0])
        if not done or not frames or getattr(env, "draws_ends", False):
            frames.append(env.render(0))
        if done:
            return frames
    message = f"marl: the film ends after {max_steps:,} steps, before its episode does"
    print(message, file=sys.stderr)
    return frames
