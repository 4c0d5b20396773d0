"""``mpe/simple_crypto``: Alice sends Bob a secret, enciphered with a key that Eve does not know.

- **Task**: Alice says what encodes the goal, one of two secrets; Bob, who knows the key too, has to
  say the goal, and so has Eve, who listens. Nobody moves.
- **Agents**: ``eve_0`` against ``bob_0`` and ``alice_0``.
- **Observation** of Eve, ``[4]``: 0 to 3 Alice's last message. Of Bob, ``[8]``: 0 to 3 the key, 4
  to 7 Alice's last message. Of Alice, ``[8]``: 0 to 3 the goal, 4 to 7 the key. Goal and key are
  one-hot.
- **Actions**: a message of four channels, Discrete(4), or a vector in [0, 1] with
  ``continuous_actions``.
- **Reward**: Bob and Alice, shared, Eve's squared error less Bob's; Eve minus hers. An agent that
  says nothing at all (continuous actions only) makes no error.

Source: Lowe et al. 2017 (covert communication); mpe2's ``simple_crypto_v3``; no differences but
those of all particle worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from marl.envs.particle.physics import Body
from marl.envs.particle.scenario import Outcome, Scenario, State

COLOURS = ((0.85, 0.65, 0.2), (0.55, 0.35, 0.7))  # of the secrets
SECRETS = 2  # one-hot vectors of four numbers, from which goal and key are drawn


class Crypto(Scenario):
    """Covert communication; the module describes it."""

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
        "bob_right": "mean",  # whether his message is largest at the goal
        "eve_right": "mean",  # whether her message is
    }

    def bind(self, device: torch.device, dtype: torch.dtype, legacy: bool) -> None:
        super().bind(device, dtype, legacy)
        self.secrets = torch.eye(self.channels, device=device, dtype=dtype)[:SECRETS]

    def observe(self, state: State) -> Sequence[Tensor]:
        goal_key = self.secrets[state.chosen]  # [B, 2, 4]
        message = state.message[:, 2:]
        bob = torch.cat([goal_key[:, 1:], message], dim=-1)
        return message, torch.cat([bob, goal_key.flatten(1).unsqueeze(1)], dim=1)

    def outcome(self, state: State) -> Outcome:
        goal, guess = self.secrets[state.chosen[:, :1]], state.message[:, :2]  # of Eve and Bob
        error = (guess - goal).square().sum(-1) * guess.any(-1)
        eve, bob = error.unbind(-1)
        right = guess.argmax(-1) == state.chosen[:, :1]
        difference = bob - eve
        rewards = torch.stack([-eve, -difference, -difference], dim=-1)
        return Outcome(rewards, (right[:, 1], right[:, 0]))

    def goals(self, state: State) -> list[tuple[int, int]]:
        """Returns Bob and the secret that he has to say."""
        return [(1, int(state.chosen[0]))]
