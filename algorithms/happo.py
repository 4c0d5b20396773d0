"""HAPPO and HAA2C: agents that improve one after the other (Kuba et al. 2022; Zhong et al. 2024).

The loss of the agents i_1 ... i_N, in a random order, with ratios r_i = pi_new,i(a|o) / pi_i(a|o)::

    actor i_m   -min(r M, clip(r, 1-eps, 1+eps) M) - c H(pi),   M = r_(i_1) ... r_(i_(m-1)) A
    critic      as MAPPO's

M holds the final ratios of the agents before i_m on every frame of the rollout: the advantage under
their new policies. HAA2C does not clip: -r M, in a single epoch. Both are instances of the template
in ``marl.learning.sequential``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from marl.algorithm import Context
from marl.algorithms.mappo import MAPPO, MAPPOConfig
from marl.errors import UserError
from marl.learning.losses import mean_stats
from marl.learning.on_policy import Batch, Memory, minibatch
from marl.learning.optimizer import Optimizer
from marl.learning.sequential import update_order
from marl.networks.base import per_agent
from marl.networks.observation_norm import observe
from marl.policies.agent import AgentPolicy, agent_policies
from marl.policies.base import DifferentiablePolicy
from marl.types import Metrics, Rollout, Stats
from marl.utils.compilation import compile_function
from marl.utils.programs import learning_step
from marl.utils.validation import check_range


@dataclass
class HAPPOConfig(MAPPOConfig):
    """Hyperparameters of HAPPO: MAPPO's, and ``critic_epochs``.

    Every agent's policy has weights of its own, whatever ``model.sharing`` says; the critic shares
    as ``critic_model`` says. Learning rates, epochs and entropy are those of the authors'
    code (HARL) on MPE.
    """

    #: Passes of every agent over each rollout; usual 5 to 15.
    epochs: int = 5
    #: Passes of the critic over each rollout; usual 5 to 15, null for as many as the agents'.
    critic_epochs: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, critic_epochs=(1, 1000))
        if self.joint.graph != "none":
            raise UserError(
                f"joint.graph={self.joint.graph}: agents of a joint policy do not move one by one; "
                "take algorithm=mappo, or set joint.graph=none"
            )

    def policy(self, context: Context) -> DifferentiablePolicy:
        return super().policy(replace(context, model=per_agent(context.model)))

    def build(self, context: Context) -> HAPPO:
        return HAPPO(self, context)


@dataclass
class HAA2CConfig(HAPPOConfig):
    """Hyperparameters of HAA2C: HAPPO's without clipping, in one epoch of every agent.

    HARL's own configurations take 5 epochs.
    """

    #: Largest distance of the probability ratio from 1 that still earns; null for no clipping,
    #: which makes it an advantage actor-critic.
    clip: float | None = None
    #: Passes of every agent over each rollout; 1, for without clipping more may move it too far.
    epochs: int = 1
    #: Passes of the critic over each rollout; usual 5, null for as many as the agents'.
    critic_epochs: int | None = 5


class HAPPO(MAPPO):
    """Heterogeneous-agent PPO: MAPPO whose agents are updated one after the other, then the critic.

    Sources: Kuba et al. 2022, "Trust Region Policy Optimisation in Multi-Agent Reinforcement
    Learning"; Zhong et al. 2024, "Heterogeneous-Agent Reinforcement Learning".

    Differences from the authors' code (HARL) are MAPPO's. Besides, an agent that is not alive in a
    frame leaves M there as it is.

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm.

    Raises:
        UserError: agents share weights or cannot be updated one after the other, or as for MAPPO.
    """

    def __init__(self, config: HAPPOConfig, context: Context):
        super().__init__(config, context)
        self.critic_epochs = config.critic_epochs or config.epochs
        self.agent_policies = agent_policies(self.policy)
        actors = {f"actor_{i}": agent.parameters for i, agent in enumerate(self.agent_policies)}
        self.optimizer = Optimizer(
            {**actors, "critic": self.critic.parameters()},
            {**dict.fromkeys(actors, config.actor_lr), "critic": config.critic_lr},
            config.adam_eps,
            config.max_grad_norm,
        )
        self.critic_optimizer = self.optimizer.select("critic")
        step: Callable[..., Stats] = self._actor_step
        if self.execution == "compiled":  # once for all agents
            step = compile_function(self._actor_step)
        optimizers = [self.optimizer.select(name) for name in actors]
        self.actor_steps = [
            self._prepared(partial(step, *pair), pair[1])
            for pair in zip(self.agent_policies, optimizers, strict=True)
        ]

    def _prepared(self, step: Callable[..., Stats], optimizer: Optimizer) -> Callable[..., Stats]:
        """Returns an agent's step, captured where the run is."""
        captures = self.execution == "captured"
        return learning_step("captured", step, optimizer.tensors) if captures else step

    def update(self, rollout: Rollout) -> Metrics:
        """Updates the agents one after the other by eq. 11 of Kuba et al. 2022, then the critic.

        Args:
            rollout: T steps of B environments, ``[T, B]``.

        Returns:
            The means of the steps' statistics, over agents too.
        """
        self.schedule()
        batch, memory, self.critic_carry = self.prepare(rollout, self.critic_carry)
        compound, agent_stats = batch.advantage, []  # M, [T, B, K]
        for agent in update_order(len(self.agent_policies), self.context.generator):
            part = self._part(agent, replace(batch, advantage=compound), memory)
            step = self.actor_steps[agent]
            agent_stats.append(self._epochs(step, *part, self.config.epochs))
            compound = compound * self._ratio(agent, *part)
        critic_stats = self._epochs(self.step, batch, memory, self.critic_epochs)
        observe([self.policy, self.critic], rollout.obs)
        return {**mean_stats(agent_stats), **critic_stats}

    def _part(self, agent: int, batch: Batch, memory: Memory) -> tuple[Batch, Memory]:
        """Returns the agent's part of the rollout and of the memories, ``[T, B, 1, ...]``."""
        policy, column = self.agent_policies[agent], slice(agent, agent + 1)
        obs, action, aux = policy.select(batch.obs, batch.action, batch.aux)
        part = replace(
            batch,
            obs=obs,
            action=action,
            aux=aux,
            log_prob=batch.log_prob[..., column],
            alive=None if batch.alive is None else batch.alive[..., column],
            advantage=batch.advantage[..., column if self.critic.heads > 1 else slice(None)],
        )
        return part, Memory(policy.select_carry(memory.actor), {})

    def _actor_step(
        self,
        policy: AgentPolicy,
        optimizer: Optimizer,
        batch: Batch,
        memory: Memory,
        chunks: Tensor,
    ) -> Stats:
        """Takes one gradient step of one agent by eq. 11 on these chunks, all others unchanged."""
        batch, memory = minibatch(batch, memory, chunks, self.chunk, self.recurrent)
        log_prob, entropy = policy.evaluate(
            batch.obs, batch.action, memory.actor, batch.start, batch.aux
        )
        log_ratio = log_prob - batch.log_prob
        surrogate = self.surrogate(log_ratio, batch.advantage)
        loss, stats = self._actor_loss(surrogate, entropy, log_ratio, batch.alive)
        (norm,) = optimizer.step(loss).values()
        return {**stats, "actor_grad_norm": norm}

    def _step(self, batch: Batch, memory: Memory, chunks: Tensor) -> Stats:
        """Takes one gradient step of the critic."""
        batch, memory = minibatch(batch, memory, chunks, self.chunk, self.recurrent)
        loss = self.values.loss(batch, memory.critic)
        (norm,) = self.critic_optimizer.step(loss).values()
        return {"value_loss": loss.detach(), "critic_grad_norm": norm}

    @torch.no_grad()
    def _ratio(self, agent: int, batch: Batch, memory: Memory) -> Tensor:
        """Returns pi_new / pi of the agent on every frame, ``[T, B, 1]``; 1 where it is not
        alive."""
        copies = batch.start.shape[1]
        first = {name: carry[:copies] for name, carry in memory.actor.items()}  # at step 0
        log_prob, _ = self.agent_policies[agent].evaluate(
            batch.obs, batch.action, first, batch.start, batch.aux
        )
        log_ratio = log_prob - batch.log_prob
        return (log_ratio if batch.alive is None else log_ratio * batch.alive).exp()
