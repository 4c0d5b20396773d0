"""What players do in a step of foraging: they move, and they load food."""

from __future__ import annotations

import torch
from torch import Tensor

from marl.envs.foraging.board import Options
from marl.envs.foraging.state import State

NONE, NORTH, SOUTH, WEST, EAST, LOAD = range(6)
ACTIONS = ("none", "north", "south", "west", "east", "load")


class Rules:
    """The rules of one board.

    Args:
        size: rows and columns.
        players: N.
        options: collisions and rewards.
        device: of all tensors.
    """

    def __init__(self, size: tuple[int, int], players: int, options: Options, device: torch.device):
        self.options, self.players = options, players
        self._size = torch.tensor(size, dtype=torch.int32, device=device).view(2, 1, 1)
        self._others = ~torch.eye(players, dtype=torch.bool, device=device).unsqueeze(-1)
        ways = [[0, -1, 1, 0, 0, 0], [0, 0, 0, -1, 1, 0]]  # of rows and columns, by action
        self._ways = torch.tensor(ways, dtype=torch.int32, device=device).view(2, 6, 1, 1)

    def step(self, state: State, action: Tensor) -> tuple[State, Tensor]:
        """Computes one step.

        Args:
            state: the episodes.
            action: ``[N, B]`` int32; one that is not valid does nothing.

        Returns:
            The state, and the rewards ``[N, B]`` float32.
        """
        player = self._move(state, action)
        tries = self._near(state) * (action == LOAD).int().unsqueeze(1)
        level, reward, failed = self._load(state, tries)
        state = State.of(
            player, state.level, state.food, level, state.spawned, state.steps + 1,
            state.failed + failed, action, state.food_level - level,
        )  # fmt: skip
        return state, reward

    def valid(self, state: State) -> Tensor:
        """Returns which actions do something, and the first, which may always be chosen:
        ``[6, N, B]`` bool.

        Moves within the board onto cells without food, and loading beside a food.
        """
        open_cells = self._is_open(state, state.player.unsqueeze(1) + self._ways)
        loads = self._near(state).any(1)
        return torch.cat([open_cells[:LOAD], loads.unsqueeze(0)])

    def _near(self, state: State) -> Tensor:
        """Returns 1 where a player is beside a food, ``[N, F, B]`` int32: compiled code is slow
        where it stores bool."""
        distance = (state.player.unsqueeze(2) - state.food.unsqueeze(1)).abs()
        return ((distance[0] + distance[1] == 1) & (state.food_level > 0)).int()

    def _is_open(self, state: State, cell: Tensor) -> Tensor:
        """Returns whether cells ``[2, ..., N, B]`` are on the board and without food."""
        within = (cell >= 0) & (cell < self._size.view(2, *[1] * (cell.dim() - 1)))
        food = state.food.view(2, *[1] * (cell.dim() - 2), *state.food.shape[1:])
        here = cell.unsqueeze(-2) == food  # [2, ..., N, F, B]
        taken = (here[0] & here[1] & (state.food_level > 0)).any(-2)
        return within[0] & within[1] & ~taken

    def _move(self, state: State, action: Tensor) -> Tensor:
        """Returns where players are after their moves, ``[2, N, B]``."""
        south, east = (action == SOUTH), (action == EAST)
        way = torch.stack(
            [south.int() - (action == NORTH).int(), east.int() - (action == WEST).int()]
        )
        target = state.player + way
        target = torch.where(self._is_open(state, target), target, state.player)
        meets = target.unsqueeze(2) == target.unsqueeze(1)
        stays = (meets[0] & meets[1] & self._others).any(1)
        if self.options.collisions == "exclusive":
            stays = self._stop_behind(state.player, target, stays)
        return torch.where(stays, state.player, target)

    def _stop_behind(self, player: Tensor, target: Tensor, stays: Tensor) -> Tensor:
        """Returns who stays, ``[N, B]``, if those who go where another stays do so too.

        Args:
            player: where players are, ``[2, N, B]``.
            target: where they want to be, ``[2, N, B]``.
            stays: who is stopped already, ``[N, B]``.
        """
        behind = target.unsqueeze(2) == player.unsqueeze(1)
        behind = behind[0] & behind[1] & self._others  # [N, N, B]
        for _ in range(self.players - 1):  # the longest row of players behind each other
            stays = stays | (behind & stays).any(1)
        return stays

    def _load(self, state: State, tries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loads the foods whose level the players at them reach together.

        Args:
            state: the episodes.
            tries: 1 where a player loads a food, ``[N, F, B]``. Foods lie so far apart that a
                player is beside one at most.

        Returns:
            The levels of the foods left, ``[F, B]``, rewards ``[N, B]``, and the number of tries
            in vain, ``[B]``.
        """
        food = state.food_level
        lifts = tries * state.level.unsqueeze(1)
        strength = lifts.sum(0, dtype=torch.int32)  # [F, B]
        left = torch.where((strength >= food) & (strength > 0), 0, food)
        loaded = food - left
        whole = strength * state.spawned if self.options.normalize_reward else torch.ones_like(food)
        reward = (lifts * (loaded / whole.clamp(min=1))).sum(1)
        vain = (tries * (left > 0)).sum(1, dtype=torch.int32)  # [N, B]
        if self.options.penalty:
            reward = reward - self.options.penalty * vain
        if self.options.common_reward:
            reward = reward.sum(0, keepdim=True).expand_as(reward)
        return left, reward, vain.sum(0, dtype=torch.int32)
