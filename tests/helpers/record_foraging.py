"""Records episodes of lbforaging: ``python -m tests.helpers.record_foraging``, after ``pip install
lbforaging==2.0.0``. What was recorded is compared by ``tests/envs/test_foraging_parity.py``."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.helpers.foraging import BOARDS, EPISODES, STEPS, foods_of, forager, raw_env


def valid_actions(raw: Any) -> list[list[bool]]:
    chosen = [{action.value for action in raw._valid_actions[player]} for player in raw.players]
    return [[action in actions for action in range(6)] for actions in chosen]


def recorded(raw: Any, seed: int) -> dict[str, Any]:
    """One episode, filled with its last step up to ``STEPS`` steps."""
    random = np.random.default_rng(seed)
    for player in raw.players:
        player.position = None
    obs, _ = raw.reset(seed=seed)
    players = [[*player.position, player.level] for player in raw.players]
    foods = foods_of(raw.field)
    foods += [[0, 0, 0]] * (raw.max_num_food - len(foods))
    told: dict[str, list[Any]] = {"obs": [obs], "valid": [valid_actions(raw)]}
    told |= {"action": [], "reward": [], "gone": []}
    done = False
    while not done:
        action = forager(raw, random)
        obs, reward, done, _, _ = raw.step(tuple(action))
        step = (obs, valid_actions(raw), action, reward, not raw.field.any())
        for name, value in zip(told, step, strict=True):
            told[name].append(value)
    length = len(told["action"])
    for name, values in told.items():
        values += [values[-1]] * (STEPS + (name in ("obs", "valid")) - len(values))
    return {"players": players, "foods": foods, "length": length, **told}


def main() -> None:
    arrays = {}
    for board, (name, options) in BOARDS.items():
        raw = raw_env(name, options, STEPS)
        episodes = [recorded(raw, seed) for seed in range(4)]
        for key in episodes[0]:
            values = np.array([episode[key] for episode in episodes])
            kind = {"reward": np.float32, "valid": bool, "gone": bool}.get(key, np.int8)
            arrays[f"{board}.{key}"] = values.astype(kind)
    np.savez_compressed(EPISODES, **arrays)


if __name__ == "__main__":
    main()
