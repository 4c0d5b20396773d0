"""Steps a second of mpe2's simple_spread in one process, under random actions.

.venv/bin/python docs/performance/mpe2_steps.py [SECONDS]
"""

from __future__ import annotations

import sys
import time

import numpy as np
from mpe2 import simple_spread_v3

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
env = simple_spread_v3.parallel_env(N=3)
env.reset(seed=0)
choices = np.random.default_rng(0).integers(0, 5, (1000, 3))
steps, began = 0, time.perf_counter()
while time.perf_counter() - began < seconds:
    env.step(dict(zip(env.agents, choices[steps % 1000], strict=True)))
    steps += 1
    if not env.agents:
        env.reset()
print(f"mpe2 simple_spread, N=3: {steps / (time.perf_counter() - began):,.0f} steps/s")
