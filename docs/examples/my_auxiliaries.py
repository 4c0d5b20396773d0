# marl train task=vmas/balance \
#            algorithm=docs/examples/my_auxiliaries.py:CalmConfig algorithm.calm=0.1
from dataclasses import dataclass

from marl import MAPPOConfig
from marl.learning.auxiliary import Auxiliaries


@dataclass
class CalmConfig(MAPPOConfig):
    #: Weight of the mean square of the action distributions' parameters; usual 0 to 0.1.
    calm: float = 0.01

    def auxiliaries(self, context):
        calm = Calm(self.calm, context.team)
        return Auxiliaries({**super().auxiliaries(context).losses, "calm": calm})


class Calm:
    """Keeps the parameters of the action distributions (logits, or means and scales) small."""

    def __init__(self, weight, groups):
        self.weight, self.groups = weight, list(groups)

    def parameters(self):
        return ()  # none of its own

    def schedule(self, progress):
        pass  # the weight stays as it is

    def loss(self, batch, features):
        squares = [features[f"{group}/params"].square().mean() for group in self.groups]
        loss = sum(squares) / len(squares)
        return self.weight * loss, {"params_square": loss.detach()}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
