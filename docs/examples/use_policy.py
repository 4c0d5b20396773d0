"""Plays one episode of PettingZoo's simple_spread with a policy that marl has trained.

marl train task=mpe/simple_spread algorithm=mappo directory=runs/spread
python docs/examples/use_policy.py runs/spread
"""

import sys

from mpe2 import simple_spread_v3

import marl

policy = marl.load_policy(sys.argv[1])  # the best checkpoint; it needs no environment
env = simple_spread_v3.parallel_env(max_cycles=25)
observations, _ = env.reset(seed=0)
total = 0.0
while env.agents:
    actions = policy(observations)  # agent -> action
    observations, rewards, *_ = env.step(actions)
    total += sum(rewards.values()) / len(rewards)
env.close()
print(f"return {total:.2f}")
