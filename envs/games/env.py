"""The environment of all games: ``games/<game>`` as a ``VectorEnv``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.envs.checks import check_count
from marl.envs.games.game import Game, Play, Scene
from marl.envs.games.render import draw
from marl.envs.groups import find_groups, find_teams
from marl.envs.native import (
    Beginnings,
    Measures,
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
    tree_tensors,
)


class GameEnv:
    """Copies of one game.

    Args:
        name: of the game, for the picture.
        game: built, not yet bound to a device.
        num_envs: B, the number of copies.
        device: where the game runs.
        max_steps: steps after which an episode ends; None for the game's own ``length``. The end
            is a truncation, but a termination where the game is ``final`` and the length its own.
        groups: group -> agents, in place of groups by name.
    """

    #: Whether ``render`` still shows the last step of an episode after it.
    draws_ends = True

    def __init__(
        self,
        name: str,
        game: Game[Any],
        num_envs: int,
        device: torch.device | str = "cpu",
        max_steps: int | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
    ):
        check_count("num_envs", num_envs)
        self.max_steps = game.length if max_steps is None else max_steps
        check_count("max_steps", self.max_steps)
        self.name, self.game, self.num_envs = name, game, num_envs
        self.state_size, self.device = game.state_size, torch.device(device)
        self._final = game.final and self.max_steps == game.length
        game.bind(self.device)
        self._random = torch.Generator(self.device)
        self._find_groups(groups)
        self._measures = Measures(game.measures, self.device, torch.float32)
        self._beginnings = Beginnings(self._begin)
        self.play = self.last_play = self._fresh()  # to act on; result of the last step

    def reset(self, seed: int) -> Observation:
        self._random.manual_seed(seed)
        self.play = self.last_play = self._fresh()
        return self._observation(self.play)

    @torch.no_grad()
    def step(self, action: Mapping[str, Tensor]) -> Transition:
        noise = self._uniform(self.game.step_noise)
        self.play = self.last_play = self.advance(self.play, self._joint(action), noise)
        done = self.play.steps >= self.max_steps
        next_obs = obs = self._observation(self.play)
        fresh = self._fresh()  # at every step, so that random numbers do not depend on the device
        if self.device.type != "cpu" or done.any():
            self.play = restart_where(done, self.play, fresh)
            obs = self._observation(self.play)
        return self._transition(obs, next_obs, self.last_play)

    def _joint(self, action: Mapping[str, Tensor]) -> Tensor:
        """Returns the actions of all agents in the game's order, ``[B, N]``."""
        return torch.cat([action[name] for name in self.groups], dim=1)[:, self._order]

    def _transition(self, obs: Observation, next_obs: Observation, play: Play) -> Transition:
        """Returns the transition of a step that led to ``play``, and with restarts to ``obs``."""
        done = play.steps >= self.max_steps
        never = torch.zeros_like(done)
        terminated, truncated = (done, never) if self._final else (never, done)
        return Transition(
            obs,
            next_obs,
            {name: play.reward[:, rows] for name, rows in self._rows.items()},
            for_all_agents(self.groups, terminated),
            for_all_agents(self.groups, truncated),
            done,
            self._measures.by_name(play.totals, play.steps),
        )

    # ------------------------------------------------------------------------------- pure functions

    def advance(self, play: Play, action: Tensor, noise: Tensor) -> Play:
        """Computes one step without restarts.

        Args:
            play: state of the episodes.
            action: ``[B, N]`` int64, in the game's order of agents.
            noise: uniform in [0, 1), ``[B, step_noise]``.
        """
        state, outcome = self.game.advance(play.state, action, noise)
        totals = self._measures.add(play.totals, outcome.measures)
        return Play(state, action, outcome.reward, play.steps + 1, totals)

    # ------------------------------------------------------------------- as ``marl.env.PureEnv``

    @property
    def pure_state(self) -> tuple[Play, Play]:
        return self.play, self.last_play

    @pure_state.setter
    def pure_state(self, state: tuple[Play, Play]) -> None:
        self.play, self.last_play = state

    def draw_ahead(self, steps: int) -> Any:
        """Draws what chance decides in the next steps, and all the beginnings that ``step``
        draws."""
        sizes = (self.game.step_noise, self.game.start_noise)
        drawn = [[self._uniform(size) for size in sizes] for _ in range(steps)]
        events, noise = zip(*drawn, strict=True)
        fresh = self._beginnings.of(noise, [True] * steps, self._now)
        return torch.stack(events), fresh

    def pure_step(
        self, state: tuple[Play, Play], action: Mapping[str, Tensor], chance: Any
    ) -> tuple[tuple[Play, Play], Transition]:
        noise, fresh = chance
        last_play = self.advance(state[0], self._joint(action), noise)
        next_obs = self._observation(last_play)
        done = last_play.steps >= self.max_steps
        play, obs = restart_where(done, (last_play, next_obs), fresh)
        return (play, last_play), self._transition(obs, next_obs, last_play)

    def _now(self) -> tuple[Play, Observation]:
        return self.play, self._observation(self.play)

    def _begin(self, noise: Tensor) -> tuple[Play, Observation]:
        """Returns new episodes from ``noise [B, start_noise]``, and their observations."""
        play = self._play(noise)
        return play, self._observation(play)

    # ---------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        return {
            "now": dataclasses.asdict(self.play),
            "shown": dataclasses.asdict(self.last_play),
            "random": self._random.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state of ``state_dict``.

        Raises:
            UserError: a state of another number of copies, another game or other options.
        """
        check_copies(state["now"]["steps"], self.num_envs)
        play, last_play = self._restored(state["now"]), self._restored(state["shown"])
        self.play, self.last_play = play, last_play
        self._random.set_state(state["random"].cpu())

    def _restored(self, saved: Mapping[str, Any]) -> Play:
        kind = type(self.play.state)
        if set(saved["state"]) != {field.name for field in dataclasses.fields(kind)}:
            raise UserError(
                f"the saved state is not one of {self.name}: it holds {sorted(saved['state'])}; "
                "set the task that it was saved with"
            )
        play = Play(**{**saved, "state": kind(**saved["state"])})
        for current, other in zip(tree_tensors(self.play), tree_tensors(play), strict=True):
            if current.shape != other.shape:
                raise UserError(
                    f"the saved state is of {self.name} with other options: {tuple(other.shape)}, "
                    f"expected {tuple(current.shape)}; set task.kwargs as then"
                )
        return tree_map(lambda x: x.to(self.device, copy=True), play)

    def render(self, index: int = 0) -> np.ndarray:
        """Returns a picture of the last step of copy ``index``, ``[512, 512, 3]`` uint8."""
        check_index(index, self.num_envs)
        play = tree_map(lambda x: x[index].cpu(), self.last_play)
        action = play.action.tolist() if play.steps > 0 else None
        scene = Scene(play.state, action, play.reward.tolist())
        measures = self._measures.by_name(self.last_play.totals, self.last_play.steps)
        lines = ["   ".join(f"{key} {value[index].item():.4g}" for key, value in measures.items())]
        title = (
            f"{self.name}   step {play.steps.item()} of {self.max_steps}   {_reward_text(scene)}"
        )
        return draw(self.game.picture(scene), title, lines)

    def close(self) -> None: ...

    def _uniform(self, size: int) -> Tensor:
        shape = (self.num_envs, size)
        return torch.rand(shape, generator=self._random, device=self.device)

    def _fresh(self) -> Play:
        """Returns new episodes of all copies."""
        return self._play(self._uniform(self.game.start_noise))

    def _play(self, noise: Tensor) -> Play:
        """Returns new episodes from ``noise [B, start_noise]``."""
        batch, agents = len(noise), len(self.game.agents)
        return Play(
            self.game.start(noise),
            torch.full((batch, agents), -1, device=self.device),
            torch.zeros(batch, agents, device=self.device),
            torch.zeros(batch, dtype=torch.int64, device=self.device),
            torch.zeros(batch, len(self.game.measures), device=self.device),
        )

    def _observation(self, play: Play) -> Observation:
        obs = self.game.observe(play.state)
        groups = {name: GroupObservation(obs[:, rows]) for name, rows in self._rows.items()}
        return Observation(groups, self.game.global_state(play.state))

    def _find_groups(self, override: Mapping[str, Sequence[str]] | None) -> None:
        game, names = self.game, list(self.game.agents)
        observation = TensorSpec((game.obs_size,))
        spaces = {a: (observation, Discrete(n)) for a, n in zip(names, game.choices, strict=True)}
        self.groups: Mapping[str, AgentGroup] = find_groups(spaces, override)
        self.teams = find_teams(self.groups)
        indices = {k: [names.index(a) for a in g.agents] for k, g in self.groups.items()}
        self._rows = {k: torch.tensor(rows, device=self.device) for k, rows in indices.items()}
        # From the groups' agents side by side to the game's own order.
        self._order = torch.cat(list(self._rows.values())).argsort()


def _reward_text(scene: Scene) -> str:
    """Returns the reward of the last step for the picture's title."""
    if scene.action is None:
        return ""
    if len(set(scene.reward)) == 1:
        return f"reward {scene.reward[0]:.4g}"
    return f"mean reward {sum(scene.reward) / len(scene.reward):.4g}"
