"""The schedule of a run's evaluations, and what each of them plays."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from marl.env import VectorEnv
from marl.training.collector import Teams
from marl.training.evaluation import Limit, evaluate
from marl.training.pool_evaluation import Rates, win_rates
from marl.training.sampled_play import sampling
from marl.training.selfplay import SelfPlay
from marl.training.settings import Settings
from marl.utils import distributed, seeding
from marl.utils.capabilities import learns


class Evaluations:
    """The evaluations of a training run: at each interval, and once at the end.

    Args:
        env: environment to play in.
        teams: algorithms by team.
        settings: the run's settings.
        selfplay: pools of past policies, against which win rates are measured; None for none.
    """

    def __init__(
        self, env: VectorEnv, teams: Teams, settings: Settings, selfplay: SelfPlay | None = None
    ):
        self.env, self.teams, self.settings, self.selfplay = env, teams, settings, selfplay
        self.next, self.last_frame = 0, -1  # frames of the next evaluation and of the last one
        self.returns: dict[str, list[float]] = {}  # of the last evaluation, by team
        self.metrics: list[str] = []  # all names so far, for later evaluations keep them
        self.best: dict[str, float] = {}  # best mean return so far of each team that learns

    def is_due(self, frames: int, ends: bool) -> bool:
        """Returns whether to evaluate after ``frames`` frames of training, at which the run
        ``ends``."""
        if ends:
            return self.last_frame != frames
        return self.settings.evaluation_interval > 0 and frames >= self.next

    def play(self, frames: int) -> dict[str, Any]:
        """Plays the episodes of the evaluation at ``frames``.

        Returns:
            What ``evaluate`` returns, with the metrics of all evaluations so far: of greedy
            actions, or of sampled ones if the settings say so; with ``both``, those are in
            ``sampled``. With self-play also ``pool``, the win rates. Without episodes on ranks
            other than 0.
        """
        kind = self.settings.evaluation
        result: dict[str, Any] = self._episodes(frames, sampled=kind == "sampled")
        parts = [result]
        if kind == "both":
            result["sampled"] = self._episodes(frames, sampled=True)
            parts.append(result["sampled"])
        self._complete_metrics(parts)
        if self._measures_win_rates():
            result["pool"] = self._win_rates(frames)
        interval = self.settings.evaluation_interval or self.settings.total_frames
        self.returns, self.last_frame = result["returns"], frames
        self.next = (frames // interval + 1) * interval
        return result

    def _episodes(self, frames: int, sampled: bool) -> dict[str, Any]:
        """Plays greedy or sampled episodes, which begin alike."""
        seed = seeding.evaluation_seed(self.settings.seed, frames)
        episodes = 0 if distributed.rank() else self.settings.evaluation_episodes
        teams = sampling(self.teams) if sampled else self.teams
        return {**evaluate(self.env, teams, episodes, seed, sampled, self._limit(frames))}

    def _limit(self, frames: int) -> Limit:
        return Limit(self.settings.evaluation_max_steps, f"evaluation at frame {frames:,}")

    def _complete_metrics(self, parts: Sequence[dict[str, Any]]) -> None:
        """Gives all parts of an evaluation the metrics of all evaluations so far."""
        names = (name for part in parts for name in part["metrics"])
        self.metrics = list(dict.fromkeys([*self.metrics, *names]))
        zeros = [0.0] * (0 if distributed.rank() else self.settings.evaluation_episodes)
        for part in parts:
            part["metrics"] = {name: part["metrics"].get(name, zeros) for name in self.metrics}

    def _measures_win_rates(self) -> bool:
        config = self.selfplay.config if self.selfplay else None
        return bool(config and config.share and config.episodes)

    def _win_rates(self, frames: int) -> Rates:
        assert self.selfplay is not None
        if distributed.rank():
            return {}
        seed = seeding.evaluation_seed(self.settings.seed, "pool", frames)
        return win_rates(self.env, self.teams, self.selfplay, seed, self._limit(frames))

    def update_best(self) -> list[str]:
        """Returns the learning teams whose last mean return is at least their best so far.

        Opponents are as they are now. Of equal returns the last counts as the best, for that team
        has learned longest.
        """
        means = {
            name: statistics.fmean(self.returns[name])
            for name, team in self.teams.items()
            if self.returns[name] and learns(team)
        }
        names = [name for name, mean in means.items() if mean >= self.best.get(name, -math.inf)]
        self.best.update({name: means[name] for name in names})
        return names

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint."""
        return {
            "next": self.next, "done_at": self.last_frame, "returns": self.returns,
            "best": self.best, "metrics": self.metrics,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state of a checkpoint."""
        self.next, self.last_frame = state["next"], state["done_at"]
        self.returns, self.best = state["returns"], state["best"]
        self.metrics = state["metrics"]
