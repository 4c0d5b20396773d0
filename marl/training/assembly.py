"""The parts of a run, built in the order in which they need each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from marl.networks.perceptron import Perceptron
from marl.training import (
    build,
    early_stop,
    execution,
    own_callbacks,
    run_claim,
    run_directory,
    stage_borders,
    starting,
    unread,
)  # fmt: skip
from marl.training.build import MakeEnv
from marl.training.callbacks import Callback, Callbacks
from marl.training.evaluations import Evaluations
from marl.training.logging import Log, Sink, require_tensorboard
from marl.training.run_files import RunFiles
from marl.training.run_state import restore
from marl.training.selfplay import SelfPlay
from marl.training.settings import Settings
from marl.training.signals import Stop
from marl.training.stages import Stages
from marl.training.stored_groups import described
from marl.training.teams import RunShape, Team, resolve_teams
from marl.utils import distributed, seeding
from marl.utils.device import find_device
from marl.utils.process_state import ProcessState
from marl.utils.versions import LEARNING


class Assembly:
    """What a run consists of; ``Experiment`` adds what it does.

    Arguments and attributes are those of ``Experiment``.
    """

    def __init__(
        self,
        task: MakeEnv,
        algorithm: Any,
        model: Any = None,
        critic_model: Any = None,
        teams: Mapping[str, Team | None] | None = None,
        settings: Settings | None = None,
        directory: str | Path = "runs/experiment",
        resume: bool = False,
        sinks: list[Sink] | None = None,
        numbered: bool = False,
        callbacks: Sequence[Callback] = (),
        chosen: Collection[str] = (),
    ):
        self.settings = Settings() if settings is None else settings
        configs = [algorithm, *(team.algorithm for team in (teams or {}).values() if team)]
        build.check_arguments(task, configs, self.settings)
        self.device = find_device(self.settings.device)
        distributed.check_joined()
        self.directory, self.task = Path(distributed.broadcast_text(str(directory))), task
        self.learning = run_directory.resumable_version(self.directory) if resume else LEARNING
        if self.settings.tensorboard:
            require_tensorboard()
        every = [*own_callbacks.named(self.settings.callbacks), *callbacks]
        self.callbacks = Callbacks(every, self.device, self.settings.seed)
        self.process = ProcessState(self.device, self.settings.threads)
        with self.process.use():
            seeding.seed_everything(self.device, self.settings.seed)
            self.stages = Stages(task, self.settings)
            parts = self.stages.task(0), self.stages.settings_of(0), self.device
            ordered = resume and len(self.stages) == 1  # config.json has the last stage's order
            envs = build.build_environments(*parts, self.directory if ordered else None)
            self.env, self.evaluation_env, self.make = envs.training, envs.evaluation, envs.make
            word = self.settings.execution, self.env
            self.execution = (
                execution.resolve_resumed(*word, self.directory)
                if resume
                else execution.resolve(*word)
            )
            default = Team(None, algorithm, model or Perceptron(), critic_model)
            self._build_teams(teams or {}, default)
            unread.check(self.teams, chosen)
            self._build_loop()
            self._open_run(resume, numbered, sinks or [])

    def _build_teams(self, teams: Mapping[str, Team | None], default: Team) -> None:
        """Draws all weights, the same on every rank. Then each rank's global states differ."""
        settings = self.settings
        self.specs = resolve_teams(self.env, teams, default)
        size = self.env.num_envs, settings.steps, settings.iterations
        shape = RunShape(*size, self.execution)
        self.replay = build.build_replay(self.specs, settings, self.device)
        self.teams = build.build_teams(self.env, self.specs, shape, settings.seed, self.replay)
        build.check_same_weights(self.teams)
        if suffix := distributed.seed_suffix():
            seeding.seed_everything(self.device, settings.seed, *suffix)

    def _build_loop(self) -> None:
        settings = self.settings
        parts = self.env, self.teams, settings, self.replay
        self.collector = build.build_collector(*parts, self.execution)
        past = seeding.generator(torch.device("cpu"), settings.seed, "selfplay")
        self.selfplay = SelfPlay(settings.selfplay, self.teams, past)
        self.past: list[str] = []  # teams whose past policies played the last rollout
        self.frames, self.iteration = 0, 0
        self.next_checkpoint = settings.checkpoint_interval
        parts = self.stages.settings_of(0), self.selfplay
        self.evaluations = Evaluations(self.evaluation_env, self.teams, *parts)
        self.early_stop = early_stop.EarlyStop(settings, self.teams, self.device)
        self.stop = Stop()

    def _open_run(self, resume: bool, numbered: bool, sinks: Sequence[Sink]) -> None:
        """Creates the run directory, or reads the run's state from it."""
        self.start, self.last_env = starting.Start(), self.env
        if not resume or early_stop.is_set(self.settings):
            early_stop.check(self.settings, self.teams, resume)
        if not resume:
            self._load_weights()
            self.last_env = stage_borders.check(self) or self.env
            if distributed.rank() == 0:
                claim = self.config(), numbered, self.start.origin
                self.directory = run_claim.create(self.directory, *claim)
            self.directory = Path(distributed.broadcast_text(str(self.directory)))
        self.files = RunFiles(self.directory, self.settings)
        self.checkpoints, self.jsonl = self.files.checkpoints, self.files.jsonl
        self.resumed = resume
        self.changes: dict[str, Any] = {}  # of the settings, for ``run`` to write
        if resume:
            self.reload()
        self.log = Log([] if distributed.rank() else [self.jsonl, *sinks])

    def reload(self) -> None:
        """Restores the run to its last checkpoint, or to its beginning without one."""
        state = self.files.load(self.device)
        if state is None:  # killed before its first checkpoint: from the beginning
            self._load_weights()
            starting.check_same(self.start, self.directory)
            return
        restore(self, state)
        self.next_checkpoint = self.frames + self.settings.checkpoint_interval

    def _load_weights(self) -> None:
        """Loads what a new run begins with: weights of earlier runs, and opponents."""
        self.start = starting.begin(self.settings.start_from, self.teams, self.specs, self.device)
        self.selfplay.fill(self.device)

    def config(self) -> dict[str, Any]:
        """Returns the configuration of the run, as objects, with the agents of its last stage."""
        task = self.task if hasattr(self.task, "__dataclass_fields__") else None
        parts = {"task": task, "settings": self.settings, "teams": self.specs}
        versions = {"learning": self.learning, "execution": self.execution}
        return {**versions, **parts, **described(self.last_env)}

    def close(self) -> None:
        """Closes the environments."""
        self.env.close()
        self.evaluation_env.close()
