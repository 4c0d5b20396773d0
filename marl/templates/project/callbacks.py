# marl train task=./environment.py:meeting 'callbacks=[./callbacks.py:RewardSpread]'
from marl import Callback


class RewardSpread(Callback):
    """Logs how unequal the agents' rewards are, and saves a checkpoint at each new minimum."""

    def __init__(self):
        self.smallest = float("inf")

    def on_rollout(self, run, rollout):
        spread = max(float(reward.std(-1).mean()) for reward in rollout.reward.values())
        run.log_metrics({"mine/reward_spread": spread})
        if spread < self.smallest:
            self.smallest = spread
            run.save()
