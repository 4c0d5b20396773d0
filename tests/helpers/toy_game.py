"""Tiny environments in pure torch: agents see a code and are paid for answering with it.

One class serves all kinds of spaces; ``tests.helpers.toy_envs`` names the kinds. Episodes end by a
time limit (truncation) after ``length`` steps, or earlier by chance (termination); agents alone
too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from marl.env import uniform_action, uniform_noise
from marl.types import (
    ActionSpec,
    AgentGroup,
    Continuous,
    Discrete,
    GroupObservation,
    MultiDiscrete,
    Observation,
    TensorSpec,
    Transition,
)
from marl.utils.seeding import derive

PIXELS = 8  # width of an image


@dataclass(frozen=True)
class Rules:
    length: int = 4  # steps until truncation
    end: float = 0.1  # chance of a termination at each step
    death: float = 0.0  # chance of an agent's death at each step
    limit: float = 0.0  # chance that an agent alone is truncated at each step
    masked: bool = False  # about half of the actions are forbidden, never the code
    images: bool = False  # the code as the brightness of an image
    state: bool = False  # tells the joint code as Observation.state
    memory: bool = False  # the code is seen in the first step only, and stays


class Game:
    """B copies of the game, for ``{group: (agents, action space)}``."""

    def __init__(
        self,
        num_envs: int,
        device: torch.device | str,
        members: Mapping[str, tuple[int, ActionSpec]],
        rules: Rules,
        teams: Mapping[str, tuple[str, ...]] | None = None,
    ):
        self.num_envs, self.device, self.rules = num_envs, torch.device(device), rules
        self.groups = {name: self._group(name, *member) for name, member in members.items()}
        self.teams = teams or {"team": tuple(members)}
        size = sum(g.size * g.action.encoded_size for g in self.groups.values())
        self.state_size = size if rules.state else None
        self.random = torch.Generator(self.device)
        self.closed = False
        self.reset(0)

    def _group(self, name: str, agents: int, action: ActionSpec) -> AgentGroup:
        rules = self.rules
        vector = TensorSpec((action.encoded_size,))
        spec = TensorSpec((PIXELS, PIXELS, 3), torch.uint8) if rules.images else vector
        names = tuple(f"{name}_{i}" for i in range(agents))
        return AgentGroup(name, names, spec, action, rules.masked, rules.death + rules.limit > 0)

    # ------------------------------------------------------------------------------- the contract

    def reset(self, seed: int) -> Observation:
        self.random.manual_seed(derive(seed, "game"))
        self.time = torch.zeros(self.num_envs, dtype=torch.int64)
        everyone = torch.ones(self.num_envs, dtype=torch.bool)
        self.now: dict[str, dict[str, Tensor]] = {}
        self._draw(everyone, everyone)
        return self._observe()

    def step(self, action: Mapping[str, Tensor]) -> Transition:
        alive = {name: now["alive"] for name, now in self.now.items()}
        reward = {name: self._reward(name, action[name]) * alive[name] for name in self.groups}
        dies = {name: a & (self._rand(a.shape) < self.rules.death) for name, a in alive.items()}
        for name, now in self.now.items():
            now["alive"] = alive[name] & ~dies[name]
        leaves = {n: self._leave(now["alive"]) for n, now in self.now.items()}
        stay = [now["alive"] & ~leaves[n] for n, now in self.now.items()]
        living = torch.cat(stay, dim=-1).any(-1)
        self.time = self.time + 1
        over = (self._rand((self.num_envs,)) < self.rules.end) | ~living
        cut = (self.time >= self.rules.length) & ~over
        done = over | cut
        ended = {n: dies[n] | (over.unsqueeze(-1) & alive[n]) for n in self.groups}
        terminated = {n: died & ~leaves[n] for n, died in ended.items()}
        truncated = {
            n: leaves[n] | (cut.unsqueeze(-1) & now["alive"]) for n, now in self.now.items()
        }
        info = {"length": self.time.float()}
        self._draw(torch.zeros_like(done) if self.rules.memory else ~done, torch.zeros_like(done))
        next_obs = self._observe()
        self.time = torch.where(done, 0, self.time)
        for name, now in self.now.items():
            now["alive"] = now["alive"] & ~leaves[name]
        self._draw(done, done)
        anyone = any(gone.any() for gone in leaves.values())
        obs = self._observe() if done.any() or anyone else next_obs
        return Transition(obs, next_obs, reward, terminated, truncated, done, info)

    def state_dict(self) -> dict[str, Any]:
        now = {name: dict(parts) for name, parts in self.now.items()}
        return {"random": self.random.get_state(), "time": self.time, "now": now}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.random.set_state(state["random"])
        self.time = state["time"].clone()
        self.now = {name: dict(parts) for name, parts in state["now"].items()}

    def render(self, index: int = 0) -> np.ndarray:
        return np.full((16, 16, 3), 20 * int(self.time[index]), dtype=np.uint8)

    def close(self) -> None:
        self.closed = True

    # ------------------------------------------------------------------------------------ the game

    def _rand(self, shape: Any) -> Tensor:
        return torch.rand(*shape, generator=self.random)

    def _leave(self, alive: Tensor) -> Tensor:
        """Who reaches a limit of its own; nothing is drawn where there is none."""
        if not self.rules.limit:
            return torch.zeros_like(alive)
        return alive & (self._rand(alive.shape) < self.rules.limit)

    def _draw(self, code_where: Tensor, life_where: Tensor) -> None:
        """New codes and masks in some copies, all agents alive again in others."""
        for name, group in self.groups.items():
            batch = (self.num_envs, group.size)
            code = uniform_action(
                group.action, uniform_noise(group.action, batch, self.random), None
            )
            fresh = {"code": code, "alive": torch.ones(batch, dtype=torch.bool)}
            if self.rules.masked:
                drawn = self._rand((*batch, group.action.mask_size)) < 0.5
                fresh["mask"] = drawn | group.action.encode(code).bool()
            old = self.now.get(name, fresh)
            self.now[name] = {
                key: _where(life_where if key == "alive" else code_where, new, old[key])
                for key, new in fresh.items()
            }

    def _reward(self, name: str, action: Tensor) -> Tensor:
        spec, code = self.groups[name].action, self.now[name]["code"]
        match spec:
            case Discrete():
                return (action == code).float()
            case MultiDiscrete():
                return (action == code).float().mean(-1)
            case Continuous():
                return -(action - code).abs().mean(-1)

    def _observe(self) -> Observation:
        groups = {name: self._seen(name) for name in self.groups}
        codes = [g.action.encode(self.now[n]["code"]).flatten(1) for n, g in self.groups.items()]
        return Observation(groups, torch.cat(codes, dim=-1) if self.rules.state else None)

    def _seen(self, name: str) -> GroupObservation:
        group, now = self.groups[name], self.now[name]
        obs = group.action.encode(now["code"])
        if self.rules.memory:
            obs = obs * (self.time == 0)[:, None, None]
        if self.rules.images:
            level = obs.argmax(-1) * 60 + 20
            obs = level[..., None, None, None].expand(-1, -1, PIXELS, PIXELS, 3).to(torch.uint8)
        if group.mortal:
            obs = obs * now["alive"].reshape(*now["alive"].shape, *[1] * (obs.dim() - 2))
        alive = now["alive"] if group.mortal else None
        return GroupObservation(obs.contiguous(), now.get("mask"), alive)


def _where(where: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(where.reshape(-1, *[1] * (new.dim() - 1)), new, old)
