# marl train algorithm=docs/examples/my_algorithms.py:PenaltyConfig algorithm.beta=2
from dataclasses import dataclass

from marl import MAPPO, MAPPOConfig, approximate_kl


@dataclass
class PenaltyConfig(MAPPOConfig):
    #: Weight of the divergence from the policy that acted; usual 0.1 to 10.
    beta: float = 1.0

    def build(self, context):
        return Penalty(self, context)


class Penalty(MAPPO):
    def surrogate(self, log_ratio, advantage):
        return self.config.beta * approximate_kl(log_ratio) - log_ratio.exp() * advantage
