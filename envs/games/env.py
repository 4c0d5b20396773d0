"""Games behind the VectorEnv contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.envs.checks import check_count, check_options
from marl.envs.games.aloha import Aloha
from marl.envs.games.byzantine import Byzantine
from marl.envs.games.coordination import Coordination
from marl.envs.games.game import Game, Play, Scene
from marl.envs.games.matrix import Climbing, Matrix, Penalty, Random
from marl.envs.games.render import draw
from marl.envs.games.spectrum import Spectrum
from marl.envs.groups import find_groups, find_teams
from marl.envs.native import Measures, check_copies, check_index, for_all, restarted
from marl.errors import UserError, unknown
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

GAMES: dict[str, type[Game[Any]]] = {
    "aloha": Aloha,
    "byzantine": Byzantine,
    "climbing": Climbing,
    "coordination": Coordination,
    "matrix": Matrix,
    "penalty": Penalty,
    "random": Random,
    "spectrum": Spectrum,
}


class GameEnv:
    """``num_envs`` copies of one game.

    Args:
        name: of the game, for the picture.
        game: built, not yet bound to a device.
        max_steps: steps after which an episode ends; None for the game's own ``length``. The end
            is a truncation, but a termination where the game is ``final`` and the length its own.
        groups: group -> agents, in place of those found by name.
    """

    state_size = None

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
        self.device = torch.device(device)
        self._final = game.final and self.max_steps == game.length
        game.bind(self.device)
        self._random = torch.Generator(self.device)
        self._find_groups(groups)
        self._measures = Measures(game.measures, self.device, torch.float32)
        self.now = self.shown = self._fresh()  # to act on; what the last step led to

    def reset(self, seed: int) -> Observation:
        self._random.manual_seed(seed)
        self.now = self.shown = self._fresh()
        return self._observation(self.now)

    @torch.no_grad()
    def step(self, action: Mapping[str, Tensor]) -> Transition:
        joint = torch.cat([action[name] for name in self.groups], dim=1)[:, self._order]
        self.now = self.shown = self.advance(self.now, joint, self._uniform(self.game.step_noise))
        done = self.now.steps >= self.max_steps
        next_obs = obs = self._observation(self.now)
        fresh = self._fresh()  # at every step, so that what is drawn does not hang on who waits
        if self.device.type != "cpu" or done.any():
            self.now = restarted(self.now, fresh, done)
            obs = self._observation(self.now)
        never = torch.zeros_like(done)
        over, cut = (done, never) if self._final else (never, done)
        return Transition(
            obs,
            next_obs,
            {name: self.shown.reward[:, rows] for name, rows in self._rows.items()},
            for_all(self.groups, over),
            for_all(self.groups, cut),
            done,
            self._measures.told(self.shown.totals, self.shown.steps),
        )

    # ------------------------------------------------------------------------------- pure functions

    def advance(self, play: Play, action: Tensor, noise: Tensor) -> Play:
        """One step without restarts."""
        state, outcome = self.game.advance(play.state, action, noise)
        totals = self._measures.add(play.totals, outcome.measures)
        return Play(state, action, outcome.reward, play.steps + 1, totals)

    # ---------------------------------------------------------------------------------------- state

    def state_dict(self) -> dict[str, Any]:
        return {
            "now": dataclasses.asdict(self.now),
            "shown": dataclasses.asdict(self.shown),
            "random": self._random.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises UserError where ``state`` is of another number of copies, or another game."""
        check_copies(state["now"]["steps"], self.num_envs)
        now, shown = self._restored(state["now"]), self._restored(state["shown"])
        self.now, self.shown = now, shown
        self._random.set_state(state["random"].cpu())

    def _restored(self, saved: Mapping[str, Any]) -> Play:
        kind = type(self.now.state)
        if set(saved["state"]) != {field.name for field in dataclasses.fields(kind)}:
            raise UserError(f"the saved state is not one of {self.name}: {sorted(saved['state'])}")
        play = Play(**{**saved, "state": kind(**saved["state"])})
        for own, other in zip(tree_tensors(self.now), tree_tensors(play), strict=True):
            if own.shape != other.shape:
                raise UserError(
                    f"the saved state is of {self.name} with other options: "
                    f"{tuple(other.shape)}, expected {tuple(own.shape)}"
                )
        return tree_map(lambda x: x.to(self.device, copy=True), play)

    def render(self, index: int = 0) -> np.ndarray:
        """What the last step of copy ``index`` led to, as ``[512, 512, 3]`` uint8."""
        check_index(index, self.num_envs)
        play = tree_map(lambda x: x[index].cpu(), self.shown)
        begun = bool(play.steps > 0)
        scene = Scene(play.state, play.action.tolist() if begun else None, play.reward.tolist())
        told = self._measures.told(self.shown.totals, self.shown.steps)
        lines = ["   ".join(f"{key} {value[index].item():.4g}" for key, value in told.items())]
        title = f"{self.name}   step {play.steps.item()} of {self.max_steps}   {_earned(scene)}"
        return draw(self.game.picture(scene), title, lines)

    def close(self) -> None: ...

    def _uniform(self, size: int) -> Tensor:
        shape = (self.num_envs, size)
        return torch.rand(shape, generator=self._random, device=self.device)

    def _fresh(self) -> Play:
        batch, agents = self.num_envs, len(self.game.agents)
        return Play(
            self.game.start(self._uniform(self.game.start_noise)),
            torch.full((batch, agents), -1, device=self.device),
            torch.zeros(batch, agents, device=self.device),
            torch.zeros(batch, dtype=torch.int64, device=self.device),
            torch.zeros(batch, len(self.game.measures), device=self.device),
        )

    def _observation(self, play: Play) -> Observation:
        seen = self.game.observe(play.state)
        return Observation(
            {name: GroupObservation(seen[:, rows]) for name, rows in self._rows.items()}
        )

    def _find_groups(self, override: Mapping[str, Sequence[str]] | None) -> None:
        game, names = self.game, list(self.game.agents)
        sight = TensorSpec((game.sight,))
        spaces = {a: (sight, Discrete(n)) for a, n in zip(names, game.choices, strict=True)}
        self.groups: Mapping[str, AgentGroup] = find_groups(spaces, override)
        self.teams = find_teams(self.groups)
        places = {k: [names.index(a) for a in g.agents] for k, g in self.groups.items()}
        self._rows = {k: torch.tensor(rows, device=self.device) for k, rows in places.items()}
        # From the groups' agents side by side to the game's own order.
        self._order = torch.cat(list(self._rows.values())).argsort()


def _earned(scene: Scene) -> str:
    if scene.action is None:
        return ""
    if len(set(scene.reward)) == 1:
        return f"reward {scene.reward[0]:.4g}"
    return f"mean reward {sum(scene.reward) / len(scene.reward):.4g}"


def make(
    name: str,
    num_envs: int,
    device: torch.device | str = "cpu",
    max_steps: int | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    **options: Any,
) -> GameEnv:
    """``games/<game>`` with its own options.

    Raises:
        UserError: an unknown name or option, or a value out of range.
    """
    game = GAMES.get(name.removeprefix("games/"))
    if game is None:
        raise unknown("task", name, names())
    check_options(name, options, game)
    return GameEnv(name, game(**options), num_envs, device, max_steps, groups)


def names() -> list[str]:
    return [f"games/{name}" for name in GAMES]
