"""MADDPG with opponent models and policy ensembles (Lowe et al. 2017, sections 4.2 and 4.3).

With opponent models (section 4.2) targets are computed from fitted models of the other agents'
policies in place of the policies themselves. With policy ensembles (section 4.3) every agent has
several sub-policies and plays one of them an episode. The authors' code has neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from marl.algorithm import Context
from marl.algorithms.maddpg import MADDPG, MADDPGConfig
from marl.critics.joint_actions import Actions, joint_actions
from marl.errors import UserError
from marl.learning.losses import mean_stats
from marl.learning.opponent_models import OpponentModels
from marl.learning.replay import ReplayBatch
from marl.policies.base import DifferentiablePolicy, Policy
from marl.policies.ensemble import EnsemblePolicy
from marl.types import Metrics, Noise, Rollout, Stats


def ensemble(config: MADDPGConfig, context: Context) -> DifferentiablePolicy:
    """Returns a team policy with ``config.ensemble`` sub-policies for every agent.

    Args:
        config: hyperparameters of MADDPG.
        context: what the run gives an algorithm.

    Raises:
        UserError: the model has a memory or reads the graph.
    """
    policy = EnsemblePolicy(context.team, context.model, config.distribution, config.ensemble)
    return policy.to(context.device)


class OpponentModellingMADDPG(MADDPG):
    """MADDPG whose targets use models of the other agents, fitted to their actions.

    Source: Lowe et al. 2017, section 4.2 (``marl.learning.opponent_models``). Where each agent has
    a return of its own it models all others; under a team reward the team models the other teams.

    Args:
        config: hyperparameters, with ``inference``.
        context: what the run gives an algorithm; with a replay.

    Raises:
        UserError: there is nobody to model, a network has a memory, or as for ``ActorCritic``.
    """

    def __init__(self, config: MADDPGConfig, context: Context):
        super().__init__(config, context)
        if self.recurrent:
            raise UserError(
                "inference=true works only without memory; set model.gru=0, or inference=false"
            )
        self.opponent_models = models = OpponentModels(
            self.agents if self.critic.heads > 1 else [None],
            self.team,
            self.scope.groups(self.team, context.everyone),
            context.model,
            config.actor_lr if config.inference_lr is None else config.inference_lr,
            config.inference_entropy,
            context.device,
        )
        if not models.modelled_groups:
            raise UserError(
                f"inference=true has nobody to infer with critic={config.critic}, reward="
                f"{config.reward}: all agents that the critic reads share one return; "
                "set reward=own or critic=all"
            )
        self.target_networks.append(models.target_network)

    def update(self, rollout: Rollout) -> Metrics:
        """Takes the gradient steps that are due, each after a step of the models on the newest
        frames.

        Args:
            rollout: the newest frames, ``[T, B]``, which the replay holds already.

        Returns:
            The means of the steps' statistics, and ``inference_kl``; empty where no step was due.
        """
        steps: list[Stats] = []
        for batch, (noise, *others) in self.batches(rollout):
            newest = self.newest()
            self.opponent_models.fit(newest.obs, newest.action)
            critic = self.update_critic(batch, noise, self.opponent_actions(batch))
            if self.actors_are_due:
                self.actor_stats = self.update_actors(batch, others)
                self.update_targets()
            steps.append({**critic, **self.actor_stats})
        return {**mean_stats(steps), **(self.divergence() if steps else {})}

    def newest(self) -> Rollout:
        """Returns the newest frames of the replay, as many as a batch has."""
        return self.replay.take(self.replay.latest(self.batch_size))

    def divergence(self) -> Stats:
        """Returns ``inference_kl``, the KL divergence of the models from the true policies.

        Empty where no true policy has networks to compute it from.
        """
        kl = self.opponent_models.divergence(self.context.policies, self.newest().obs)
        return {} if kl is None else {"inference_kl": kl}

    @torch.no_grad()
    def target(self, batch: ReplayBatch, noise: Noise, opponents: Actions) -> Tensor:
        """Computes MADDPG's target with each agent's own models of the others, ``[M, H]``.

        Arguments as in ``ActorCritic.target``; under a team reward ``opponents`` are the team's
        models, else they have an axis of learners, ``[M, N, N, A]``.
        """
        if self.critic.heads == 1:
            return super().target(batch, noise, opponents)
        action, _ = self.target_policy.rsample(batch.next_obs, self.smoothing_noise(noise))
        joint = joint_actions(action, opponents)
        q = self.target_critic(batch.next_obs, joint, each=True).amin(0)
        return batch.reward + batch.discount * q

    def opponent_actions(self, batch: ReplayBatch) -> Actions:
        models = self.opponent_models
        noise = models.noise(self.batch_size, self.context.generator)
        actions = models.actions(batch.next_obs, noise)
        return actions if self.critic.heads > 1 else {n: a[:, 0] for n, a in actions.items()}

    def opponent_policies(self) -> Mapping[str, Policy]:
        return {}

    def networks(self) -> list[nn.Module]:
        return [self.opponent_models.models, *super().networks()]

    def parts(self) -> dict[str, Any]:
        models = self.opponent_models
        return {
            **super().parts(),
            "opponent_models": models.models,
            "target_opponent_models": models.target,
            "opponent_models_optimizer": models.optimizer,
        }
