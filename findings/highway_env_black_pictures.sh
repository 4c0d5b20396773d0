#!/usr/bin/env bash
# highway-env 1.12.1 with pygame-ce 2.5.8: SDL's dummy driver, the usual one of machines without a display, gives black
# pictures and no error.
#
# Guess:  render_mode="rgb_array" needs no window, and SDL_VIDEODRIVER=dummy, which many recipes for machines without a
#         display set, changes nothing in an array of pixels.
# Seen:   the picture has the right shape and type, and every pixel is 0, at the first frame and after steps; a video of an
#         evaluation is black. With SDL_VIDEODRIVER=offscreen, or without the variable, roads and cars are drawn.
# Output: dummy      (150, 600, 3) uint8, brightest pixel 0
#         offscreen  (150, 600, 3) uint8, brightest pixel 255
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    highway-env==1.12.1 pygame-ce==2.5.8 gymnasium==1.4.0 numpy==2.4.6
cat > "$folder/draw.py" <<'PYTHON'
import os

import gymnasium
import highway_env  # noqa: F401  registers its ids

env = gymnasium.make("highway-v0", render_mode="rgb_array")
env.reset(seed=0)
first = env.render()
env.step(1)
brightest = max(first.max(), env.render().max())
driver = os.environ["SDL_VIDEODRIVER"]
print(f"{driver:10} {first.shape} {first.dtype}, brightest pixel {brightest}")
assert brightest == (0 if driver == "dummy" else 255)
PYTHON
for driver in dummy offscreen; do
    SDL_VIDEODRIVER=$driver PYGAME_HIDE_SUPPORT_PROMPT=1 "$folder/venv/bin/python" -W ignore "$folder/draw.py"
done
