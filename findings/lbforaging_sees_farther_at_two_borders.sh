#!/usr/bin/env bash
# lbforaging 2.0.0: with a sight of 2, who stands at the upper or left border sees players 4 cells away.
#
# Guess:  "2s" tasks (sight 2) show each player what lies within 2 cells of it: a square that the border cuts off.
# Seen:   that holds for food everywhere, and for players in the middle and at the lower and right borders. At the upper
#         and left borders other players are shown up to 4 cells away: where the square is cut off its origin moves to
#         the border, but the test "at most 2 * sight from the origin" does not shrink. A policy trained there knows
#         more of its partners in two of four borders, and a re-implementation by the rule alone plays another game.
# Output: farthest food seen: in the middle 2, at the upper or left border 2, at the lower or right border 2
#         farthest player seen: in the middle 2, at the upper or left border 4, at the lower or right border 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check lbforaging==2.0.0 gymnasium==1.4.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import gymnasium
import lbforaging  # noqa: F401  registers its ids

SIZE, SIGHT, PLAYERS, FOODS = 10, 2, 3, 3
env = gymnasium.make(f"Foraging-2s-{SIZE}x{SIZE}-{PLAYERS}p-{FOODS}f-v3")
farthest = {"food": {}, "player": {}}


def place(row, column):
    """Returns where a player stands; None in the corners between two kinds of border."""
    first, last = min(row, column) < SIGHT, max(row, column) >= SIZE - SIGHT
    return None if first and last else "upper or left" if first else "lower or right" if last else "middle"


def note(what, where, distance):
    farthest[what][where] = max(farthest[what].get(where, 0), distance)


for seed in range(4000):
    observations, _ = env.reset(seed=seed)
    for me, seen in zip(env.unwrapped.players, observations):
        row, column = map(int, me.position)
        where = place(row, column)
        if where is None:
            continue
        origin = (min(SIGHT, row), min(SIGHT, column))  # of the player itself, in its own square
        for kind, start, count, width in (("food", 0, FOODS, 3), ("player", 3 * FOODS, PLAYERS, 3)):
            for k in range(count):
                y, x = (int(n) for n in seen[start + width * k : start + width * k + 2])
                if y >= 0:
                    note(kind, where, max(abs(y - origin[0]), abs(x - origin[1])))

for kind in ("food", "player"):
    row = farthest[kind]
    print(
        f"farthest {kind} seen: in the middle {row['middle']}, at the upper or left border "
        f"{row['upper or left']}, at the lower or right border {row['lower or right']}"
    )
assert set(farthest["food"].values()) == {SIGHT}
assert farthest["player"] == {"middle": SIGHT, "upper or left": 2 * SIGHT, "lower or right": SIGHT}
PYTHON
