"""Collectors fetch treasures and bring them to the deposit of their kind."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from marl.envs.checks import check_count
from marl.envs.particle.physics import Body, Colour, distances
from marl.envs.particle.scenario import Outcome, Scenario, State, nearest, ways

GONE = -999.0  # metres: where a treasure is between being taken and appearing anew
NOTHING = -1  # in the hands of a collector
RANGE = 0.95  # metres from the middle within which treasures appear


class Goods(NamedTuple):
    """What ``State.chosen`` holds, in this order."""

    kind: Tensor  # [B, T] of the treasures
    there: Tensor  # [B, T] 1 where one lies, 0 where it was taken
    held: Tensor  # [B, C] the kind in each collector's hands, or NOTHING
    events: Tensor  # [B, 1] taken and delivered in the last step


class CollectTreasure(Scenario):
    """Everyone earns 5 for each treasure taken and for each delivered (after MAAC, Iqbal & Sha
    2019). Collectors lose 5 for each other collector they overlap, and a tenth of the distance to
    the nearest treasure or, laden, to its deposit; deposits a tenth of that to the nearest
    collector with their kind, or to the middle of all. Nobody pushes anyone. Others and treasures
    are seen from the nearest on; a treasure taken appears anew elsewhere a step later."""

    landmark_range = RANGE
    measures: ClassVar = {
        "events": "sum",  # treasures taken and delivered
        "overlaps": "sum",  # steps of each pair of collectors that overlap
    }

    def __init__(
        self, num_collectors: int = 6, num_deposits: int = 2, num_treasures: int = 6
    ) -> None:
        check_count("num_collectors", num_collectors)
        check_count("num_deposits", num_deposits)
        check_count("num_treasures", num_treasures)
        self.collectors, self.kinds, self.treasures = num_collectors, num_deposits, num_treasures
        common = {"collides": False, "accel": 1.5, "max_speed": 1.0}
        pale, brown, gold = (0.85, 0.85, 0.85), (0.45, 0.3, 0.2), (0.9, 0.75, 0.2)
        self.agents = [
            *(Body(f"collector_{i}", 0.05, colour=pale, **common) for i in range(num_collectors)),
            *(Body(f"deposit_{i}", 0.075, mass=2.25, colour=brown, **common)
              for i in range(num_deposits)),
        ]  # fmt: skip
        self.landmarks = [
            Body(f"treasure_{i}", 0.025, collides=False, moves=False, colour=gold)
            for i in range(num_treasures)
        ]
        self.choices = (num_deposits,) * num_treasures
        self.event_noise = 3 * num_treasures
        agents = num_collectors + num_deposits
        self._parts = [num_treasures, num_treasures, num_collectors, 1]  # of State.chosen
        self._team = slice(0, num_collectors)
        self._deposits = slice(num_collectors, agents)
        self._lying = slice(agents, agents + num_treasures)

    def goods(self, state: State) -> Goods:
        return Goods(*state.chosen.split(self._parts, dim=-1))

    def start(self, noise: Tensor) -> State:
        state = super().start(noise)
        kind = state.chosen
        held = kind.new_full((len(kind), self.collectors), NOTHING)
        goods = Goods(kind, torch.ones_like(kind), held, torch.zeros_like(held[:, :1]))
        return replace(state, chosen=torch.cat(goods, dim=1))

    def happen(self, state: State, noise: Tensor) -> State:
        """Takes, deliveries and new treasures."""
        kind, there, held, _ = self.goods(state)
        agents, treasures = self.places(state)
        place = noise.unflatten(1, (self.treasures, 3))
        renewed = there == 0
        reached = (
            self.physics.touching(state.position, self._lying, self._team) & ~renewed[..., None]
        )
        held, taken = self._take(kind, held, reached)
        kind = torch.where(renewed, (place[..., 2] * self.kinds).long(), kind)
        anew = (place[..., :2] * 2 - 1) * RANGE
        treasures = torch.where(renewed.unsqueeze(-1), anew, treasures)
        treasures = torch.where(taken.unsqueeze(-1), GONE, treasures)
        at = self.physics.touching(state.position, self._team, self._deposits)  # [B, C, kinds]
        delivered = (held != NOTHING) & at.gather(2, held.clamp(min=0)[..., None]).squeeze(-1)
        held = torch.where(delivered, NOTHING, held)
        events = (taken.sum(1) + delivered.sum(1)).unsqueeze(-1)
        goods = Goods(kind, (~taken).long(), held, events)
        position = torch.cat([agents, treasures], dim=1)
        return replace(state, position=position, chosen=torch.cat(goods, dim=1))

    def _take(self, kind: Tensor, held: Tensor, reached: Tensor) -> tuple[Tensor, Tensor]:
        """One treasure after the other goes to the first empty-handed collector that has ``reached
        [B, T, C]`` it: what is held then, and which are taken ``[B, T]``."""
        taken = []
        for treasure in range(self.treasures):
            able = reached[:, treasure] & (held == NOTHING)
            first = able & (able.cumsum(1) == 1)
            held = torch.where(first, kind[:, treasure, None], held)
            taken.append(able.any(1))
        return held, torch.stack(taken, dim=1)

    def observe(self, state: State) -> Sequence[Tensor]:
        agents, treasures = self.places(state)
        kind, there, held, _ = self.goods(state)
        n, batch = self.collectors, len(agents)
        holding = self._one_hot(held, agents)  # [B, C, kinds]
        own_kind = torch.eye(self.kinds, device=agents.device, dtype=agents.dtype)
        own_kind = own_kind.expand(batch, -1, -1)
        zeros = torch.zeros_like(holding)
        codes = torch.cat(
            [torch.cat([zeros, holding], -1),
             torch.cat([own_kind, torch.zeros_like(own_kind)], -1)], dim=1
        )  # fmt: skip  # [B, N, 2 kinds]
        to_others = self.to_others(agents)
        others = torch.cat([to_others, state.velocity[:, self.rest], codes[:, self.rest]], dim=-1)
        others = nearest(others, to_others.square().sum(-1), others.shape[2]).flatten(2)
        to_treasures = ways(agents, treasures)
        lies = there.to(agents)[:, None, :, None]
        kinds = self._one_hot(kind, agents).unsqueeze(1).expand(-1, len(self.agents), -1, -1)
        away = to_treasures.square().sum(-1).masked_fill(there.unsqueeze(1) == 0, torch.inf)
        things = torch.cat([to_treasures * lies, kinds * lies], dim=-1)
        things = nearest(things, away, self.treasures).flatten(2)
        own, seen = torch.cat([agents, state.velocity], dim=-1), torch.cat([others, things], -1)
        return (
            torch.cat([own[:, :n], holding, seen[:, :n]], dim=-1),
            torch.cat([own[:, n:], seen[:, n:]], dim=-1),
        )

    def outcome(self, state: State) -> Outcome:
        agents, treasures = self.places(state)
        _, there, held, events = self.goods(state)
        collectors, deposits = agents[:, self._team], agents[:, self._deposits]
        overlaps = self.physics.touching(state.position, self._team, self._team).sum(-1) - 1
        to_treasure = distances(collectors, treasures).masked_fill(
            ~there.bool()[:, None], torch.inf
        )
        nearest = torch.where(there.any(1, keepdim=True), to_treasure.amin(-1), 0.0)
        between = distances(collectors, deposits)  # [B, C, kinds]
        home = between.gather(2, held.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        collector = -5 * overlaps - 0.1 * torch.where(held == NOTHING, nearest, home)
        laden = held.unsqueeze(-1) == torch.arange(self.kinds, device=held.device)
        bringer = between.masked_fill(~laden, torch.inf).amin(1)  # [B, kinds]
        middle = (collectors.mean(1, keepdim=True) - deposits).square().sum(-1).sqrt()
        deposit = -0.1 * torch.where(laden.any(1), bringer, middle)
        reward = torch.cat([collector, deposit], dim=-1) + 5 * events
        return Outcome(reward, (events.squeeze(-1), overlaps.sum(-1) / 2))

    def _one_hot(self, kind: Tensor, like: Tensor) -> Tensor:
        """All zeros for NOTHING."""
        return F.one_hot(kind + 1, self.kinds + 1)[..., 1:].to(like)

    def looks(self, state: State) -> list[Colour]:
        """Treasures and deposits by their kind, collectors by that of what they hold."""
        kind, _, held, _ = (part.tolist() for part in self.goods(state))
        of_kind = [colorsys.hsv_to_rgb(k / self.kinds, 0.75, 0.85) for k in range(self.kinds)]
        empty = self.agents[0].colour
        hands = [empty if k == NOTHING else of_kind[k] for k in held]
        return [*hands, *of_kind, *(of_kind[k] for k in kind)]
