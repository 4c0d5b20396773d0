"""The environment of all foraging tasks: ``foraging/<size>-<players>p-<foods>f[-coop]``.

N players of different levels walk on a board and load food. A food is loaded by the players beside
it who load in the same step, if the sum of their levels reaches its own (Albrecht & Ramamoorthy
2013; Christianos et al. 2020). With ``-coop`` every food needs the three weakest players together,
or all, if there are fewer.

- **Actions**: none, north, south, west, east, load. What is not possible does nothing.
- **Reward** of each player that loaded: its level times the food's, divided by the sum of the
  levels of those who loaded and by the sum of the levels of all foods of the episode, so that an
  episode pays all players together 1 at most.
- **Episode**: terminated when no food is left, truncated after 50 steps (``task.max_steps``). The
  package reports both as terminations.

``observation`` has what players observe, ``placement`` how episodes begin. Source: lbforaging
2.0.0, with which observations, rewards and ends agree in every step from the same state. Random
numbers differ, since episodes are drawn in a batch and restart by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.envs.checks import check_count
from marl.envs.foraging.board import Board, Options, check_board
from marl.envs.foraging.observation import Observer
from marl.envs.foraging.placement import Placement
from marl.envs.foraging.render import draw
from marl.envs.foraging.room import check_room
from marl.envs.foraging.rules import ACTIONS, Rules
from marl.envs.foraging.state import State
from marl.envs.groups import find_groups, find_teams
from marl.envs.native import (
    agent_indices,
    check_copies,
    check_index,
    for_all_agents,
    restart_where,
)
from marl.errors import UserError
from marl.types import (
    AgentGroup,
    Discrete,
    GroupObservation,
    Observation,
    TensorSpec,
    Transition,
    tree_map,
)
from marl.utils.compilation import compile_function

MAX_STEPS = 50  # of an episode, as in lbforaging
POOL = 64  # least number of beginnings that are drawn together


class ForagingEnv:
    """Copies of one board.

    Args:
        name: of the task, for errors and pictures.
        board: its size, players and foods.
        num_envs: B, the number of copies.
        device: where they run.
        max_steps: steps after which an episode is truncated.
        options: all others.
        groups: group -> agents, in place of one group of all.

    Raises:
        UserError: an option out of range.
    """

    #: Whether ``render`` still shows the last step of an episode after it.
    draws_ends = True

    def __init__(
        self,
        name: str,
        board: Board,
        num_envs: int,
        device: torch.device | str = "cpu",
        max_steps: int = MAX_STEPS,
        options: Options | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
    ):
        check_count("num_envs", num_envs)
        check_count("max_steps", max_steps)
        check_board(name, board)
        self.name, self.board, self.num_envs, self.max_steps = name, board, num_envs, max_steps
        self.device, options = torch.device(device), options or Options()
        check_room(name, board, options.rules)
        self.options = options
        self._rules = Rules((board.rows, board.columns), board.players, options, self.device)
        self._placement = Placement(board, options, self.device)
        sight = options.sight or board.sight or max(board.rows, board.columns)
        self._observer = Observer(board, sight, options.observe_agent_levels, self.device)
        self.state_size: int | None = self._observer.state_size
        self._find_groups(groups)
        self._random = torch.Generator(self.device)
        self._advance = self._compiled(self.advance)
        self._restart = self._compiled(self.restart)
        self._begin = self._compiled(self.begin)
        self._checks_ends = self.device.type == "cpu"  # where checking for ends is cheap
        self._start(seed=0)

    def reset(self, seed: int) -> Observation:
        self._start(seed)
        return self.observe(self.state)

    @torch.no_grad()
    def step(self, action: Mapping[str, Tensor]) -> Transition:
        self.last_state, obs, reward, over, cut, info = self._advance(self.state, action)
        self.state, done, next_obs = self.last_state, over | cut, obs
        if not self._checks_ends:
            noise = self._noise(self.num_envs)
            self.state, obs = self._restart(self.state, done, noise)
        elif len(ended := done.nonzero().squeeze(-1)):
            obs = self._restart_ended(obs, ended)
        terminated, truncated = for_all_agents(self.groups, over), for_all_agents(self.groups, cut)
        return Transition(obs, next_obs, reward, terminated, truncated, done, info)

    # ------------------------------------------------------------------------------- pure functions

    def advance(self, state: State, action: Mapping[str, Tensor]) -> tuple[Any, ...]:
        """Computes one step without restarts.

        Args:
            state: the episodes.
            action: ``[B, N]`` by group.

        Returns:
            The state, the observation, rewards by group ``[B, N]``, whether an episode terminated
            and whether it is truncated, ``[B]``, and metrics by name, ``[B]``.
        """
        joint = torch.cat([action[name] for name in self.groups], dim=1)[:, self._order]
        state, reward = self._rules.step(state, joint.t().int())
        left = state.food_level.sum(0, dtype=torch.int32)
        over = left == 0
        cut = (state.steps >= self.max_steps) & ~over
        info = {
            "collected": 1 - left / state.spawned.clamp(min=1),
            "failed_loads": state.failed.float(),
            "length": state.steps.float(),
        }
        reward = reward.t()
        rewards = {name: reward[:, rows].contiguous() for name, rows in self._rows.items()}
        return state, self.observe(state), rewards, over, cut, info

    def restart(self, state: State, done: Tensor, noise: Tensor) -> tuple[State, Observation]:
        """Starts new episodes where others are done, and returns state and observation.

        Args:
            state: the episodes.
            done: ``[B]`` bool.
            noise: uniform in [0, 1), ``[noise_size, B]``.
        """
        fresh = self._placement.start(noise)
        state = tree_map(lambda old, new: torch.where(done, new, old), state, fresh)
        return state, self.observe(state)

    def begin(self, noise: Tensor) -> tuple[State, Observation]:
        """Returns new episodes, and their observation, from ``noise [noise_size, B]``."""
        state = self._placement.start(noise)
        return state, self.observe(state)

    def observe(self, state: State) -> Observation:
        """Returns the observations of all groups, ``[B, N, O]`` float32, and the state."""
        obs = self._observer.observe(state)
        mask = self._rules.valid(state).permute(2, 1, 0) if self.options.action_mask else None
        groups = {
            name: GroupObservation(obs[:, rows], None if mask is None else mask[:, rows])
            for name, rows in self._rows.items()
        }
        return Observation(groups, self._observer.state(state, obs))

    # ------------------------------------------------------------------- as ``marl.env.PureEnv``

    # Copies are the last axis of a ``State``, and as of all pure environments the first one here.

    @property
    def pure_state(self) -> tuple[State, State]:
        return tree_map(copies_first, (self.state, self.last_state))

    @pure_state.setter
    def pure_state(self, state: tuple[State, State]) -> None:
        self.state, self.last_state = tree_map(copies_last, state)

    def draw_ahead(self, steps: int) -> Any:
        """Draws beginnings for every one of the next steps, as ``step`` does on a GPU."""
        noise = [self._noise(self.num_envs) for _ in range(steps)]
        state, obs = self.begin(torch.cat(noise, dim=-1))
        batch = (steps, self.num_envs)
        state = tree_map(lambda x: copies_first(x).unflatten(0, batch), state)
        return state, tree_map(lambda x: x.unflatten(0, batch), obs)

    def pure_step(
        self, state: tuple[State, State], action: Mapping[str, Tensor], chance: Any
    ) -> tuple[tuple[State, State], Transition]:
        fresh, first = chance
        present, fresh = tree_map(copies_last, (state[0], fresh))
        last_state, next_obs, reward, over, cut, info = self.advance(present, action)
        done = over | cut
        now = tree_map(lambda old, new: torch.where(done, new, old), last_state, fresh)
        obs = restart_where(done, next_obs, first)
        ends = for_all_agents(self.groups, over), for_all_agents(self.groups, cut)
        after = tree_map(copies_first, (now, last_state))
        return after, Transition(obs, next_obs, reward, *ends, done, info)

    # ---------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        return {
            "board": self._sizes(),
            "now": self.state.values,
            "shown": self.last_state.values,
            "pool": self._pool[0].values,
            "next": self._next,
            "random": self._random.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state of ``state_dict``.

        Raises:
            UserError: a state of another number of copies, or of another board.
        """
        if state["board"] != self._sizes():
            raise UserError(
                f"the saved state is not one of {self.name}; set the task that it was saved with"
            )
        check_copies(state["now"].t(), self.num_envs)
        self.state, self.last_state, pool = (
            State(state[name].to(self.device, copy=True), self.board.players)
            for name in ("now", "shown", "pool")
        )
        self._set_pool(pool, state["next"])
        self._random.set_state(state["random"].cpu())

    def _sizes(self) -> list[int]:
        return [self.board.rows, self.board.columns, self.board.players, self.board.foods]

    def render(self, index: int = 0) -> np.ndarray:
        """Returns a picture of the last step of copy ``index``, ``[512, 512, 3]`` uint8."""
        check_index(index, self.num_envs)
        state = tree_map(lambda x: x[..., index].cpu(), self.last_state)
        return draw(self.name, self.board, state, self.max_steps)

    def close(self) -> None: ...

    def _restart_ended(self, obs: Observation, ended: Tensor) -> Observation:
        """Restarts some copies from the pool, and returns the observation.

        A CPU draws many beginnings at once, ahead of time: a few in every step take longer.

        Args:
            obs: of all copies.
            ended: indices of the copies whose episode has ended, ``[K]``.
        """
        state, first = self._pool
        if self._next + len(ended) > state.values.shape[-1]:
            state, first = self._pool = self._begin(self._noise(max(POOL, self.num_envs)))
            self._next = 0
        part = slice(self._next, self._next + len(ended))
        self._next = part.stop
        values = self.state.values.index_copy(-1, ended, state.values[:, part])
        self.state = State(values, self.board.players)
        return tree_map(lambda old, new: old.index_copy(0, ended, new[part]), obs, first)

    def _start(self, seed: int) -> None:
        """Starts new episodes in all copies, and draws the pool."""
        self._random.manual_seed(seed)
        self.state = self.last_state = self._placement.start(self._noise(self.num_envs))
        self._set_pool(self._placement.start(self._noise(max(POOL, self.num_envs))), 0)

    def _set_pool(self, pool: State, first: int) -> None:
        """Sets the next beginnings, and how many of them are used already."""
        self._pool, self._next = (pool, self.observe(pool)), first

    def _noise(self, episodes: int) -> Tensor:
        """Draws the noise that so many episodes start from."""
        shape = (self._placement.noise_size, episodes)
        return torch.rand(shape, generator=self._random, device=self.device)

    def _compiled(self, function: Any) -> Any:
        return compile_function(function, whole=True) if self.options.compile else function

    def _find_groups(self, override: Mapping[str, Sequence[str]] | None) -> None:
        names = [f"agent_{number}" for number in range(self.board.players)]
        spec = TensorSpec((self._observer.size,)), Discrete(len(ACTIONS))
        groups = find_groups(dict.fromkeys(names, spec), override)
        masked = self.options.action_mask
        self.groups: Mapping[str, AgentGroup] = {
            name: replace(group, masked=masked) for name, group in groups.items()
        }
        self.teams = find_teams(self.groups)
        self._rows, self._order = agent_indices(self.groups, names, self.device)


def copies_first(x: Tensor) -> Tensor:
    """Returns ``[..., B]`` as ``[B, ...]``."""
    return x.movedim(-1, 0)


def copies_last(x: Tensor) -> Tensor:
    """Returns ``[B, ...]`` as ``[..., B]``."""
    return x.movedim(0, -1)
