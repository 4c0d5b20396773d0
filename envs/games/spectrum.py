"""Dynamic spectrum access, ``games/spectrum``: users that pick the same channel collide.

- **Task**: N users share K channels, slot by slot.
- **Agents**: ``user_0`` to ``user_{N-1}``.
- **Observation**, ``[2K + 2]``: indices 0 to K are the last action as a one-hot, K + 1 to 2K the
  residual capacity of every channel, 2K + 1 whether the last packet came through. The residual
  capacity is 1 (with ``snr_weighted`` the user's rate) where no packet came through in the last
  slot and no primary user was there, else 0; at the start all are idle.
- **Actions**: Discrete(K + 1): 0 stays idle, k sends on channel k. A packet comes through where its
  user is alone on the channel and no primary user holds it.
- **Reward**: 1 (or the user's rate) for its own packet that came through, for each user by itself.
- **Episode**: 50 slots, then a truncation.

At most min(N, K) packets come through in a slot, which users reach that keep to channels of their
own; Jain's index is 1 for N <= K, and M / N where M of N users always succeed. Users that send with
probability q on a random channel get N q (1 - q/K)^(N-1) through; this floor (slotted Aloha) is
highest with q = min(1, K/N), and uniform actions are q = K / (K + 1). With primary users a channel
is free in leave / (arrive + leave) of the slots, 0.75 by default, and min(N, K) * 0.75 is what
fixed channels get.

Sources: Naparstek & Cohen, "Deep multi-user reinforcement learning for distributed dynamic spectrum
access", IEEE TWC 2019 (observation, reward), and Stamatelis et al. 2025 (arXiv:2503.15172) for
signal-to-noise ratios and primary users. Of the latter only the abstract could be read: their
details here are this project's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.checks import check_count, check_number, check_switch
from marl.envs.games.game import Game, Outcome, Scene
from marl.envs.games.render import BAD, GOOD, INK, ORANGE, Cell, Table
from marl.types import register


@register
@dataclass(frozen=True)
class State:
    """State of users and channels.

    Attributes:
        choice: the channel of the last slot, from 1 on, ``[B, N]`` int64; 0 for none.
        ack: whether the last slot's packet came through, ``[B, N]`` bool.
        busy: whether a primary user held the channel in the last slot, ``[B, K]`` bool.
        rate: reward of a success of each user on each channel, ``[B, N, K]``.
        successes: packets that came through in this episode, ``[B, N]`` int64.
    """

    choice: Tensor
    ack: Tensor
    busy: Tensor
    rate: Tensor
    successes: Tensor


class Spectrum(Game[State]):
    """Dynamic spectrum access; rules, best returns and sources are the module's.

    Args:
        N: number of users.
        K: number of channels.
        snr_weighted: whether a success earns log2(1 + SNR), in bit/s/Hz. The ratio of each user on
            each channel is drawn at the start of an episode (Rayleigh fading: exponential with mean
            ``snr``), and the residual capacity is the rate there instead of 1. The best sum of a
            slot is then that of the heaviest matching of users with channels.
        snr: mean ratio, in decibel, -100 to 100; only with ``snr_weighted``.
        primary: whether each channel has a primary user, which comes in a slot with probability
            ``arrive`` and goes with ``leave``, before the users send; at the start it is there as
            often as in the long run.
        arrive: probability that an absent primary user comes; only with ``primary``.
        leave: probability that a present primary user goes; only with ``primary``.

    Raises:
        UserError: a value out of range.
    """

    length = 50
    measures: ClassVar = {
        "throughput": "mean",  # packets that come through in a slot
        "collisions": "sum",  # packets that do not
        "fairness": "last",  # Jain's index of the users' successes, 1/N to 1; 0 without any
    }

    def __init__(
        self,
        N: int = 3,
        K: int = 2,
        snr_weighted: bool = False,
        snr: float = 10.0,
        primary: bool = False,
        arrive: float = 0.1,
        leave: float = 0.3,
    ) -> None:
        check_count("N", N)
        check_count("K", K)
        check_switch("snr_weighted", snr_weighted)
        check_number("snr", snr, -100, 100)
        check_switch("primary", primary)
        check_number("arrive", arrive, 0, 1)
        check_number("leave", leave, 1e-6, 1)
        self.users, self.channels = N, K
        self.weighted, self.mean_ratio = snr_weighted, 10 ** (snr / 10)
        self.primary, self.arrive, self.leave = primary, arrive, leave
        self.agents, self.choices = [f"user_{i}" for i in range(N)], (K + 1,) * N
        self.obs_size = 2 * K + 2
        self.start_noise = K * primary + N * K * snr_weighted
        self.step_noise = K * primary

    def bind(self, device: torch.device) -> None:
        self.numbers = torch.arange(self.channels + 1, device=device)

    def start(self, noise: Tensor) -> State:
        batch, users, channels = len(noise), self.users, self.channels
        choice = torch.zeros(batch, users, dtype=torch.int64, device=noise.device)
        busy = torch.zeros(batch, channels, dtype=torch.bool, device=noise.device)
        if self.primary:
            busy = noise[:, :channels] < self.arrive / (self.arrive + self.leave)
        rate = noise.new_ones(batch, users, channels)
        if self.weighted:
            uniform = noise[:, noise.shape[1] - users * channels :].unflatten(1, (users, channels))
            rate = torch.log2(1 - self.mean_ratio * torch.log1p(-uniform))  # 1 + SNR, exponential
        return State(choice, choice > 0, busy, rate, choice)

    def advance(self, state: State, action: Tensor, noise: Tensor) -> tuple[State, Outcome]:
        busy = state.busy
        if self.primary:
            busy = torch.where(busy, noise >= self.leave, noise < self.arrive)
        sends = action.unsqueeze(-1) == self.numbers[1:]  # [B, N, K]
        alone = (sends.sum(1) == 1) & ~busy  # [B, K]
        through = sends & alone.unsqueeze(1)
        ack = through.any(-1)  # [B, N]
        successes = state.successes + ack
        measures = (
            ack.sum(-1),
            ((action > 0) & ~ack).sum(-1),
            jain(successes.float()),
        )
        next_state = State(action, ack, busy, state.rate, successes)
        return next_state, Outcome((through * state.rate).sum(-1), measures)

    def observe(self, state: State) -> Tensor:
        last_action = state.choice.unsqueeze(-1) == self.numbers  # [B, N, K + 1]
        carried = (last_action[..., 1:] & state.ack.unsqueeze(-1)).any(1)  # [B, K]
        residual = state.rate * ~(carried | state.busy).unsqueeze(1)  # [B, N, K]
        return torch.cat([last_action.float(), residual, state.ack.unsqueeze(-1).float()], dim=-1)

    def picture(self, scene: Scene) -> Table:
        choice, ack = scene.state.choice.tolist(), scene.state.ack.tolist()
        cells: list[list[Cell | None]] = [
            [self._cell(user, channel, scene) for channel in range(self.channels + 1)]
            for user in range(self.users)
        ]
        for user, count in enumerate(scene.state.successes.tolist()):
            if scene.action is not None:
                edge = INK if not choice[user] else GOOD if ack[user] else BAD
                cell = cells[user][choice[user]]
                cells[user][choice[user]] = Cell(cell.text if cell else "", edge=edge)
            cells[user].append(Cell(str(count), fill=(255, 255, 255)))
        rows = list(self.agents)
        if self.primary:
            primary = [Cell("held", ORANGE) if b else Cell() for b in scene.state.busy.tolist()]
            cells.append([None, *primary, None])
            rows.append("primary user")
        columns = ["idle", *(str(k + 1) for k in range(self.channels)), "through"]
        legend = "green: came through, red: collided, dark: idle"
        return Table(cells, rows, columns, legend + "; numbers: bit/s/Hz" * self.weighted)

    def _cell(self, user: int, channel: int, scene: Scene) -> Cell:
        if not self.weighted or not channel:
            return Cell()
        return Cell(f"{scene.state.rate[user, channel - 1].item():.1f}")


def jain(shares: Tensor) -> Tensor:
    """Computes Jain's index (sum x)^2 / (n sum x^2) over the last axis (Jain et al. 1984).

    Args:
        shares: ``[..., n]``.

    Returns:
        ``[...]``, from 1/n to 1; 0 where all shares are 0.
    """
    squares = shares.square().sum(-1) * shares.shape[-1]
    return shares.sum(-1).square() / squares.clamp(min=1)
