#!/usr/bin/env bash
# Shimmy 2.0.1 with OpenSpiel 2.0.2: games in which cards are dealt are cut off in the middle.
#
# Guess:  an OpenSpiel game behind Shimmy's PettingZoo interface is played to its end; truncation is for games without one.
# Seen:   Shimmy counts every node of the game, the deals of chance among them, and truncates all players once the count
#         exceeds max_game_length() - which OpenSpiel gives for the players' moves alone. Kuhn poker (3 moves, 2 deals) is
#         truncated after its first move in every episode, and pays everybody 0; so are tiny_hanabi and sealed auctions; of
#         leduc poker's random games one in six. A learner sees a game in which nothing is ever won. Games without
#         chance (tic_tac_toe) are whole.
# Output: kuhn_poker 50 of 50 cut short, largest payoff 0.0
#         tiny_hanabi 50 of 50 cut short, largest payoff 0.0
#         leduc_poker some of 50 cut short
#         tic_tac_toe 0 of 50 cut short, largest payoff 1.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    shimmy==2.0.1 open-spiel==2.0.2 pettingzoo==1.27.0 gymnasium==1.4.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import pyspiel
from shimmy import OpenSpielCompatibilityV0


def play(name, seed):
    """Whether the game was truncated before its end, and its largest payoff by OpenSpiel."""
    env = OpenSpielCompatibilityV0(env=pyspiel.load_game(name))
    env.reset(seed=seed)
    random, cut = np.random.default_rng(seed), False
    for _ in env.agent_iter():
        *_, terminated, truncated, info = env.last()
        cut = cut or truncated and not terminated
        over = terminated or truncated
        env.step(None if over else int(random.choice(np.flatnonzero(info["action_mask"]))))
    state = env.unwrapped.game_state
    assert state.is_terminal() != cut
    return cut, max(map(abs, state.returns()))


def games(name):
    cuts, payoffs = zip(*(play(name, seed) for seed in range(50)))
    return sum(cuts), max(payoffs)


for name in ("kuhn_poker", "tiny_hanabi"):
    cut, payoff = games(name)
    print(f"{name} {cut} of 50 cut short, largest payoff {payoff}")
    assert (cut, payoff) == (50, 0.0)
cut, _ = games("leduc_poker")
print(f"leduc_poker {cut} of 50 cut short")
assert 0 < cut < 50
cut, payoff = games("tic_tac_toe")
print(f"tic_tac_toe {cut} of 50 cut short, largest payoff {payoff}")
assert (cut, payoff) == (0, 1.0)
PYTHON
