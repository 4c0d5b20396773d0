# marl train model=docs/examples/my_models.py:Residual model.width=128
from dataclasses import dataclass

import torch
from torch import nn

from marl import Network


@dataclass
class Residual:
    #: Units of each hidden layer; usual 64 to 256.
    width: int = 64

    def build(self, inputs, outputs, agents, gain=1.0):
        return ResidualNetwork(self.width, inputs.size, outputs)


class ResidualNetwork(Network):
    def __init__(self, width, inputs, outputs):
        super().__init__()
        self.first, self.second = nn.Linear(inputs, width), nn.Linear(width, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x, carry=None, start=None):  # [..., N, inputs] -> [..., N, outputs]
        hidden = torch.relu(self.first(x))
        return self.head(hidden + torch.relu(self.second(hidden))), None
