"""Self-play against the past: teams that learn meet each other as they were.

In every iteration one team, in turn, is the *learner* and plays as it is; each other learning team
plays with probability ``share`` as it was at an earlier time, drawn from its pool, and does not
learn from that iteration, unless it learns from the replay. Pools begin with the checkpoints that
``runs`` names and grow by a snapshot at every ``interval`` (fictitious self-play: Heinrich et al.
2015; drawing the harder ones more often: Vinyals et al. 2019). An episode that goes on into the
next iteration may change its players.

A past self *wins* a copy of the environment where its team's reward, the mean over its agents
summed over the iteration, is above that of every other team; a draw is half a win.
"""

from __future__ import annotations

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
    """How often teams play as they were, and which of their past."""

    share: float = 0.0  # of the iterations in which others than the learner do; 0 for never
    interval: int = 50_000  # frames between two snapshots
    size: int = 20  # snapshots in each pool; beyond it the oldest goes
    rule: str = "uniform"  # latest, uniform, or prioritised: the more one wins, the likelier
    # Runs or checkpoint files that pools begin with.
    runs: list[str] = field(default_factory=list, metadata=REFERENCE)

    def __post_init__(self) -> None:
        check_word("selfplay.rule", self.rule, RULES)
        check_range(self, share=(0, 1), interval=(1, float("inf")), size=(1, 10_000))
        if self.runs and not self.share:
            raise UserError("selfplay.runs fills pools that no one draws from; set selfplay.share")
        self.runs = [str(Path(run).absolute()) for run in self.runs]  # found again from anywhere


class OpponentPool:
    """Past policies of one team, and how they fared."""

    def __init__(self) -> None:
        self.snapshots: list[dict[str, Tensor]] = []
        self.wins: list[float] = []  # by snapshot: the running mean of its share of wins

    def add(self, weights: dict[str, Tensor], size: int) -> None:
        self.snapshots.append(weights)
        self.wins.append(float("nan"))
        del self.snapshots[:-size], self.wins[:-size]

    def draw(self, rule: str, generator: torch.Generator) -> int:
        """The number of a snapshot."""
        if rule == "latest":
            return len(self.snapshots) - 1
        weights = torch.ones(len(self.snapshots))
        if rule == "prioritised":
            weights = priorities(self.wins)
        return int(torch.multinomial(weights, 1, generator=generator))

    def credit(self, number: int, wins: float) -> None:
        old = self.wins[number]
        self.wins[number] = wins if old != old else 0.8 * old + 0.2 * wins


def priorities(wins: list[float]) -> Tensor:
    """Weights: the square of the share of wins, 1 for the untried, and 0.05 for everyone's sake
    (Vinyals et al. 2019, f_hard with p = 2)."""
    return torch.tensor(wins).nan_to_num(1.0).square() + 0.05


class SelfPlay:
    """The pools of a run.

    Raises:
        UserError: fewer than two teams learn, or with a critic that has a memory.
    """

    def __init__(
        self, config: SelfPlayConfig, teams: Mapping[str, Algorithm], generator: torch.Generator
    ):
        self.config, self.random = config, generator  # on the CPU
        self.teams = {n: t for n, t in teams.items() if learns(t)}
        if config.share and len(self.teams) < 2:
            raise UserError(
                "selfplay.share needs two teams that learn, and here is "
                f"{', '.join(self.teams) or 'none'}; leave selfplay.share=0"
            )
        if config.share and any(getattr(t, "critic_carry", None) for t in self.teams.values()):
            raise UserError(
                "selfplay does not support critics with memory yet; choose critic_model=mlp, or "
                "set model.gru=0"
            )
        self.groups = {name: list(team.policy.groups) for name, team in teams.items()}
        self.pools = {name: OpponentPool() for name in self.teams}
        self.turn = self.next = 0  # iterations begun; frames at the next snapshot

    def fill(self, device: torch.device) -> None:
        """Puts what ``runs`` names into the pools.

        Raises:
            UserError: a run without checkpoints, or one of other teams, shapes or agents.
        """
        for run in map(Path, self.config.runs):
            if not run.exists():
                raise UserError(f"selfplay.runs: there is no run or checkpoint file {str(run)!r}")
            files = [run] if run.suffix == ".pt" else Checkpoints(run / "checkpoints").all()
            if not files:
                raise UserError(f"selfplay.runs: {str(run)!r} holds no checkpoint to play against")
            for file in files:
                state = load(file, device)
                saved = state["teams"]
                agents = agent_order.read(file.absolute().parent.parent)
                for name, pool in self.pools.items():
                    weights = saved.get(name, {}).get("policy", {})
                    _check_alike(weights, policy_of(self.teams[name]), file, name)
                    check_images(self.teams[name].policy.groups, state, file)
                    agent_order.check_places(self.teams[name].policy.groups, agents, file)
                    pool.add(weights, self.config.size)

    @contextmanager
    def playing_past_selves(self, frames: int) -> Iterator[dict[str, int]]:
        """Around an iteration's rollout: who plays as it was (team -> its snapshot's number).
        After it, or an error in it, all are again what they are."""
        playing = self._drawn(frames) if self.config.share else {}
        kept = {}
        try:
            for name, number in playing.items():
                kept[name] = weights_of(self.teams[name])
                policy_of(self.teams[name]).load_state_dict(self.pools[name].snapshots[number])
            yield playing
        finally:
            for name, weights in kept.items():
                policy_of(self.teams[name]).load_state_dict(weights)

    def _drawn(self, frames: int) -> dict[str, int]:
        """Adds snapshots when due, and draws who plays as what."""
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
        """Remembers how many copies past selves won."""
        earned = {
            name: team_mean_reward(rollout.reward, groups).sum(0)  # [B]
            for name, groups in self.groups.items()
            if playing
        }
        for name, number in playing.items():
            others = torch.stack([sums for other, sums in earned.items() if other != name]).amax(0)
            ahead = (earned[name] - others).sign().mean()  # 1, 0, -1 for win, draw, loss
            self.pools[name].credit(number, distributed.average(ahead).item() / 2 + 0.5)

    def state_dict(self) -> dict[str, Any]:
        pools = {n: {"snapshots": p.snapshots, "wins": p.wins} for n, p in self.pools.items()}
        random = self.random.get_state()
        return {"pools": pools, "turn": self.turn, "next": self.next, "random": random}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, saved in state["pools"].items():
            self.pools[name].snapshots = list(saved["snapshots"])
            self.pools[name].wins = list(saved["wins"])
        self.turn, self.next = state["turn"], state["next"]
        self.random.set_state(state["random"].cpu())


def check_images(groups: Mapping[str, AgentGroup], state: Mapping[str, Any], file: Path) -> None:
    """Raises UserError where the policies of ``state`` read images in other units."""
    if any(observed_group(group, learning(state)) != group for group in groups.values()):
        raise UserError(
            f"selfplay.runs: {str(file)!r} learned from images in other units, by an older version "
            f"of learning than {LEARNING}; leave it out, or train it anew"
        )


def _check_alike(weights: Mapping[str, Tensor], policy: nn.Module, file: Path, team: str) -> None:
    """Raises UserError where ``weights`` are not ``policy``'s."""
    own = policy.state_dict()
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in own.items()}:
        found = "networks of another shape" if weights else "no policy"
        raise UserError(f"selfplay.runs: {str(file)!r} holds {found} for team {team!r}")


def policy_of(team: Algorithm) -> nn.Module:
    """Its policy, which has weights."""
    assert isinstance(team.policy, nn.Module), "a team that learns has weights"
    return team.policy


def weights_of(team: Algorithm) -> dict[str, Tensor]:
    """A copy of its policy's."""
    return {k: v.detach().clone() for k, v in policy_of(team).state_dict().items()}
