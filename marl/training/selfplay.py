"""Self-play: learning teams play against past policies of each other.

In each iteration one team, in turn, is the *learner* and plays its present policy. Each other
learning team plays, with probability ``share``, a past policy drawn from its pool; it then does not
learn from that iteration, unless it learns from the replay. Pools begin with the checkpoints that
``runs`` names and grow by a snapshot at each ``interval`` (fictitious self-play: Heinrich et al.
2015; drawing stronger policies more often: Vinyals et al. 2019). An episode that continues into the
next iteration may change its players.

A past policy *wins* a copy of the environment where its team's reward, the mean over its agents
summed over the iteration, is above that of each other team; a draw is half a win.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from marl.algorithm import Algorithm
from marl.errors import UserError
from marl.learning.rewards import team_mean_reward
from marl.training import agent_order
from marl.training.checkpoint import Checkpoints, load
from marl.types import AgentGroup, Rollout
from marl.utils import distributed
from marl.utils.capabilities import learns
from marl.utils.serialization import REFERENCE
from marl.utils.validation import check_range, check_word
from marl.utils.versions import LEARNING, learning, observed_group

RULES = ("uniform", "latest", "prioritised")


@dataclass
class SelfPlayConfig:
    """Settings of self-play: how often teams play past policies, and which."""

    #: Probability that a team other than the learner plays a past policy in an iteration; 0 for no
    #: self-play. Usual 0.2 to 0.5.
    share: float = 0.0
    #: Frames between two snapshots of the teams' policies. Usual 1 to 5% of total_frames.
    interval: int = 50_000
    #: Snapshots in each team's pool; when it is full, the oldest is removed. Usual 10 to 100.
    size: int = 20
    #: How opponents are drawn from a pool: uniform, latest (the newest snapshot), or prioritised
    #: (with weights that grow with the square of a snapshot's share of wins).
    rule: str = "uniform"
    #: Episodes that each team plays at each evaluation against past policies of its rivals, for its
    #: win rate (``pool`` in evaluations.jsonl); 0 for none. Each round of evaluation_episodes (at
    #: most 32) meets another policy. Usual 32 to 320.
    episodes: int = 64
    #: Runs or checkpoint files whose policies pools begin with; only with share above 0.
    runs: list[str] = field(default_factory=list, metadata=REFERENCE)

    def __post_init__(self) -> None:
        check_word("selfplay.rule", self.rule, RULES)
        check_range(
            self, share=(0, 1), interval=(1, float("inf")), size=(1, 10_000), episodes=(0, math.inf)
        )
        if self.runs and not self.share:
            raise UserError(
                "selfplay.runs has no effect with selfplay.share=0; set selfplay.share above 0, "
                "such as 0.5"
            )
        self.runs = [str(Path(run).absolute()) for run in self.runs]  # valid in any folder


class OpponentPool:
    """Past policies of one team, with their shares of wins."""

    def __init__(self) -> None:
        self.snapshots: list[dict[str, Tensor]] = []
        self.wins: list[float] = []  # by snapshot: running mean of its share of wins

    def add(self, weights: dict[str, Tensor], size: int) -> None:
        """Adds a snapshot, and removes the oldest ones beyond the size of the pool.

        Args:
            weights: state of the policy; it is not copied.
            size: largest number of snapshots.
        """
        self.snapshots.append(weights)
        self.wins.append(float("nan"))
        del self.snapshots[:-size], self.wins[:-size]

    def draw(self, rule: str, generator: torch.Generator) -> int:
        """Draws the number of a snapshot.

        Args:
            rule: ``SelfPlayConfig.rule``.
            generator: random numbers, on the CPU.
        """
        if rule == "latest":
            return len(self.snapshots) - 1
        weights = torch.ones(len(self.snapshots))
        if rule == "prioritised":
            weights = priorities(self.wins)
        return int(torch.multinomial(weights, 1, generator=generator))

    def credit(self, number: int, wins: float) -> None:
        """Updates a snapshot's running share of wins.

        Args:
            number: number of the snapshot.
            wins: share of copies that it won in an iteration, from 0 to 1.
        """
        old = self.wins[number]
        self.wins[number] = wins if math.isnan(old) else 0.8 * old + 0.2 * wins


def priorities(wins: list[float]) -> Tensor:
    """Returns the weights to draw opponents with (Vinyals et al. 2019, f_hard with p = 2).

    They are the squared share of wins, 1 for snapshots that have not played yet, plus 0.05 so that
    each can be drawn.
    """
    return torch.tensor(wins).nan_to_num(1.0).square() + 0.05


class SelfPlay:
    """The self-play of a run: a pool of past policies for each learning team.

    Args:
        config: how often and which past policies play.
        teams: algorithms by team.
        generator: random numbers, on the CPU.

    Raises:
        UserError: fewer than two teams learn, or a critic has a memory.
    """

    def __init__(
        self, config: SelfPlayConfig, teams: Mapping[str, Algorithm], generator: torch.Generator
    ):
        self.config, self.random = config, generator  # on the CPU
        self.teams = {n: t for n, t in teams.items() if learns(t)}
        if config.share and len(self.teams) < 2:
            raise UserError(
                "selfplay.share requires two teams that learn, and this task has "
                f"{', '.join(self.teams) or 'none'}; set selfplay.share=0"
            )
        if config.share and any(getattr(t, "critic_carry", None) for t in self.teams.values()):
            raise UserError(
                "self-play does not support critics with memory yet; choose critic_model=mlp, or "
                "set model.gru=0"
            )
        self.groups = {name: list(team.policy.groups) for name, team in teams.items()}
        self.pools = {name: OpponentPool() for name in self.teams}
        self.turn = self.next = 0  # iterations so far; frames of the next snapshot

    def fill(self, device: torch.device) -> None:
        """Fills the pools with the policies of the runs in the configuration.

        Args:
            device: where the weights are to be.

        Raises:
            UserError: a run has no checkpoints, or other teams, networks or agents.
        """
        for run in map(Path, self.config.runs):
            if not run.exists():
                raise UserError(
                    f"selfplay.runs: run or checkpoint file {str(run)!r} does not exist"
                )
            files = [run] if run.suffix == ".pt" else Checkpoints(run / "checkpoints").all()
            if not files:
                raise UserError(f"selfplay.runs: {str(run)!r} holds no checkpoint to play against")
            for file in files:
                state = load(file, device)
                saved = state["teams"]
                agents = agent_order.read(file.absolute().parent.parent)
                for name, pool in self.pools.items():
                    weights = saved.get(name, {}).get("policy", {})
                    _check_shapes(weights, policy_of(self.teams[name]), file, name)
                    check_images(self.teams[name].policy.groups, state, file)
                    agent_order.check_places(self.teams[name].policy.groups, agents, file)
                    pool.add(weights, self.config.size)

    @contextmanager
    def playing_past_selves(self, frames: int) -> Iterator[dict[str, int]]:
        """Lets teams play past policies within a ``with`` block around a rollout.

        Args:
            frames: frames that the run has played.

        Yields:
            The number of the snapshot that each such team plays, by team.
        """
        snapshots = self._draw_snapshots(frames) if self.config.share else {}
        with self.playing(snapshots):
            yield snapshots

    @contextmanager
    def playing(self, snapshots: Mapping[str, int]) -> Iterator[None]:
        """Lets teams play past policies within a ``with`` block.

        After the block, or an error in it, all teams have their present policies again.

        Args:
            snapshots: the number of the snapshot that each such team plays, by team.
        """
        present_weights = {}
        try:
            for name, number in snapshots.items():
                present_weights[name] = weights_of(self.teams[name])
                policy_of(self.teams[name]).load_state_dict(self.pools[name].snapshots[number])
            yield
        finally:
            for name, weights in present_weights.items():
                policy_of(self.teams[name]).load_state_dict(weights)

    def _draw_snapshots(self, frames: int) -> dict[str, int]:
        """Adds snapshots when they are due, and draws which team plays which snapshot."""
        if frames >= self.next:
            self.next = frames + self.config.interval
            for name, team in self.teams.items():
                self.pools[name].add(weights_of(team), self.config.size)
        names = list(self.teams)
        learner = names[self.turn % len(names)]
        self.turn += 1
        return {
            name: self.pools[name].draw(self.config.rule, self.random)
            for name in names
            if name != learner and torch.rand((), generator=self.random) < self.config.share
        }

    def credit(self, playing: Mapping[str, int], rollout: Rollout) -> None:
        """Updates the shares of wins of the past policies that played a rollout.

        Args:
            playing: number of the snapshot by team, from ``playing_past_selves``.
            rollout: the rollout, ``[T, B, ...]``.
        """
        rewards = {
            name: team_mean_reward(rollout.reward, groups).sum(0)  # [B]
            for name, groups in self.groups.items()
            if playing
        }
        for name, number in playing.items():
            others = torch.stack([sums for other, sums in rewards.items() if other != name])
            score = (rewards[name] - others.amax(0)).sign().mean()  # 1, 0, -1 for win, draw, loss
            self.pools[name].credit(number, distributed.average(score).item() / 2 + 0.5)

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint, all snapshots included."""
        pools = {n: {"snapshots": p.snapshots, "wins": p.wins} for n, p in self.pools.items()}
        random = self.random.get_state()
        return {"pools": pools, "turn": self.turn, "next": self.next, "random": random}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the state of a checkpoint."""
        for name, saved in state["pools"].items():
            self.pools[name].snapshots = list(saved["snapshots"])
            self.pools[name].wins = list(saved["wins"])
        self.turn, self.next = state["turn"], state["next"]
        self.random.set_state(state["random"].cpu())


def check_images(groups: Mapping[str, AgentGroup], state: Mapping[str, Any], file: Path) -> None:
    """Raises an error if the policies of a checkpoint read images in other units.

    Args:
        groups: groups that the policies are to play for.
        state: state of the checkpoint.
        file: the checkpoint, for the error.

    Raises:
        UserError: an older version of learning trained them on images in other units.
    """
    if any(observed_group(group, learning(state)) != group for group in groups.values()):
        raise UserError(
            f"selfplay.runs: {str(file)!r} learned from images in other units, by an older version "
            f"of learning than {LEARNING}; leave it out, or train it again"
        )


def _check_shapes(weights: Mapping[str, Tensor], policy: nn.Module, file: Path, team: str) -> None:
    """Raises UserError if ``weights`` do not fit ``policy``."""
    expected = policy.state_dict()
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in expected.items()}:
        content = "networks of another shape" if weights else "no policy"
        raise UserError(
            f"selfplay.runs: {str(file)!r} holds {content} for team {team!r}; expected a run with "
            "the same teams, groups and models"
        )


def policy_of(team: Algorithm) -> nn.Module:
    """Returns the policy of a team that learns, as a module."""
    assert isinstance(team.policy, nn.Module), "the policy of a team that learns is a module"
    return team.policy


def weights_of(team: Algorithm) -> dict[str, Tensor]:
    """Returns a copy of the weights of a team's policy."""
    return {k: v.detach().clone() for k, v in policy_of(team).state_dict().items()}
