"""Registry of the algorithms: the command line's names and their configurations."""

from marl.algorithms.haddpg import HADDPGConfig, HATD3Config
from marl.algorithms.happo import HAA2CConfig, HAPPOConfig
from marl.algorithms.hasac import HASACConfig, ISACConfig, MASACConfig
from marl.algorithms.iql import IQLConfig
from marl.algorithms.maddpg import IDDPGConfig, MADDPGConfig, MATD3Config
from marl.algorithms.mappo import IPPOConfig, MAPPOConfig
from marl.algorithms.qmix import QMIXConfig
from marl.algorithms.qplex import QPLEXConfig
from marl.algorithms.scripted import FrozenConfig, RandomConfig, ScriptedConfig
from marl.algorithms.vdn import VDNConfig
from marl.algorithms.wqmix import CWQMIXConfig, OWQMIXConfig

#: Configuration class of every algorithm, by its name on the command line.
ALGORITHMS = {
    "mappo": MAPPOConfig,
    "ippo": IPPOConfig,
    "happo": HAPPOConfig,
    "haa2c": HAA2CConfig,
    "hasac": HASACConfig,
    "masac": MASACConfig,
    "isac": ISACConfig,
    "maddpg": MADDPGConfig,
    "iddpg": IDDPGConfig,
    "matd3": MATD3Config,
    "haddpg": HADDPGConfig,
    "hatd3": HATD3Config,
    "iql": IQLConfig,
    "vdn": VDNConfig,
    "qmix": QMIXConfig,
    "qplex": QPLEXConfig,
    "cwqmix": CWQMIXConfig,
    "owqmix": OWQMIXConfig,
    "random": RandomConfig,
    "scripted": ScriptedConfig,
    "frozen": FrozenConfig,
}
