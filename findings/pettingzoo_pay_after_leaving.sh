#!/usr/bin/env bash
# PettingZoo 1.27.0, parallel_to_aec: what a parallel environment pays an agent that has left is lost.
#
# Guess:  the conversion keeps returns: what an agent collects by `last()` is what the parallel environment paid it.
# Seen:   a team of two, of which one leaves in the first step and is paid its share of the team's success in the third.
#         The parallel environment pays both 1.0. By the converted environment's last() the one that left has 0.0: it is
#         removed after its terminal step, and later rewards of it are dropped without a word. A sacrifice for the team
#         looks worthless. (PettingZoo's parallel_api_test passes the environment; it warns of the reward.)
# Output: parallel {'scout': 1.0, 'guard': 1.0}
#         aec      {'scout': 0.0, 'guard': 1.0}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pettingzoo==1.27.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io
import warnings
from collections import Counter

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv
from pettingzoo.test import parallel_api_test
from pettingzoo.utils.conversions import parallel_to_aec


warnings.simplefilter("ignore")


class Relay(ParallelEnv):
    """The scout leaves in the first step; in the third both are paid."""

    metadata = {"name": "relay"}
    possible_agents = ["scout", "guard"]
    box, choice = spaces.Box(0, 3, (1,), np.float32), spaces.Discrete(2)

    def observation_space(self, agent):
        return self.box

    def action_space(self, agent):
        return self.choice

    def reset(self, seed=None, options=None):
        self.t, self.agents = 0, list(self.possible_agents)
        return self._see(self.agents), {a: {} for a in self.agents}

    def _see(self, agents):
        return {a: np.array([self.t], np.float32) for a in agents}

    def step(self, actions):
        self.t += 1
        acted, over = list(self.agents), self.t == 3
        paid = dict.fromkeys(self.possible_agents, 1.0 if over else 0.0)
        ended = {a: over or a == "scout" for a in acted}
        self.agents = [a for a in acted if not ended[a]]
        return self._see(acted), paid, ended, dict.fromkeys(acted, False), {a: {} for a in acted}


with contextlib.redirect_stdout(io.StringIO()):
    parallel_api_test(Relay(), num_cycles=20)

env, parallel = Relay(), Counter(scout=0.0, guard=0.0)
env.reset(seed=0)
while env.agents:
    parallel.update(env.step(dict.fromkeys(env.agents, 0))[1])

env, aec = parallel_to_aec(Relay()), Counter(scout=0.0, guard=0.0)
env.reset(seed=0)
for agent in env.agent_iter():
    _, reward, terminated, truncated, _ = env.last()
    aec[agent] += float(reward)
    env.step(None if terminated or truncated else 0)

print("parallel", dict(parallel))
print("aec     ", dict(aec))
assert parallel == {"scout": 1.0, "guard": 1.0}
assert aec == {"scout": 0.0, "guard": 1.0}, "the converted environment now pays, or fails"
PYTHON
