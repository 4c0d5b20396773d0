"""Early end of a run: at a target, where evaluations no longer improve, or by a callback."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from marl.algorithm import Algorithm
from marl.errors import UserError, unknown
from marl.training.settings import Settings
from marl.utils import distributed
from marl.utils.capabilities import learns


class EarlyStop:
    """Decides, by the evaluations of one team, whether a run ends before its last frame.

    All ranks observe the same returns, those of rank 0.

    Args:
        settings: the run's settings.
        teams: algorithms by team.
        device: device of the run.
    """

    def __init__(self, settings: Settings, teams: Mapping[str, Algorithm], device: torch.device):
        self.settings, self.device = settings, device
        learning = [name for name, team in teams.items() if learns(team)]
        self.team = settings.stop_team or next(iter(learning), "")
        self.frames = 0  # of the last evaluation
        self.last = self.best = -math.inf  # mean return of the last evaluation, and the best so far
        self.waited = 0  # evaluations since the best one
        self.request = ""  # why a callback asks for the end; of this rank
        self.requested = ""  # the same, once all ranks know

    def agree(self) -> None:
        """Shares a callback's request, so that all ranks end at the same moment."""
        if distributed.maximum(int(bool(self.request))):
            self.requested = self.request or "a callback of another rank asked for it"

    def observe(self, frames: int, returns: Mapping[str, Sequence[float]]) -> None:
        """Takes note of an evaluation; every rank must call it.

        Args:
            frames: frames that the run has played.
            returns: returns of the episodes by team; only those of rank 0 are read.
        """
        if not is_set(self.settings):
            return
        mean = 0.0 if distributed.rank() else statistics.fmean(returns[self.team])
        shared = torch.tensor(mean, dtype=torch.float64, device=self.device)
        self.frames, self.last = frames, distributed.broadcast(shared).item()
        self.waited = 0 if self.last > self.best else self.waited + 1
        self.best = max(self.best, self.last)

    def restart(self) -> None:
        """Forgets the evaluations so far, of a task that is no longer played."""
        self.last, self.best, self.waited = -math.inf, -math.inf, 0

    @property
    def setting(self) -> str:
        """The setting that ends the run; empty if none does yet."""
        target, patience = self.settings.stop_at_return, self.settings.stop_after_no_improvement
        if target is not None and self.last >= target:
            return "stop_at_return"
        return "stop_after_no_improvement" if patience and self.waited >= patience else ""

    @property
    def reason(self) -> str:
        """Why the run ends now; empty if it does not."""
        if self.requested:
            return self.requested
        if not self.setting:
            return ""
        words = f"{self.setting}={getattr(self.settings, self.setting):g}, at frame {self.frames:,}"
        if self.setting == "stop_at_return":
            return f"team {self.team!r} has reached a return of {self.last:.2f} ({words})"
        return (
            f"team {self.team!r} has not surpassed its return of {self.best:.2f} in "
            f"{self.waited} evaluations ({words})"
        )

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint."""
        return {
            "at": self.frames, "last": self.last, "best": self.best, "waited": self.waited,
            "requested": self.requested,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state of a checkpoint."""
        self.frames, self.waited = state["at"], state["waited"]
        self.last, self.best = state["last"], state["best"]
        self.requested = state.get("requested", "")


def is_set(settings: Settings) -> bool:
    """Returns whether a run may end early."""
    return settings.stop_at_return is not None or settings.stop_after_no_improvement > 0


def check(settings: Settings, teams: Mapping[str, Algorithm], resumed: bool = False) -> None:
    """Checks that the settings of a run can end it, and by which team.

    Args:
        settings: the run's settings.
        teams: algorithms by team.
        resumed: whether the run is resumed, whose evaluations cannot be changed.

    Raises:
        UserError: the team is not named and several learn, it does not exist, or too few
            evaluations are made before the run's end.
    """
    learning = [name for name, team in teams.items() if learns(team)]
    if not is_set(settings):
        if settings.stop_team:
            raise UserError(
                f"stop_team={settings.stop_team} is read only with stop_at_return or "
                "stop_after_no_improvement; set one of them, or leave it out"
            )
        return
    name = "stop_after_no_improvement" if settings.stop_at_return is None else "stop_at_return"
    if settings.stop_team and settings.stop_team not in learning:
        raise unknown("learning team", settings.stop_team, learning, where=" in stop_team")
    if not learning:
        raise UserError(f"{name} ends a run by a team that learns, and none does; leave it out")
    if not settings.stop_team and len(learning) > 1:
        raise UserError(
            f"{name}: the teams {', '.join(learning)} learn; name the one that is meant by "
            f"stop_team={learning[0]}, for instance"
        )
    try:
        _check_evaluations(name, settings)
    except UserError as error:
        if not resumed:
            raise
        reason = str(error).rpartition("; ")[0]
        raise UserError(f"{reason}; leave it out, for a run keeps its evaluations") from None


def _check_evaluations(name: str, settings: Settings) -> None:
    """Raises UserError if too few evaluations are made before the end for the run to end early."""
    if not settings.evaluation_interval:
        raise UserError(
            f"{name} needs evaluations during the run, and evaluation_interval=0 evaluates at the "
            f"end only; set evaluation_interval={max(1, settings.total_frames // 20)}, for instance"
        )
    interval = max(settings.evaluation_interval, settings.frames_per_iteration)
    count = math.ceil(settings.whole_frames / interval)  # the last one, at the end, is no stop
    needed = 1 + max(1, settings.stop_after_no_improvement)
    if count < needed:
        raise UserError(
            f"{name} could never end the run early: it needs {needed} evaluations before the end, "
            f"and evaluation_interval={settings.evaluation_interval} makes {count}; set "
            f"evaluation_interval={max(1, settings.total_frames // (4 * needed))}, for instance"
        )
