"""Win rates of teams against the past policies of their rivals, in runs with self-play.

At an evaluation each learning team plays, as it is now, episodes against past policies of all other
learning teams. They are drawn from the pools uniformly, without repetition, one for each round of
the evaluation's copies; rivals of several teams are of the same age. All actions are sampled, as in
training, so that a deterministic game is not played many times alike. A team *wins* an episode in
which its return is higher than that of each other team; a return equal to the highest is a draw.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from marl.algorithm import Algorithm
from marl.env import VectorEnv
from marl.training.evaluation import Limit, evaluate
from marl.training.sampled_play import sampling
from marl.training.selfplay import SelfPlay
from marl.utils import seeding

Rates = dict[str, dict[str, float]]


def win_rates(
    env: VectorEnv, teams: Mapping[str, Algorithm], selfplay: SelfPlay, seed: int, limit: Limit
) -> Rates:
    """Plays ``selfplay.config.episodes`` episodes of each learning team against its rivals' pools.

    Random numbers come from streams of their own; no other random state and no weights change.

    Args:
        env: environment to play in.
        teams: algorithms by team.
        selfplay: pools of past policies.
        seed: of the drawn policies and of the episodes.
        limit: longest episode.

    Returns:
        By team ``win_rate`` (wins plus half the draws, as a share of all episodes), ``draws`` (a
        share too) and ``episodes``; without teams whose rivals' pools are empty.

    Raises:
        EndlessEpisode: an episode is longer than ``limit`` allows.
    """
    rates: Rates = {}
    for name in selfplay.teams:
        ages = _ages(env, selfplay, name, seed)
        scores: list[float] = []  # 1, 1/2 and 0 for a win, a draw and a loss
        for i, age in enumerate(ages):
            past = {
                rival: len(selfplay.pools[rival].snapshots) - 1 - age
                for rival in selfplay.teams
                if rival != name
            }
            share = len(range(i, selfplay.config.episodes, len(ages)))
            with selfplay.playing(past):
                own_seed = seeding.evaluation_seed(seed, name, i)
                played = evaluate(env, sampling(teams), share, own_seed, True, limit)
            scores += _scores(played["returns"], name)
        if scores:
            rates[name] = {
                "win_rate": sum(scores) / len(scores),
                "draws": scores.count(0.5) / len(scores),
                "episodes": len(scores),
            }
    return rates


def _ages(env: VectorEnv, selfplay: SelfPlay, name: str, seed: int) -> list[int]:
    """Draws which past policies a team meets, 0 for the newest."""
    size = min(len(pool.snapshots) for rival, pool in selfplay.pools.items() if rival != name)
    count = min(size, -(-selfplay.config.episodes // env.num_envs))
    random = seeding.generator(torch.device("cpu"), seed, "pool", name)
    return torch.randperm(size, generator=random)[:count].tolist()


def _scores(returns: Mapping[str, list[float]], name: str) -> list[float]:
    """Returns 1 for each win of a team, 0.5 for each draw and 0 for each loss."""
    others = zip(*(values for other, values in returns.items() if other != name), strict=True)
    pairs = zip(returns[name], map(max, others), strict=True)
    return [1.0 if own > best else 0.5 if own == best else 0.0 for own, best in pairs]
