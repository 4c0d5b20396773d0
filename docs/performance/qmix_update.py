"""Time of one gradient step of recurrent QMIX, as in ``epymarl_qmix_update.py``.

32 sequences of 25 transitions of 3 agents with 18 observations and 5 actions (simple_spread), a GRU
of 64 units, the authors' mixing network.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from marl.algorithms.registry import ALGORITHMS
from marl.envs.particle.tasks import make
from marl.learning.replay import Replay
from marl.networks.perceptron import Perceptron
from marl.training.build import build_teams
from marl.training.collector import Collector
from marl.training.teams import RunShape, Team, resolve_teams


def learner(name: str, agents: int, **options: Any) -> Any:
    """Returns a learner whose replay holds 64 episodes of each of 32 environments."""
    env = make("mpe/simple_spread", 32, N=agents)
    config = ALGORITHMS[name](batch_size=800, sequence_length=25, **options)
    model = Perceptron([64], activation="relu", gru=64, agent_id=True)
    teams = resolve_teams(env, {}, Team(None, config, model, model))
    replay = Replay(51_200, 32, torch.device("cpu"))
    built: Any = build_teams(env, teams, RunShape(32, 1600, 1), 0, replay)
    collector = Collector(env, built, 1600, 0, torch.Generator().manual_seed(0))
    replay.append(collector.collect()[0])
    return built["team"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mixer", choices=("qmix", "vdn", "none"), default="qmix")
    parser.add_argument("--agents", type=int, default=3)
    parser.add_argument("--updates", type=int, default=30, help="of each of 7 blocks")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    name = "iql" if arguments.mixer == "none" else arguments.mixer
    team = learner(name, arguments.agents, compile=arguments.compile)

    def block(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            team.update_utilities(team.next_batch())
            team.update_targets()
        return (time.perf_counter() - begin) / count * 1000

    block(5)
    times = [block(arguments.updates) for _ in range(7)]
    print(f"marl {name}: {statistics.median(times):.1f} ms per update (min {min(times):.1f})")


if __name__ == "__main__":
    main()
