"""``mpe/collect_treasure``: collectors fetch treasures and bring them to the deposit of their kind.

- **Task**: C collectors carry one treasure each, of D kinds; each of D deposits takes one kind. A
  treasure that was taken appears again elsewhere a step later. Nobody pushes anyone.
- **Agents**: ``collector_0`` to ``collector_{C-1}``, ``deposit_0`` to ``deposit_{D-1}``.
- **Observation** of a collector: 0 and 1 position, 2 and 3 velocity, D numbers the kind that it
  holds, one-hot; then for each of the C + D - 1 others, nearest first, offset (2), velocity (2),
  the kind of a deposit (D) and the kind that a collector holds (D); then for each of T treasures,
  nearest first, offset (2) and kind (D), zeros where it was taken. Of a deposit the same without
  what it holds. For C=6, D=2, T=6 ``[86]`` and ``[84]``.
- **Actions**: the five moves (``marl.envs.particle.env``), with 1.5 newtons.
- **Reward**: 5 for all for each treasure taken and each delivered. A collector loses 5 for each
  other collector that it overlaps, and a tenth of the distance to the nearest treasure or, with one
  in its hands, to the deposit. A deposit loses a tenth of the distance to the nearest collector
  with its kind, or else to the mean position of the collectors.

Source: mpe2's ``collect_treasure_v1``, after MAAC (Iqbal & Sha 2019); no differences but those of
all particle worlds.
"""

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
from marl.envs.particle.scenario import Outcome, Scenario, State, nearest, offsets

GONE = -999.0  # metres: position of a treasure between being taken and appearing again
NOTHING = -1  # kind of what a collector with empty hands holds
RANGE = 0.95  # metres from the middle within which treasures appear


class Goods(NamedTuple):
    """Content of ``State.chosen``, in this order.

    Attributes:
        kind: of each treasure, ``[B, T]``.
        present: 1 where a treasure lies, 0 where it was taken, ``[B, T]``.
        cargo: the kind in each collector's hands, or NOTHING, ``[B, C]``.
        events: treasures taken and delivered in the last step, ``[B, 1]``.
    """

    kind: Tensor
    present: Tensor
    cargo: Tensor
    events: Tensor


class CollectTreasure(Scenario):
    """Collectors, deposits and treasures; the module describes them.

    Args:
        num_collectors: C.
        num_deposits: D, the number of deposits and of kinds.
        num_treasures: T.

    Raises:
        UserError: a number below 1.
    """

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
        self._treasures = slice(agents, agents + num_treasures)

    def goods(self, state: State) -> Goods:
        """Returns the parts of ``State.chosen``."""
        return Goods(*state.chosen.split(self._parts, dim=-1))

    def start(self, noise: Tensor) -> State:
        state = super().start(noise)
        kind = state.chosen
        cargo = kind.new_full((len(kind), self.collectors), NOTHING)
        goods = Goods(kind, torch.ones_like(kind), cargo, torch.zeros_like(cargo[:, :1]))
        return replace(state, chosen=torch.cat(goods, dim=1))

    def apply_events(self, state: State, noise: Tensor) -> State:
        """Returns the state after treasures were taken, delivered and placed again."""
        kind, present, cargo, _ = self.goods(state)
        agents, treasures = self.places(state)
        noise = noise.unflatten(1, (self.treasures, 3))
        absent = present == 0
        touch = self.physics.touching(state.position, self._treasures, self._team)
        cargo, taken = self._take(kind, cargo, touch & ~absent[..., None])
        kind = torch.where(absent, (noise[..., 2] * self.kinds).long(), kind)
        new_place = (noise[..., :2] * 2 - 1) * RANGE
        treasures = torch.where(absent.unsqueeze(-1), new_place, treasures)
        treasures = torch.where(taken.unsqueeze(-1), GONE, treasures)
        at_deposit = self.physics.touching(state.position, self._team, self._deposits)
        at_own = at_deposit.gather(2, cargo.clamp(min=0)[..., None]).squeeze(-1)  # [B, C]
        delivered = (cargo != NOTHING) & at_own
        cargo = torch.where(delivered, NOTHING, cargo)
        events = (taken.sum(1) + delivered.sum(1)).unsqueeze(-1)
        goods = Goods(kind, (~taken).long(), cargo, events)
        position = torch.cat([agents, treasures], dim=1)
        return replace(state, position=position, chosen=torch.cat(goods, dim=1))

    def _take(self, kind: Tensor, cargo: Tensor, reached: Tensor) -> tuple[Tensor, Tensor]:
        """Gives one treasure after the other to the first empty-handed collector that has reached
        it.

        Args:
            kind: of each treasure, ``[B, T]``.
            cargo: the kind in each collector's hands, ``[B, C]``.
            reached: which collectors are at which treasure, ``[B, T, C]`` bool.

        Returns:
            The kinds in the collectors' hands then, and which treasures are taken, ``[B, T]`` bool.
        """
        taken = []
        for treasure in range(self.treasures):
            candidates = reached[:, treasure] & (cargo == NOTHING)
            first = candidates & (candidates.cumsum(1) == 1)
            cargo = torch.where(first, kind[:, treasure, None], cargo)
            taken.append(candidates.any(1))
        return cargo, torch.stack(taken, dim=1)

    def observe(self, state: State) -> Sequence[Tensor]:
        agents, _ = self.places(state)
        n = self.collectors
        holding = self._one_hot(self.goods(state).cargo, agents)  # [B, C, kinds]
        own = torch.cat([agents, state.velocity], dim=-1)
        others = torch.cat([self._others(state, holding), self._nearest_treasures(state)], dim=-1)
        return (
            torch.cat([own[:, :n], holding, others[:, :n]], dim=-1),
            torch.cat([own[:, n:], others[:, n:]], dim=-1),
        )

    def _others(self, state: State, holding: Tensor) -> Tensor:
        """Returns all others of each agent, nearest first: offset, velocity and codes of a
        deposit's kind and of the kind that a collector holds, ``[B, N, (N - 1) * (4 + 2
        kinds)]``."""
        agents, _ = self.places(state)
        kinds = torch.eye(self.kinds, device=agents.device, dtype=agents.dtype)
        kinds = kinds.expand(len(agents), -1, -1)
        codes = torch.cat(
            [torch.cat([torch.zeros_like(holding), holding], -1),
             torch.cat([kinds, torch.zeros_like(kinds)], -1)], dim=1
        )  # fmt: skip  # [B, N, 2 kinds]
        to_others, index = self.to_others(agents), self.other_index
        features = torch.cat([to_others, state.velocity[:, index], codes[:, index]], dim=-1)
        return nearest(features, to_others.square().sum(-1), features.shape[2]).flatten(2)

    def _nearest_treasures(self, state: State) -> Tensor:
        """Returns all treasures, nearest first: offset and kind, zeros of those that were taken,
        ``[B, N, T * (2 + kinds)]``."""
        agents, treasures = self.places(state)
        kind, present, _, _ = self.goods(state)
        to_treasures = offsets(agents, treasures)
        mask = present.to(agents)[:, None, :, None]
        kinds = self._one_hot(kind, agents).unsqueeze(1).expand(-1, len(self.agents), -1, -1)
        distance = to_treasures.square().sum(-1)
        distance = distance.masked_fill(present.unsqueeze(1) == 0, torch.inf)
        features = torch.cat([to_treasures * mask, kinds * mask], dim=-1)
        return nearest(features, distance, self.treasures).flatten(2)

    def outcome(self, state: State) -> Outcome:
        agents, treasures = self.places(state)
        _, present, cargo, events = self.goods(state)
        collectors, deposits = agents[:, self._team], agents[:, self._deposits]
        overlaps = self.physics.touching(state.position, self._team, self._team).sum(-1) - 1
        to_treasure = distances(collectors, treasures).masked_fill(
            ~present.bool()[:, None], torch.inf
        )
        to_nearest = torch.where(present.any(1, keepdim=True), to_treasure.amin(-1), 0.0)
        to_deposit = distances(collectors, deposits)  # [B, C, kinds]
        to_own = to_deposit.gather(2, cargo.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        collector = -5 * overlaps - 0.1 * torch.where(cargo == NOTHING, to_nearest, to_own)
        holds = cargo.unsqueeze(-1) == torch.arange(self.kinds, device=cargo.device)
        to_holder = to_deposit.masked_fill(~holds, torch.inf).amin(1)  # [B, kinds]
        to_mean = (collectors.mean(1, keepdim=True) - deposits).square().sum(-1).sqrt()
        deposit = -0.1 * torch.where(holds.any(1), to_holder, to_mean)
        reward = torch.cat([collector, deposit], dim=-1) + 5 * events
        return Outcome(reward, (events.squeeze(-1), overlaps.sum(-1) / 2))

    def _one_hot(self, kind: Tensor, like: Tensor) -> Tensor:
        """Returns kinds as one-hot vectors of the type of ``like``, zeros for NOTHING."""
        return F.one_hot(kind + 1, self.kinds + 1)[..., 1:].to(like)

    def entity_colours(self, state: State) -> list[Colour]:
        """Returns the colours of treasures and deposits by kind, of collectors by what they
        hold."""
        kind, _, cargo, _ = (part.tolist() for part in self.goods(state))
        of_kind = [colorsys.hsv_to_rgb(k / self.kinds, 0.75, 0.85) for k in range(self.kinds)]
        empty = self.agents[0].colour
        hands = [empty if k == NOTHING else of_kind[k] for k in cargo]
        return [*hands, *of_kind, *(of_kind[k] for k in kind)]
