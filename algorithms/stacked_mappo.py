"""MAPPO and IPPO of several seeds at once, with stacked weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from marl.errors import UserError
from marl.learning import on_policy
from marl.learning.losses import mean_stats
from marl.learning.on_policy import Batch, Memory
from marl.learning.stacked_optimizer import StackedOptimizer
from marl.networks.observation_norm import observe
from marl.types import Carry, Metrics, Noise, Observation, PolicyStep, Rollout, Stats, tree_map
from marl.utils.programs import learning_step
from marl.utils.stacked_modules import Stack

if TYPE_CHECKING:
    from marl.algorithms.mappo import MAPPO


#: Rows of observations, over all seeds, up to which one thread learns from the minibatches of all
#: seeds at once. More do not fit into its caches, and seed by seed is faster, as it is for graphs
#: of entities (measured: docs/performance).
MOST_ROWS = 8192


class StackedMAPPO:
    """MAPPO of S seeds, each of which learns what it would learn alone, up to rounding.

    Each network computes all seeds' outputs in one batched product: actions always, and learning on
    a GPU, or on a CPU with several threads or small minibatches where nothing is compiled. Orders
    of minibatches and noise are drawn from each seed's own random numbers.

    Args:
        seeds: the algorithms, built of one configuration.

    Raises:
        UserError: the policies have auxiliary losses with a state, or ``target_kl`` is set.
    """

    def __init__(self, seeds: Sequence[MAPPO]):
        self.seeds, self.first = list(seeds), seeds[0]
        self._check()
        self.stack = Stack(
            [{"policy": s.policy, "critic": s.critic, "norm": s.value_norm} for s in seeds]
        )
        self._decide = self.stack.map(self.first.decide, modules=["policy"], side_by_side=True)
        self.optimizer: StackedOptimizer | None = None
        if self._learns_stacked():
            self._stack_learning()

    def _learns_stacked(self) -> bool:
        """Returns whether learning too is stacked, rather than done seed by seed."""
        first = self.first
        if first.context.device.type != "cpu":
            return True
        agents = sum(group.size for group in first.team.values())
        rows = self.stack.size * first.minibatch_frames * agents
        modules = [*first.policy.modules(), *first.critic.modules()]
        graphs = any(getattr(module, "reads_graph", False) for module in modules)
        small = torch.get_num_threads() > 1 or rows <= MOST_ROWS
        return small and not graphs and not first.compiles

    def _stack_learning(self) -> None:
        for seed in self.seeds:  # to share values depends on where a seed's episodes end
            seed.values.shares = False
        self.optimizer = StackedOptimizer([seed.optimizer for seed in self.seeds], self.stack)
        self._prepare = self.stack.map(self.first.prepare)
        self._loss = self.stack.map(self.first.loss)
        self._observe = self.stack.map(self._observe_first)
        self.step = learning_step(self.first.execution, self._step, self.optimizer.tensors)

    def _check(self) -> None:
        auxiliaries = self.first.auxiliaries
        if auxiliaries.parameters() or any(auxiliaries.state_dict().values()):
            raise UserError(
                "stacked_seeds cannot train policies whose auxiliary losses learn or have a state "
                f"({', '.join(auxiliaries.losses)}); leave stacked_seeds out"
            )
        if self.first.config.target_kl is not None:
            raise UserError(
                "stacked_seeds trains all seeds in step, and algorithm.target_kl would end their "
                "epochs at different moments; set algorithm.target_kl=null, or leave stacked_seeds "
                "out"
            )

    def decide(self, obs: Observation, carry: Carry, start: Tensor, noise: Noise) -> PolicyStep:
        return self._decide(obs, carry, start, noise)

    def update(self, rollout: Rollout, iteration: int) -> list[Metrics]:
        for seed in self.seeds:
            seed.iteration = iteration
        if self.optimizer is None:
            parts = [tree_map(lambda x, s=s: x[s], rollout) for s in range(self.stack.size)]
            return [seed.update(part) for seed, part in zip(self.seeds, parts, strict=True)]
        for seed in self.seeds:
            seed.schedule()
        batch, memory = self._prepared(rollout)
        epochs = [self._epoch(batch, memory) for _ in range(self.first.config.epochs)]
        self._observe(rollout.obs)
        stats = mean_stats(epochs)
        return [{name: x[s] for name, x in stats.items()} for s in range(self.stack.size)]

    def _prepared(self, rollout: Rollout) -> tuple[Batch, Memory]:
        """Returns the rollouts with their advantages and targets, and moves the critics' memories
        past them."""
        carries = [seed.critic_carry for seed in self.seeds]
        carry = tree_map(lambda *rows: torch.stack(rows), *carries)
        batch, memory, carry = self._prepare(rollout, carry)
        for number, seed in enumerate(self.seeds):
            seed.critic_carry = {name: rows[number] for name, rows in carry.items()}
        return batch, memory

    def _epoch(self, batch: Batch, memory: Memory) -> Stats:
        """Takes a step on every minibatch, each seed's in an order of its own."""
        first, one = self.first, replace(batch, start=batch.start[0])
        orders = [
            on_policy.shuffled_chunks(one, first.chunk, first.minibatch_frames, s.context.generator)
            for s in self.seeds
        ]
        chunks = [torch.stack(parts) for parts in zip(*orders, strict=True)]
        return mean_stats([self.step(batch, memory, part) for part in chunks])

    def _step(self, batch: Batch, memory: Memory, chunks: Tensor) -> Stats:
        """Takes one gradient step of every seed on its minibatch, ``chunks [S, M]``."""
        loss, stats = self._loss(batch, memory, chunks)
        assert self.optimizer is not None
        norms = self.optimizer.step(loss)
        return {**stats, **{f"{part}_grad_norm": norm for part, norm in norms.items()}}

    def _observe_first(self, obs: Observation) -> tuple[()]:
        observe([self.first.policy, self.first.critic], obs)
        return ()
