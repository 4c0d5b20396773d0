"""Old names of modules and classes: runs and records of earlier versions name them for ever, and
imports of them work for one release, with a warning. Importable without torch.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

# Where what stood in a module is now, if it is not in SYMBOLS.
MODULES = {
    "algorithms": "marl.algorithms.registry",
    "envs": "marl.envs.task",
    "envs.vmas": "marl.envs.vmas.env",
    "marl.absolute": "marl.training.absolute_metric",
    "marl.averages": "marl.learning.target_networks",
    "marl.cautions": "marl.training.cautions",
    "marl.checkpoint": "marl.training.checkpoint",
    "marl.collect": "marl.training.collector",
    "marl.config": "marl.utils.serialization",
    "marl.critics": "marl.critics.value",
    "marl.crossplay": "marl.training.crossplay",
    "marl.dags": "marl.policies.dag",
    "marl.deterministic": "marl.policies.deterministic",
    "marl.device": "marl.utils.device",
    "marl.distributions": "marl.policies.distributions",
    "marl.encoders": "marl.networks.encoders",
    "marl.ensemble": "marl.policies.ensemble",
    "marl.evaluation": "marl.training.evaluation",
    "marl.files": "marl.utils.files",
    "marl.finite": "marl.training.finite",
    "marl.frames": "marl.learning.frames",
    "marl.graph_networks": "marl.networks.informarl",
    "marl.graphs": "marl.networks.entity_graph",
    "marl.hyperband": "marl.launch.hyperband",
    "marl.inference": "marl.learning.opponent_models",
    "marl.jobs": "marl.launch.job",
    "marl.joint": "marl.policies.bayesian",
    "marl.layers": "marl.networks.layers",
    "marl.logging": "marl.training.logging",
    "marl.losses": "marl.learning.losses",
    "marl.members": "marl.learning.sequential",
    "marl.memory": "marl.training.memory",
    "marl.networks": "marl.networks.base",
    "marl.observation_norm": "marl.networks.observation_norm",
    "marl.offpolicy": "marl.algorithms.off_policy",
    "marl.onpolicy": "marl.learning.on_policy",
    "marl.optimizer": "marl.learning.optimizer",
    "marl.order": "marl.training.agent_order",
    "marl.parameters": "marl.launch.search_space",
    "marl.policies": "marl.policies.independent",
    "marl.pool": "marl.launch.scheduler",
    "marl.qcritics": "marl.critics.action_value",
    "marl.ranks": "marl.utils.distributed",
    "marl.records": "marl.benchmark.records",
    "marl.replay": "marl.learning.replay",
    "marl.report": "marl.training.report",
    "marl.returns": "marl.learning.returns",
    "marl.rivals": "marl.training.rivals",
    "marl.run_directory": "marl.training.run_claim",
    "marl.runs": "marl.training.run_directory",
    "marl.seeding": "marl.utils.seeding",
    "marl.selfplay": "marl.training.selfplay",
    "marl.sequence": "marl.learning.sequential",
    "marl.settings": "marl.training.settings",
    "marl.standing": "marl.launch.progress",
    "marl.stopping": "marl.training.signals",
    "marl.successors": "marl.learning.successors",
    "marl.suites": "marl.benchmark.suite",
    "marl.sweep": "marl.launch.sweep",
    "marl.tabular": "marl.envs.games.tabular",
    "marl.teams": "marl.training.teams",
    "marl.uniform": "marl.policies.random",
    "marl.versions": "marl.utils.versions",
}

# Where a name is now that left its module alone.
SYMBOLS = {
    "algorithms.maddpg:HADDPGConfig": "marl.algorithms.haddpg:HADDPGConfig",
    "algorithms.maddpg:HATD3Config": "marl.algorithms.haddpg:HATD3Config",
    "marl.absolute:play": "marl.training.joint_evaluation:play",
    "marl.algorithm:REWARDS": "marl.learning.rewards:REWARDS",
    "marl.algorithm:Scripted": "marl.policies.fixed:Scripted",
    "marl.algorithm:check_range": "marl.utils.validation:check_range",
    "marl.algorithm:check_word": "marl.utils.validation:check_word",
    "marl.algorithm:team_alive": "marl.learning.rewards:team_alive",
    "marl.algorithm:without": "marl.learning.rewards:without",
    "marl.averages:Follower": "marl.learning.target_networks:TargetNetwork",
    "marl.averages:averaged": "marl.learning.target_networks:target_copy",
    "marl.checkpoint:random_state": "marl.utils.seeding:random_state",
    "marl.checkpoint:set_random_state": "marl.utils.seeding:set_random_state",
    "marl.collect:team_mean_reward": "marl.learning.rewards:team_mean_reward",
    "marl.critics:HeadIndex": "marl.critics.inputs:HeadIndex",
    "marl.critics:JointObservation": "marl.critics.inputs:JointObservation",
    "marl.critics:SCOPES": "marl.critics.inputs:SCOPES",
    "marl.dags:Graphs": "marl.policies.dag:DagSampler",
    "marl.dags:Joint": "marl.policies.dag:BayesianNetworkConfig",
    "marl.distributions:Drawn": "marl.policies.distributions:ActionSample",
    "marl.ensemble:MEMBER": "marl.policies.ensemble:SUB_POLICY",
    "marl.experiment:Settings": "marl.training.settings:Settings",
    "marl.inference:Guess": "marl.learning.opponent_models:UnitGaussian",
    "marl.inference:Inference": "marl.learning.opponent_models:OpponentModels",
    "marl.inference:guess": "marl.learning.opponent_models:unit_gaussian",
    "marl.joint:Watched": "marl.training.joint_evaluation:GraphAblation",
    "marl.joint:watched": "marl.training.joint_evaluation:ablations",
    "marl.logging:read_jsonl": "marl.utils.jsonl:read_jsonl",
    "marl.logging:scalars": "marl.utils.jsonl:scalars",
    "marl.members:Member": "marl.policies.agent:AgentPolicy",
    "marl.members:members": "marl.policies.agent:agent_policies",
    "marl.members:own_weights": "marl.policies.agent:own_weights",
    "marl.networks:IMAGES": "marl.networks.perceptron:IMAGES",
    "marl.networks:Perceptron": "marl.networks.perceptron:Perceptron",
    "marl.networks:PerceptronNetwork": "marl.networks.perceptron:PerceptronNetwork",
    "marl.networks:SHARING": "marl.networks.perceptron:SHARING",
    "marl.networks:mlp": "marl.networks.perceptron:mlp",
    "marl.optimizer:F": "marl.utils.compilation:F",
    "marl.optimizer:compiled": "marl.utils.compilation:compiled",
    "marl.offpolicy:OffPolicy": "marl.algorithms.actor_critic:ActorCritic",
    "marl.policies:NOTHING": "marl.policies.base:NOTHING",
    "marl.policies:Policy": "marl.policies.base:Policy",
    "marl.policies:act": "marl.policies.base:act",
    "marl.policies:encode": "marl.policies.base:encode",
    "marl.policies:encoded_actions": "marl.policies.base:encoded_actions",
    "marl.policies:initial_carry": "marl.policies.base:initial_carry",
    "marl.pool:Pool": "marl.launch.scheduler:JobScheduler",
    "marl.ranks:first": "marl.utils.distributed:broadcast",
    "marl.ranks:own": "marl.utils.distributed:seed_suffix",
    "marl.ranks:part": "marl.utils.distributed:share",
    "marl.ranks:word": "marl.utils.distributed:broadcast_text",
    "marl.runs:PACKAGES": "marl.training.provenance:PACKAGES",
    "marl.runs:git_commit": "marl.training.provenance:git_commit",
    "marl.runs:load_policy": "marl.training.loading:load_policy",
    "marl.runs:load_teams": "marl.training.build:load_teams",
    "marl.runs:newest": "marl.training.loading:newest",
    "marl.runs:processor": "marl.training.provenance:processor",
    "marl.runs:provenance": "marl.training.provenance:provenance",
    "marl.runs:restore_policy": "marl.training.loading:restore_policy",
    "marl.uniform:uniform_action": "marl.env:uniform_action",
    "marl.uniform:uniform_noise": "marl.env:uniform_noise",
    "marl.algorithm:Setting": "marl.algorithm:Context",
    "marl.selfplay:Pool": "marl.training.selfplay:OpponentPool",
    "marl.standing:Standing": "marl.launch.progress:RunProgress",
    "marl.standing:standing": "marl.launch.progress:run_progress",
    "marl.teams:Shape": "marl.training.teams:RunShape",
    "marl.teams:build_replay": "marl.training.build:build_replay",
    "marl.teams:build_teams": "marl.training.build:build_teams",
    "marl.teams:setting": "marl.training.build:context",
}

OLD_PACKAGES = ("envs", "algorithms")  # top-level names of the first release
PACKAGES = ("marl.networks", "marl.policies", "marl.critics")  # modules then, packages now


def current(path: str) -> str:
    """Returns the import path ``module:name`` of today for one of any version."""
    if path in SYMBOLS:
        return SYMBOLS[path]
    module, colon, name = path.partition(":")
    if module.partition(".")[0] in OLD_PACKAGES:
        return f"{MODULES.get(module, f'marl.{module}')}{colon}{name}"
    return f"{MODULES.get(module, module)}{colon}{name}"


def old_names(module: str) -> Callable[[str], Any]:
    """Returns a ``__getattr__`` for a module that gives what once stood in ``module``."""

    def find(name: str) -> Any:
        missing = AttributeError(f"module {module!r} has no attribute {name!r}")
        new_module, _, new = current(f"{module}:{name}").partition(":")
        if name.startswith("__") or (new_module, new) == (module, name):
            raise missing
        found = getattr(importlib.import_module(new_module), new, missing)
        if found is missing:
            raise missing
        _warn(f"{module}.{name}", f"{new_module}.{new}")
        return found

    return find


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is now {new}; the old name is removed in the next release",
        FutureWarning,
        stacklevel=3,
    )


class OldModules(MetaPathFinder, Loader):
    """Finds modules by their old names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        if top in OLD_PACKAGES:
            if _belongs_to_others(top):
                return None
        elif fullname not in MODULES or fullname in PACKAGES:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__getattr__ = old_names(module.__name__)  # type: ignore[method-assign]  # PEP 562


def _belongs_to_others(package: str) -> bool:
    """Returns whether a package of that name is there which is not ours."""
    spec = PathFinder.find_spec(package)
    if spec is None or spec.origin is None:
        return spec is not None
    return Path(spec.origin).resolve().parent != Path(__file__).resolve().parents[2] / package


def install() -> None:
    """Makes the old names importable."""
    if not any(isinstance(finder, OldModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, OldModules())
