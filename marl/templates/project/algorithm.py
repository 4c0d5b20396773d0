# marl train task=games/climbing algorithm=./algorithm.py:ReinforceConfig algorithm.lr=1e-2
from dataclasses import dataclass

import torch

from marl.learning.losses import masked_mean
from marl.learning.rewards import concat_groups, team_alive, team_mean_reward
from marl.policies import base
from marl.policies.independent import IndependentPolicy


@dataclass
class ReinforceConfig:
    """REINFORCE (Williams 1992) for a team, with the mean over copies as baseline."""

    #: Learning rate of Adam; usual 1e-4 to 1e-2.
    lr: float = 1e-3
    #: Discount of future rewards, per step; usual 0.95 to 0.999.
    gamma: float = 0.99

    def policy(self, context):
        return IndependentPolicy(context.team, context.model).to(context.device)

    def build(self, context):
        return Reinforce(self, context)


class Reinforce:
    def __init__(self, config, context):
        self.gamma, self.policy = config.gamma, config.policy(context)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=config.lr)

    def act(self, obs, carry, start, generator, explore=True):
        return base.act(self.policy, obs, carry, start, generator, explore)

    def update(self, rollout):
        returns = self.returns(rollout)
        advantage = (returns - returns.mean(1, keepdim=True)).unsqueeze(-1)  # [T, B, 1]
        log_prob, _ = self.policy.evaluate(
            rollout.obs, rollout.action, rollout.carry, rollout.start, rollout.aux
        )
        alive = team_alive(rollout.obs, self.policy.groups)  # [T, B, N], or None if all live
        loss = masked_mean(-concat_groups(log_prob, self.policy.groups) * advantage, alive)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"policy_loss": loss.detach()}

    def returns(self, rollout):
        """Discounted rewards to go, [T, B]; what a time limit cuts off counts as nothing."""
        reward = team_mean_reward(rollout.reward, list(self.policy.groups))
        returns, total = torch.empty_like(reward), torch.zeros_like(reward[0])
        for t in reversed(range(rollout.steps)):
            total = reward[t] + self.gamma * total * ~rollout.done[t]
            returns[t] = total
        return returns

    def state_dict(self):
        return {"policy": self.policy.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state):
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])
