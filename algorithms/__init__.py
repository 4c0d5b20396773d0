"""The algorithms, one file each."""

from algorithms.mappo import IPPOConfig, MAPPOConfig
from algorithms.scripted import FrozenConfig, RandomConfig

ALGORITHMS = {
    "mappo": MAPPOConfig,
    "ippo": IPPOConfig,
    "random": RandomConfig,
    "frozen": FrozenConfig,
}
