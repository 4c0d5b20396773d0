#!/usr/bin/env bash
# lbforaging 2.0.0: a board that is not square cannot be reset, though its size is given as (rows, columns).
#
# Guess:  ForagingEnv takes field_size=(rows, columns), so a board of 5 rows by 9 columns is as good as one of 5 by 5.
# Seen:   its observation space bounds rows by the number of columns and columns by the number of rows. Every reset checks
#         its observation against that space, so it fails with an AssertionError wherever something lies in a column
#         beyond the number of rows: 19 of 20 boards. The ids (Foraging-8x8-2p-2f-v3) name square boards only, where
#         nobody notices.
# Output: largest row, column and level of a food: [4, 4, 4] on 5 x 5, [8, 4, 4] on 5 x 9
#         resets that succeed: 20 of 20 on 5 x 5, 1 of 20 on 5 x 9
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check lbforaging==2.0.0 gymnasium==1.4.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
from lbforaging.foraging import ForagingEnv

bounds, resets = {}, {}
for size in ((5, 5), (5, 9)):
    resets[size] = 0
    for seed in range(20):
        env = ForagingEnv(
            players=2, min_player_level=1, max_player_level=2, min_food_level=1, max_food_level=None,
            field_size=size, max_num_food=2, sight=9, max_episode_steps=50, force_coop=False,
        )
        bounds[size] = [int(x) for x in env.observation_space[0].high[:3]]
        try:
            env.reset(seed=seed)
            resets[size] += 1
        except AssertionError as error:
            assert "obs space error" in str(error), error

square, oblong = bounds
print(f"largest row, column and level of a food: {bounds[square]} on 5 x 5, {bounds[oblong]} on 5 x 9")
print(f"resets that succeed: {resets[square]} of 20 on 5 x 5, {resets[oblong]} of 20 on 5 x 9")
assert bounds[square] == [4, 4, 4] and bounds[oblong] == [8, 4, 4]
assert resets[square] == 20 and resets[oblong] == 1
PYTHON
