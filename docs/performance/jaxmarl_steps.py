"""Steps a second of JaxMARL's simple_spread, N = 3, under random actions, compiled.

    DIR/bin/python docs/performance/jaxmarl_steps.py [ENVIRONMENTS] [SECONDS]

in an environment of its own: python -m venv DIR && DIR/bin/pip install jaxmarl
"""

from __future__ import annotations

import sys
import time
from importlib.metadata import version

import jax  # pyright: ignore[reportMissingImports]
import jaxmarl  # pyright: ignore[reportMissingImports]

copies = int(sys.argv[1]) if len(sys.argv) > 1 else 1024
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 5.0
length = 100  # steps of one compiled scan
env = jaxmarl.make("MPE_simple_spread_v3")


def one_step(carry, _):
    state, key = carry
    key, choose, move = jax.random.split(key, 3)
    choices = jax.random.randint(choose, (len(env.agents), copies), 0, 5)
    action = dict(zip(env.agents, choices, strict=True))
    obs, state, reward, _, _ = jax.vmap(env.step)(jax.random.split(move, copies), state, action)
    kept = sum(x.sum() for x in obs.values()) + sum(x.sum() for x in reward.values())
    return (state, key), kept  # so that nothing is compiled away


@jax.jit
def run(state, key):
    return jax.lax.scan(one_step, (state, key), None, length)


key = jax.random.key(0)
_, state = jax.vmap(env.reset)(jax.random.split(key, copies))
(state, key), kept = jax.block_until_ready(run(state, key))
rounds, began = 0, time.perf_counter()
while time.perf_counter() - began < seconds:
    (state, key), kept = jax.block_until_ready(run(state, key))
    rounds += 1
rate = rounds * length * copies / (time.perf_counter() - began)
print(f"JaxMARL {version('jaxmarl')} (jax {jax.__version__}) simple_spread, {copies} environments: "
      f"{rate:,.0f} steps/s")  # fmt: skip
