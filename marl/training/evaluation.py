"""Episodes for evaluation and video; when a run is evaluated, and what came of it."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

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
from marl.utils import distributed, seeding
from marl.utils.capabilities import learns


@dataclass(frozen=True)
class Limit:
    """How long the episodes of an evaluation may be, and after which time it says how far they are.

    Args:
        steps: of one episode; an evaluation with a longer one is refused.
        name: what is played, such as ``random play``.
        setting: the word that changes ``steps``.
        after: seconds until the first line on stderr; each other comes after twice the time.
        clock: tells seconds.
    """

    steps: int = Settings.evaluation_max_steps
    name: str = "evaluation"
    setting: str = "evaluation_max_steps"
    after: float = 5.0
    clock: Callable[[], float] = time.monotonic


class LimitCheck:
    """Looks at one round of episodes, step by step."""

    def __init__(self, limit: Limit):
        self.limit, self.began, self.next = limit, limit.clock(), limit.after

    def __call__(self, steps: int, running: Tensor) -> None:
        """Says on stderr, now and then, how many of the copies ``running [B]`` have ended.

        Raises:
            EndlessEpisode: some have not after the most steps.
        """
        passed = self.limit.clock() - self.began
        if passed < self.next and steps < self.limit.steps:
            return
        left, number = int(running.sum()), len(running)
        if steps >= self.limit.steps:
            raise EndlessEpisode(
                f"{self.limit.name}: {left} of {number} episodes have not ended after {steps:,} "
                f"steps; end them by task.max_steps={min(1000, steps)}, for instance, or allow "
                "longer ones by "
                f"{self.limit.setting}={10 * steps}"
            )
        self.next = 2 * passed
        ended = (
            f"{number - left} of {number} episodes have"
            if left < number
            else (f"no episode of {number} has")
        )
        more = "" if left < number else "; if none ever does, set task.max_steps"
        print(
            f"marl: {self.limit.name}: {ended} ended after {steps:,} steps ({passed:.0f} s){more}",
            file=sys.stderr, flush=True,
        )  # fmt: skip


class Evaluations:
    """A run's: at every interval and at the end, each once."""

    def __init__(self, env: VectorEnv, teams: Teams, settings: Settings):
        self.env, self.teams, self.settings = env, teams, settings
        self.next, self.done_at = 0, -1  # frames at the next one and at the last
        self.returns: dict[str, list[float]] = {}  # the last one's
        self.metrics: list[str] = []  # those told so far: one that appears late stays
        self.best: dict[str, float] = {}  # the best mean return so far of every team that learns

    def due(self, frames: int) -> bool:
        if frames >= self.settings.total_frames:
            return self.done_at != frames
        return self.settings.evaluation_interval > 0 and frames >= self.next

    def play(self, frames: int) -> dict[str, dict[str, list[float]]]:
        """Greedy episodes; as ``evaluate`` returns them. None on other ranks than the first."""
        seed = seeding.evaluation_seed(self.settings.seed, frames)
        episodes = 0 if distributed.rank() else self.settings.evaluation_episodes
        limit = Limit(self.settings.evaluation_max_steps, f"evaluation at frame {frames:,}")
        result = evaluate(self.env, self.teams, episodes, seed, limit=limit)
        self.metrics = list(dict.fromkeys([*self.metrics, *result["metrics"]]))
        untold = [0.0] * episodes
        result["metrics"] = {name: result["metrics"].get(name, untold) for name in self.metrics}
        interval = self.settings.evaluation_interval or self.settings.total_frames
        self.returns, self.done_at = result["returns"], frames
        self.next = (frames // interval + 1) * interval
        return result

    def best_now(self) -> list[str]:
        """The learning teams that did as well as ever or better, against what the others were now:
        of equals the last, which has learned longest, is the best."""
        means = {
            name: statistics.fmean(self.returns[name])
            for name, team in self.teams.items()
            if self.returns[name] and learns(team)
        }
        found = [name for name, mean in means.items() if mean >= self.best.get(name, -math.inf)]
        self.best.update({name: means[name] for name in found})
        return found

    def state_dict(self) -> dict[str, Any]:
        return {
            "next": self.next, "done_at": self.done_at, "returns": self.returns, "best": self.best,
            "metrics": self.metrics,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.next, self.done_at = state["next"], state["done_at"]
        self.returns, self.best = state["returns"], state["best"]
        self.metrics = state["metrics"]


def evaluate(
    env: VectorEnv,
    teams: Teams,
    episodes: int,
    seed: int,
    explore: bool = False,
    limit: Limit | None = None,
) -> dict[str, dict[str, list[float]]]:
    """Plays the first episode of every copy, in rounds, until there are ``episodes``.

    Returns ``{"returns": {team: [one per episode]}, "metrics": {name: [one per episode]}}``; a
    return is the mean over the team's agents of their summed rewards. Touches no random state but
    its own.

    Raises:
        EndlessEpisode: an episode is longer than ``limit`` allows.
    """
    limit = limit or Limit()
    returns: dict[str, list[float]] = {name: [] for name in teams}
    rounds: list[tuple[int, dict[str, Tensor]]] = []  # how many episodes of it count, and metrics
    for number in range(-(-episodes // env.num_envs)):
        wanted = min(env.num_envs, episodes - number * env.num_envs)
        played = _play_round(env, teams, seed + 2 * env.num_envs * number, explore, limit)
        for name, values in played[0].items():
            returns[name] += values[:wanted].tolist()
        rounds.append((wanted, played[1]))
    names = dict.fromkeys(name for _, told in rounds for name in told)
    none = torch.zeros(env.num_envs)  # of a metric that appeared in a later round
    metrics = {n: [x for m, told in rounds for x in told.get(n, none)[:m].tolist()] for n in names}
    return {"returns": returns, "metrics": metrics}


def _play_round(
    env: VectorEnv, teams: Teams, seed: int, explore: bool, limit: Limit
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    returns = {name: torch.zeros(env.num_envs, device=env.device) for name in teams}
    metrics: dict[str, Tensor] = {}
    running = torch.ones(env.num_envs, dtype=torch.bool, device=env.device)
    check_limit = LimitCheck(limit)
    for steps, transition in enumerate(episode_steps(env, teams, seed, explore), 1):
        for name, team in teams.items():
            groups = [g for g in env.groups if g in team.policy.groups]
            returns[name] += team_mean_reward(transition.reward, groups) * running
        ended = transition.done & running
        for name, value in transition.info.items():
            metrics[name] = torch.where(ended, value, metrics.get(name, torch.zeros_like(value)))
        running = running & ~transition.done
        if not running.any():
            break
        check_limit(steps, running)
    finite.check_metrics(metrics)
    return returns, metrics


def episode_steps(env: VectorEnv, teams: Teams, seed: int, explore: bool) -> Iterator[Transition]:
    """Steps ``env`` without end, from a fresh start with a random stream of its own.

    Raises:
        EnvironmentFault: the environment gave what is no number (``marl.training.finite``).
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
    """The frames of one greedy episode of ``env``'s first copy; not of its last step, after which
    the next episode stands there already, unless that is the only one. Of a longer one the first
    ``max_steps``, which stderr is told: frames are held in memory."""
    frames = []
    for transition in islice(episode_steps(env, teams, seed, explore=False), max_steps):
        done = bool(transition.done[0])
        if not done or not frames:
            frames.append(env.render(0))
        if done:
            return frames
    print(f"marl: the film ends after {max_steps:,} steps, its episode goes on", file=sys.stderr)
    return frames
