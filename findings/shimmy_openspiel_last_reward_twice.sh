#!/usr/bin/env bash
# Shimmy 2.0.1 with OpenSpiel 2.0.2: the last player's final reward is paid twice, so that zero-sum games are not.
#
# Guess:  what a player collects by last() over agent_iter() is its payoff in the game.
# Seen:   the first player collects its payoff, the second one twice its own, whether it won or lost and whoever moved
#         last: rewards are accumulated once more after the first player's terminal step, before the second's. A win of
#         player_1 is worth +2 against -1, its defeat -2 against +1: the sum of all payoffs, 0 by the rules, has the sign
#         of player_1's result, and an average over games of equal players hides it.
# Output: hex           collected over paid: player_0 {1.0}, player_1 {2.0}
#         connect_four  collected over paid: player_0 {1.0}, player_1 {2.0}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    shimmy==2.0.1 open-spiel==2.0.2 pettingzoo==1.27.0 gymnasium==1.4.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
from collections import Counter

import numpy as np
import pyspiel
from shimmy import OpenSpielCompatibilityV0


def ratios(name, seed):
    """What each player collects, over what OpenSpiel pays it; and who won."""
    env = OpenSpielCompatibilityV0(env=pyspiel.load_game(name))
    env.reset(seed=seed)
    random, collected = np.random.default_rng(seed), Counter()
    for player in env.agent_iter():
        _, reward, terminated, truncated, info = env.last()
        collected[player] += reward
        over = terminated or truncated
        env.step(None if over else int(random.choice(np.flatnonzero(info["action_mask"]))))
    state = env.unwrapped.game_state
    paid = state.returns()
    assert state.is_terminal() and sum(paid) == 0
    return [collected[p] / x for p, x in zip(env.possible_agents, paid)], int(np.argmax(paid))


for name in ("hex(board_size=3)", "connect_four"):
    games = [ratios(name, seed) for seed in range(40)]
    assert {winner for _, winner in games} == {0, 1}
    first, second = ({r[k] for r, _ in games} for k in (0, 1))
    print(f"{name.partition('(')[0]:13} collected over paid: player_0 {first}, player_1 {second}")
    assert (first, second) == ({1.0}, {2.0})
PYTHON
