"""Alice tells Bob a secret, enciphered with a key that both know and Eve, who listens, does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.particle.physics import Body
from marl.envs.particle.scenario import Outcome, Scenario, State

COLOURS = ((0.85, 0.65, 0.2), (0.55, 0.35, 0.7))  # of the secrets
SECRETS = 2  # of them one is the goal, and one the key; each a one-hot of four numbers


class Crypto(Scenario):
    """Nobody moves. Alice and Bob earn Eve's squared error less Bob's, Eve minus hers; who says
    nothing at all (continuous actions only) makes no error. Alice sees goal and key, Bob the key
    and what Alice said, Eve what she said."""

    agents = (
        Body("eve_0", collides=False, moves=False, talks=True, colour=(0.75, 0.25, 0.25)),
        Body("bob_0", collides=False, moves=False, talks=True, colour=(0.25, 0.65, 0.25)),
        Body("alice_0", collides=False, moves=False, talks=True, colour=(0.25, 0.25, 0.75)),
    )
    landmarks = tuple(
        Body(f"landmark_{i}", collides=False, moves=False, colour=COLOURS[i])
        for i in range(SECRETS)
    )
    channels = 4
    choices = (SECRETS, SECRETS)  # goal, key
    measures: ClassVar = {
        "bob_right": "mean",  # whether what he says is largest at the goal
        "eve_right": "mean",  # whether what she says is
    }

    def bind(self, device: torch.device, dtype: torch.dtype, legacy: bool) -> None:
        super().bind(device, dtype, legacy)
        self.secrets = torch.eye(self.channels, device=device, dtype=dtype)[:SECRETS]

    def observe(self, state: State) -> Sequence[Tensor]:
        goal_key = self.secrets[state.chosen]  # [B, 2, 4]
        said = state.message[:, 2:]
        bob = torch.cat([goal_key[:, 1:], said], dim=-1)
        return said, torch.cat([bob, goal_key.flatten(1).unsqueeze(1)], dim=1)

    def outcome(self, state: State) -> Outcome:
        goal, heard = self.secrets[state.chosen[:, :1]], state.message[:, :2]  # of Eve and Bob
        error = (heard - goal).square().sum(-1) * heard.any(-1)
        eve, bob = error.unbind(-1)
        right = heard.argmax(-1) == state.chosen[:, :1]
        both = bob - eve
        return Outcome(torch.stack([-eve, -both, -both], dim=-1), (right[:, 1], right[:, 0]))

    def goals(self, state: State) -> list[tuple[int, int]]:
        """The secret that Bob is to say."""
        return [(1, int(state.chosen[0]))]
