"""Milliseconds of one update of EPyMARL's recurrent Q-learner, on random episodes, one thread.

DIR/bin/python docs/performance/epymarl_qmix_update.py EPYMARL [--mixer qmix|vdn|none] [...]

EPYMARL is a checkout of uoe-agents/epymarl, read from where it lies; DIR is an environment with
torch, numpy and PyYAML. The sizes are those of simple_spread with three agents: a GRU of 64 units,
QMIX's embedding of 32 and hypernetworks of 64, 32 episodes of 25 transitions. `learn` is the
learner alone; `sample + learn` draws its episodes from a full replay first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import yaml


class Quiet:
    """Stands in for EPyMARL's logger; the learner reports to it."""

    def log_stat(self, name: str, value: float, step: int) -> None: ...


def settings(root: Path, options: argparse.Namespace) -> SimpleNamespace:
    """Returns EPyMARL's own settings of QMIX, with a GRU, the last action and the sizes asked."""
    values: dict[str, Any] = {}
    for name in ("default.yaml", "algs/qmix.yaml"):
        values |= yaml.safe_load((root / "src/config" / name).read_text())
    return SimpleNamespace(
        **values
        | {
            "mixer": None if options.mixer == "none" else options.mixer,
            "use_rnn": True,
            "obs_last_action": True,
            "use_cuda": False,
            "n_agents": options.agents,
            "n_actions": options.actions,
            "state_shape": options.agents * options.observation,
            "learner_log_interval": 10**9,
        }
    )


def schemes(args: SimpleNamespace, observation: int) -> dict[str, dict[str, Any]]:
    """Returns the fields of a replay, as EPyMARL's runner declares them."""
    return {
        "state": {"vshape": args.state_shape},
        "obs": {"vshape": observation, "group": "agents"},
        "actions": {"vshape": (1,), "group": "agents", "dtype": torch.long},
        "avail_actions": {"vshape": (args.n_actions,), "group": "agents", "dtype": torch.int},
        "terminated": {"vshape": (1,), "dtype": torch.uint8},
        "reward": {"vshape": (1,)},
    }


def episodes(count: int, steps: int, observation: int, args: SimpleNamespace) -> dict[str, Any]:
    """Draws random episodes; the last of the ``steps`` holds the final observation only."""
    agents = (count, steps, args.n_agents)
    terminated = torch.zeros(count, steps, 1, dtype=torch.uint8)
    terminated[:, -2] = 1
    return {
        "state": torch.randn(count, steps, args.state_shape),
        "obs": torch.randn(*agents, observation),
        "actions": torch.randint(args.n_actions, (*agents, 1)),
        "avail_actions": torch.ones(*agents, args.n_actions, dtype=torch.int),
        "terminated": terminated,
        "reward": torch.randn(count, steps, 1),
    }


def build(root: Path, options: argparse.Namespace) -> tuple[Any, Any]:
    """Returns EPyMARL's learner and its replay, full of random episodes."""
    sys.path.insert(0, str(root / "src"))
    from components.episode_buffer import ReplayBuffer  # type: ignore[import-not-found]
    from components.transforms import OneHot  # type: ignore[import-not-found]
    from controllers import REGISTRY as controllers  # type: ignore[import-not-found]
    from learners.q_learner import QLearner  # type: ignore[import-not-found]

    args, groups = settings(root, options), {"agents": options.agents}
    hot = {"actions": ("actions_onehot", [OneHot(out_dim=args.n_actions)])}
    replay = ReplayBuffer(
        schemes(args, options.observation), groups, options.replay, options.steps, preprocess=hot
    )
    replay.update(episodes(options.replay, options.steps, options.observation, args))
    replay.episodes_in_buffer = options.replay
    return QLearner(
        controllers[args.mac](replay.scheme, groups, args), replay.scheme, Quiet(), args
    ), replay


def milliseconds(update: Callable[[], object], updates: int, blocks: int) -> list[float]:
    """Returns the time of one ``update`` in each block, after a block that is not counted."""
    times = []
    for _ in range(blocks + 1):
        began = time.perf_counter()
        for _ in range(updates):
            update()
        times.append(1000 * (time.perf_counter() - began) / updates)
    return times[1:]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time an update of EPyMARL's Q-learner.")
    parser.add_argument("root", type=Path, metavar="EPYMARL", help="a checkout of EPyMARL")
    parser.add_argument("--mixer", choices=("qmix", "vdn", "none"), default="qmix")
    sizes = {
        "episodes": 32, "steps": 26, "agents": 3, "actions": 5, "observation": 18,
        "replay": 5000, "updates": 20, "blocks": 7,
    }  # fmt: skip
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size, help=f"default {size}")
    return parser.parse_args()


def main() -> None:
    options = parse()
    warnings.simplefilter("ignore")  # torch's, of how EPyMARL indexes: they follow every slice
    torch.set_num_threads(1)
    torch.manual_seed(0)
    learner, replay = build(options.root, options)
    batch = replay.sample(options.episodes)
    size = f"{options.episodes} episodes x {options.steps} steps x {options.agents} agents"
    for name, update in {
        "learn": lambda: learner.train(batch, 0, 0),
        "sample + learn": lambda: learner.train(replay.sample(options.episodes), 0, 0),
    }.items():
        times = milliseconds(update, options.updates, options.blocks)
        middle, low, high = statistics.median(times), min(times), max(times)
        print(
            f"EPyMARL {options.mixer}, {size}, {name}: {middle:.1f} ms/update "
            f"({low:.1f} to {high:.1f} over {len(times)} blocks of {options.updates})"
        )


if __name__ == "__main__":
    main()
