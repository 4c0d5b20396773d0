"""The rest of MADDPG's paper (Lowe et al. 2017): models of the others' policies (section 4.2), with
which targets are computed in place of the policies themselves, and policy ensembles (section 4.3),
of which every agent plays one sub-policy an episode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from marl.algorithm import Context
from marl.algorithms.maddpg import MADDPG, MADDPGConfig
from marl.critics.action_value import Actions, joint_actions
from marl.errors import UserError
from marl.learning.losses import mean_stats
from marl.learning.opponent_models import OpponentModels
from marl.learning.replay import ReplayBatch
from marl.policies.base import DifferentiablePolicy, Policy
from marl.policies.ensemble import EnsemblePolicy
from marl.types import Metrics, Noise, Rollout, Stats


def ensemble(config: MADDPGConfig, context: Context) -> DifferentiablePolicy:
    """Returns policies of ``config.ensemble`` sub-policies each."""
    policy = EnsemblePolicy(context.team, context.model, config.distribution, config.ensemble)
    return policy.to(context.device)


class OpponentModellingMADDPG(MADDPG):
    """MADDPG whose agents know of each other only what they see each other do.

    Raises:
        UserError: there is nobody to model.
    """

    def __init__(self, config: MADDPGConfig, context: Context):
        super().__init__(config, context)
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
                f"inference=true has nobody to infer: with critic={config.critic}, reward="
                f"{config.reward} the team is one, and reads no other; set reward=own or critic=all"
            )
        self.target_networks.append(models.target_network)

    def update(self, rollout: Rollout) -> Metrics:
        """MADDPG's, with a step of the models on the newest frames before each of the critic's."""
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
        """Returns as many of the newest frames as a batch has."""
        return self.replay.take(self.replay.latest(self.batch_size))

    def divergence(self) -> Stats:
        """Returns how far the models are from the true policies, if these can be asked."""
        gap = self.opponent_models.divergence(self.context.policies, self.newest().obs)
        return {} if gap is None else {"inference_kl": gap}

    @torch.no_grad()
    def target(self, batch: ReplayBatch, noise: Noise, opponents: Actions) -> Tensor:
        """y, for each agent by its own models of the others, where it has a value of its own."""
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
