"""What tests of several ranks stand on: processes as torchrun starts them, and updates of every
algorithm on a fixed batch, whole or in parts."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from marl.algorithms.actor_critic import ActorCritic
from marl.algorithms.haddpg import HADDPGConfig
from marl.algorithms.happo import HAPPOConfig
from marl.algorithms.hasac import HASACConfig, MASACConfig
from marl.algorithms.iql import IQLConfig
from marl.algorithms.maddpg import MADDPGConfig
from marl.algorithms.mappo import IPPOConfig, MAPPOConfig
from marl.algorithms.qmix import QMIXConfig
from marl.cli.main import main
from marl.envs.task import Task
from marl.experiment import Experiment, Settings
from marl.learning.replay import ReplayBatch
from marl.networks.perceptron import Perceptron
from marl.training.build import build_teams
from marl.training.collector import Collector
from marl.training.teams import RunShape, Team, resolve_teams
from marl.types import Rollout, tree_map
from marl.utils import distributed
from tests.helpers import toy_envs
from tests.helpers.builders import CPU, collector, randomly
from tests.helpers.experiments import SHORT, train
from tests.helpers.off_policy import FAST, FAST_VALUE, Play, gradient_step
from tests.helpers.processes import Child, Result

Found = dict[str, list[Tensor]]
ENVS, STEPS, BATCH, LENGTH = 8, 10, 32, 4


# ---------------------------------------------------------------------------------------- processes


def start_ranks(cwd: Path, size: int, function: Callable[..., Any], *arguments: Any) -> list[Child]:
    """``function(*arguments)`` in so many ranks."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    return [Child(cwd, _ranked, n, size, port, function, arguments) for n in range(size)]


def _ranked(rank: int, size: int, port: int, function: Callable, arguments: tuple) -> None:
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(number) for name, number in told.items()})
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    function(*arguments)


def waited(children: list[Child], seconds: float = 120) -> list[Result]:
    return [child.wait(seconds) for child in children]


def cli_in_ranks(cwd: Path, size: int, *words: str) -> list[Result]:
    """``marl words...`` as torchrun would run it, to its end."""
    return waited(start_ranks(cwd, size, main, list(words)))


def train_in_ranks(directory: Path, resume: bool = False, **settings: Any) -> list[Child]:
    """``runs.train`` in two ranks."""
    return start_ranks(directory.parent, 2, train, directory, resume, settings)


def differ() -> None:
    """Ranks that begin with other weights, and look."""
    distributed.start(CPU)
    torch.manual_seed(distributed.rank())
    distributed.check_alike(iter([torch.zeros(2), torch.randn(3)]))


def share_words() -> None:
    """Metrics that each rank is alone to know: the numbers stay in one order everywhere."""
    distributed.start(CPU)
    assert distributed.union(["length", "won"][: 2 - distributed.rank()]) == ["length", "won"]
    env = toy_envs.late_metric(4, CPU)
    collect = Collector(env, randomly(env), 10, 2, torch.Generator())
    env.resets = 1 + distributed.rank()  # so that only the second rank's tells `won`
    metrics = collect.collect()[1]
    count = distributed.total(torch.tensor(float(len(metrics))))
    assert "info/won" in metrics and count == 2 * len(metrics) and metrics["info/won"] > 0


def train_replaying(directory: Path, resume: bool, frames: int) -> None:
    """A short run of HASAC; its gradient steps begin with the second iteration."""
    config = HASACConfig(batch_size=16, warmup=40, frames_per_update=8, n_step=2)
    settings = Settings(**{**SHORT, "total_frames": frames, "replay_size": 160})
    with distributed.joined(CPU):
        if resume:
            run = Experiment.load(directory, total_frames=frames)
        else:
            task = Task("tests.helpers.toy_envs:mortal")
            run = Experiment(task, config, Perceptron([8]), settings=settings, directory=directory)
        run.run()


# ------------------------------------------------------------------------------ updates, in parts

ON_POLICY: dict[str, tuple[Any, dict[str, Any]]] = {
    "mappo": (MAPPOConfig, {}),
    "mappo_gru": (MAPPOConfig, {"chunk_length": 5}),
    "ippo": (IPPOConfig, {}),  # its values are masked too
    "minibatches": (IPPOConfig, {"minibatch_size": ENVS * 2}),
    "target_kl": (MAPPOConfig, {"epochs": 6, "target_kl": 0.04}),
    "happo": (HAPPOConfig, {}),
}
OFF_POLICY: dict[str, tuple[Any, dict[str, Any]]] = {
    "hasac": (HASACConfig, {}),
    "masac": (MASACConfig, {}),
    "maddpg": (MADDPGConfig, {}),
    "masac_gru": (MASACConfig, {"sequence_length": LENGTH, "burn_in": 2}),
    "haddpg": (HADDPGConfig, {}),
}
VALUE_BASED: dict[str, tuple[Any, dict[str, Any]]] = {
    "iql": (IQLConfig, {"reward": "own"}),  # its loss is masked
    "qmix": (QMIXConfig, {"td_lambda": 0.5}),
}


def updates(out: Path, compile: bool = False) -> None:
    """What every algorithm is after its update, into ``out`` of this rank; two of them compiled."""
    distributed.start(CPU)
    if compile:
        found = {
            "ippo": on_policy("ippo", compile=True),
            "masac": off_policy("masac", compile=True),
        }
    else:
        found = {name: on_policy(name) for name in ON_POLICY}
        found |= {name: off_policy(name) for name in OFF_POLICY}
        found |= {name: value_based(name) for name in VALUE_BASED}
    torch.save(found, out.with_name(f"{out.name}{distributed.size()}-{distributed.rank()}"))
    distributed.leave()


def mine(x: Tensor) -> Tensor:
    """This rank's rows."""
    size = len(x) // distributed.size()
    return x[distributed.rank() * size : (distributed.rank() + 1) * size]


def on_policy(name: str, **more: Any) -> Found:
    """After two updates, from rollouts in which agents die: weights, moments of the values, and
    metrics. Minibatches are drawn in order, for the parts' to make up the whole's."""
    config, options = ON_POLICY[name]
    model = Perceptron([8], gru=8 if "gru" in name else 0)
    chosen = config(**{"epochs": 3, "actor_lr": 3e-3, "max_grad_norm": 0.5, **options, **more})
    whole = _algorithm(chosen, model, ENVS)  # collects; the same in every process
    collect = collector("mortal", whole, ENVS, STEPS)
    algorithm = _algorithm(chosen, model, ENVS // distributed.size())
    shuffled, metrics = torch.randperm, {}
    try:
        if "minibatch" in name:
            torch.randperm = lambda n, **_: torch.arange(n)
        for number in range(2):  # the first rank draws as one alone, the second otherwise
            algorithm.context.generator.manual_seed(10 * number + distributed.rank())
            metrics = algorithm.update(_columns(collect.collect()[0]))
    finally:
        torch.randperm = shuffled
    names = sorted(metrics)
    return {
        "weights": [*algorithm.policy.parameters(), *algorithm.critic.parameters()],
        "values": list(algorithm.value_norm.moments()),
        "metrics": list(distributed.average(torch.stack([metrics[n] for n in names]))),
        "alive": [a.alive for a in collect.obs.groups.values() if a.alive is not None],
    }


def _algorithm(config: Any, model: Perceptron, envs: int) -> Any:
    torch.manual_seed(0)
    env = toy_envs.mortal(envs, CPU)
    specs = resolve_teams(env, {}, Team(None, config, model))
    return build_teams(env, specs, RunShape(envs, STEPS, 10), seed=0)["team"]


def _columns(rollout: Rollout) -> Rollout:
    """This rank's copies ``[T, B, ...]``, and memories ``[B, ...]``."""
    carry = {name: mine(memory) for name, memory in rollout.carry.items()}
    part = tree_map(lambda x: mine(x.transpose(0, 1)).transpose(0, 1).clone(), rollout)
    return Rollout(**{**vars(part), "carry": carry})


def off_policy(name: str, **more: Any) -> Found:
    """After three gradient steps on fixed batches with fixed noise: weights, and statistics."""
    config, options = OFF_POLICY[name]
    # With Adam's own epsilon, a gradient that is nothing but rounding becomes a step.
    fixed = {"batch_size": BATCH, "n_step": 2, "adam_eps": 1e-5}
    model = Perceptron([8], gru=4 if "gru" in name else 0)
    play = Play(toy_envs.mortal, config(**{**FAST, **fixed, **options, **more}), model)
    play.iterate(4, learn=False)
    algorithm: ActorCritic = play.first
    share = columns if algorithm.recurrent else mine
    batches = [_batch(play, seed) for seed in range(3)]
    random = torch.Generator().manual_seed(7)  # whose choices no rounding turns over
    noises = [algorithm.policy.noise(BATCH, random) for _ in range(9)]
    batch, noise = iter(batches), iter(noises)
    algorithm.read = lambda index, rows=None: next(batch)
    algorithm.policy.noise = lambda num_envs, generator: tree_map(share, next(noise))
    steps = [torch.stack(list(gradient_step(algorithm).values())) for _ in batches]
    stats = [distributed.average(step) for step in steps]
    return {
        "weights": [p for part in _modules(algorithm) for p in part.parameters()],
        "temperature": [getattr(algorithm, "log_alpha", torch.zeros(1))],
        "metrics": stats,
    }


def value_based(name: str, **more: Any) -> Found:
    """After three gradient steps on fixed sequences: weights, and statistics."""
    config, options = VALUE_BASED[name]
    fixed = {"batch_size": BATCH * 2, "adam_eps": 1e-5}
    model = Perceptron([8], gru=4)
    play = Play(toy_envs.mortal, config(**{**FAST_VALUE, **fixed, **options, **more}), model)
    play.iterate(4, learn=False)
    algorithm: Any = play.first
    random = torch.Generator().manual_seed(7)
    index = iter([play.replay.draw_windows(16, algorithm.length, random) for _ in range(3)])
    algorithm.draw_sequences = lambda length, burn_in: mine(next(index).T).T
    steps = [torch.stack(list(gradient_step(algorithm).values())) for _ in range(3)]
    return {
        "weights": [*algorithm.policy.parameters(), *algorithm.mixer.parameters()],
        "metrics": [distributed.average(step) for step in steps],
    }


def _batch(play: Play, seed: int) -> ReplayBatch:
    """This rank's part of a batch: whole sequences of an algorithm with memory."""
    algorithm = play.first
    if not algorithm.recurrent:
        return tree_map(mine, play.batch(BATCH)[0])
    steps, random = algorithm.config.burn_in + LENGTH, torch.Generator().manual_seed(seed)
    return algorithm.read(mine(play.replay.draw_windows(BATCH // LENGTH, steps, random).T).T)


def columns(x: Tensor) -> Tensor:
    """This rank's columns of ``[L, S]``, in ``[L * S]``."""
    return mine(x.unflatten(0, (LENGTH, -1)).transpose(0, 1)).transpose(0, 1).flatten(0, 1)


def _modules(algorithm: ActorCritic) -> list[torch.nn.Module]:
    return [algorithm.policy, algorithm.critic, algorithm.target_critic]
