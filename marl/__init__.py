"""Multi-agent reinforcement learning in PyTorch.

The names that users import are listed here and loaded at their first use, so that ``import marl``
alone loads no torch.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marl.utils import moved

if TYPE_CHECKING:
    from marl.algorithm import Algorithm as Algorithm
    from marl.algorithm import AlgorithmConfig as AlgorithmConfig
    from marl.algorithm import Context as Context
    from marl.algorithms.haddpg import HADDPGConfig as HADDPGConfig
    from marl.algorithms.haddpg import HATD3Config as HATD3Config
    from marl.algorithms.happo import HAA2CConfig as HAA2CConfig
    from marl.algorithms.happo import HAPPOConfig as HAPPOConfig
    from marl.algorithms.hasac import HASACConfig as HASACConfig
    from marl.algorithms.hasac import ISACConfig as ISACConfig
    from marl.algorithms.hasac import MASACConfig as MASACConfig
    from marl.algorithms.maddpg import IDDPGConfig as IDDPGConfig
    from marl.algorithms.maddpg import MADDPGConfig as MADDPGConfig
    from marl.algorithms.maddpg import MATD3Config as MATD3Config
    from marl.algorithms.mappo import MAPPO as MAPPO
    from marl.algorithms.mappo import IPPOConfig as IPPOConfig
    from marl.algorithms.mappo import MAPPOConfig as MAPPOConfig
    from marl.deployment.policy import LoadedPolicy as LoadedPolicy
    from marl.deployment.policy import load_policy as load_policy
    from marl.env import VectorEnv as VectorEnv
    from marl.env import check_env as check_env
    from marl.envs.task import Task as Task
    from marl.envs.wrappers import Wrapper as Wrapper
    from marl.errors import UserError as UserError
    from marl.experiment import Experiment as Experiment
    from marl.learning.losses import approximate_kl as approximate_kl
    from marl.networks.base import Network as Network
    from marl.networks.perceptron import Perceptron as Perceptron
    from marl.training.callbacks import Callback as Callback
    from marl.training.report import draw_curve as draw_curve
    from marl.training.report import write_video as write_video
    from marl.training.settings import Settings as Settings
    from marl.training.start_from import StartFrom as StartFrom
    from marl.training.teams import Team as Team
    from marl.types import ActionSpec as ActionSpec
    from marl.types import AgentGroup as AgentGroup
    from marl.types import Continuous as Continuous
    from marl.types import Discrete as Discrete
    from marl.types import GroupObservation as GroupObservation
    from marl.types import MultiDiscrete as MultiDiscrete
    from marl.types import Observation as Observation
    from marl.types import TensorSpec as TensorSpec
    from marl.types import Transition as Transition

#: Module -> the names that ``from marl import ...`` takes from it.
EXPORTS = {
    "marl.algorithm": ("Algorithm", "AlgorithmConfig", "Context"),
    "marl.algorithms.haddpg": ("HADDPGConfig", "HATD3Config"),
    "marl.algorithms.happo": ("HAA2CConfig", "HAPPOConfig"),
    "marl.algorithms.hasac": ("HASACConfig", "ISACConfig", "MASACConfig"),
    "marl.algorithms.maddpg": ("IDDPGConfig", "MADDPGConfig", "MATD3Config"),
    "marl.algorithms.mappo": ("MAPPO", "IPPOConfig", "MAPPOConfig"),
    "marl.deployment.policy": ("LoadedPolicy", "load_policy"),
    "marl.env": ("VectorEnv", "check_env"),
    "marl.envs.task": ("Task",),
    "marl.envs.wrappers": ("Wrapper",),
    "marl.errors": ("UserError",),
    "marl.experiment": ("Experiment",),
    "marl.learning.losses": ("approximate_kl",),
    "marl.networks.base": ("Network",),
    "marl.networks.perceptron": ("Perceptron",),
    "marl.training.callbacks": ("Callback",),
    "marl.training.report": ("draw_curve", "write_video"),
    "marl.training.settings": ("Settings",),
    "marl.training.start_from": ("StartFrom",),
    "marl.training.teams": ("Team",),
    "marl.types": (
        "ActionSpec", "AgentGroup", "Continuous", "Discrete", "GroupObservation", "MultiDiscrete",
        "Observation", "TensorSpec", "Transition",
    ),
}  # fmt: skip
_MODULE = {name: module for module, names in EXPORTS.items() for name in names}

if not (Path(__file__).parent / "envs").is_dir():  # a checkout without symbolic links (Windows)
    __path__.append(str(Path(__file__).parents[1]))
moved.install()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("marl-groups")
    if name not in _MODULE:
        raise AttributeError(f"module 'marl' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE, "__version__"})
