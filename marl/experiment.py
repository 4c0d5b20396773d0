"""The loop: collect, update, log, evaluate, checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from marl.errors import EndlessEpisode, EnvironmentFault, UserError, WorkerError
from marl.networks.perceptron import Perceptron
from marl.training import absolute_metric, agent_order, build, cautions, run_claim, run_directory
from marl.training.build import MakeEnv
from marl.training.callbacks import Callback, Callbacks
from marl.training.evaluation import Evaluations, film
from marl.training.logging import Log, Sink, finite, require_tensorboard, wanted_sinks
from marl.training.run_files import RunFiles
from marl.training.run_metrics import check_finite, read_metrics, timing
from marl.training.run_state import restore, state_of
from marl.training.selfplay import SelfPlay
from marl.training.settings import Settings
from marl.training.signals import Stop
from marl.training.teams import RunShape, Team, resolve_teams
from marl.types import Metrics, Rollout
from marl.utils import distributed, seeding
from marl.utils.capabilities import needs_replay
from marl.utils.device import find_device, keep_freed_memory
from marl.utils.process_state import ProcessState
from marl.utils.serialization import to_plain
from marl.utils.trust import accept_all
from marl.utils.versions import LEARNING


class Experiment:
    """One training run, from plain Python objects; or one rank's part of it, within
    ``marl.utils.distributed.joined``: the settings are the whole run's, the environment and the
    replay are this rank's. The first rank evaluates, logs and draws; every one saves its state.

    To make one changes nothing of the process: weights are drawn from ``settings.seed`` with the
    run's own random states and threads (``process``), and the caller's come back. ``run`` uses the
    same again, and lets the C library keep freed memory until it ends. Whoever steps the parts of a
    run by hand does so within ``with experiment.process.use():``.

    Args:
        task: makes an environment of so many copies on a device; ``envs.Task`` is one.
        algorithm: an algorithm's configuration, of every team that ``teams`` gives no other.
        model, critic_model: of the policies and the critics; the critics' default is the policies'.
        teams: what differs from the environment's own teams, by name.
        directory: where the run is kept; nothing of an earlier run is overwritten.
        resume: continue the run in ``directory`` from its last checkpoint. Only ``run`` writes
            there, and only while no other process does.
        sinks: loggers besides those of the settings.
        numbered: where ``directory`` is taken, a number is appended that makes it free.
        callbacks: called in the midst of the run (``marl.Callback``).
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
    ):
        self.settings = settings or Settings()
        self.device = find_device(self.settings.device)
        distributed.check_joined()
        self.directory, self.task = Path(distributed.broadcast_text(str(directory))), task
        self.learning = run_directory.resumable(self.directory) if resume else LEARNING
        if self.settings.tensorboard:
            require_tensorboard()
        self.callbacks = Callbacks(callbacks, self.device, self.settings.seed)
        self.process = ProcessState(self.device, self.settings.threads)
        with self.process.use():
            seeding.seed_everything(self.device, self.settings.seed)
            earlier = self.directory if resume else None
            made = build.build_environments(task, self.settings, self.device, earlier)
            self.env, self.evaluation_env, self.make = made.training, made.evaluation, made.make
            default = Team(None, algorithm, model or Perceptron(), critic_model)
            self._build_teams(teams or {}, default)
            self._build_loop()
            self._open_run(resume, numbered, sinks or [])

    def _build_teams(self, wanted: Mapping[str, Team | None], default: Team) -> None:
        """Draws all weights, the same on every rank; the global generators are the rank's own from
        then on."""
        settings = self.settings
        self.specs = resolve_teams(self.env, wanted, default)
        shape = RunShape(self.env.num_envs, settings.steps, settings.iterations)
        self.replay = build.build_replay(self.specs, settings, self.device)
        self.teams = build.build_teams(self.env, self.specs, shape, settings.seed, self.replay)
        build.check_alike(self.teams)
        if suffix := distributed.seed_suffix():
            seeding.seed_everything(self.device, settings.seed, *suffix)

    def _build_loop(self) -> None:
        settings = self.settings
        self.collector = build.build_collector(self.env, self.teams, settings, self.replay)
        past = seeding.generator(torch.device("cpu"), settings.seed, "selfplay")
        self.selfplay = SelfPlay(settings.selfplay, self.teams, past)
        self.past: list[str] = []  # the teams that played the last rollout as they had been
        self.frames, self.iteration = 0, 0
        self.next_checkpoint = settings.checkpoint_interval
        self.evaluations = Evaluations(self.evaluation_env, self.teams, settings)
        self.stop = Stop()

    def _open_run(self, resume: bool, numbered: bool, sinks: Sequence[Sink]) -> None:
        """Makes the run's directory, or reads the run's state from it."""
        if not resume:
            self.selfplay.fill(self.device)
            if distributed.rank() == 0:
                self.directory = run_claim.create(self.directory, self.config(), numbered)
            self.directory = Path(distributed.broadcast_text(str(self.directory)))
        self.files = RunFiles(self.directory, self.settings)
        self.checkpoints, self.jsonl = self.files.checkpoints, self.files.jsonl
        self.resumed, self.changes = resume, dict[str, Any]()  # of the settings, to be written
        if resume:
            self._resume()
        self.log = Log([] if distributed.rank() else [self.jsonl, *sinks])

    def _resume(self) -> None:
        state = self.files.load(self.device)
        if state is None:  # killed before its first checkpoint: from the beginning
            self.selfplay.fill(self.device)
            return
        restore(self, state)
        self.next_checkpoint = self.frames + self.settings.checkpoint_interval

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        trust: bool = False,
        callbacks: Sequence[Callback] = (),
        **changes: Any,
    ) -> Experiment:
        """The run in ``directory``, to be continued from its last checkpoint; ``run`` writes the
        ``changes`` of its settings to its configuration. With ``trust`` it, and the runs that it
        refers to, may import code of others though somebody else made them.

        Raises:
            UserError: there is no such run or setting, or the setting has no such value; or
                somebody else's run names code of others.
        """
        with accept_all(trust):
            task, teams, settings = run_directory.resumed_parts(Path(directory), changes)
            experiment = cls(
                task, None, None, None, teams, settings, directory, resume=True,
                callbacks=callbacks,
            )  # fmt: skip
        if "total_frames" in changes and settings.total_frames < experiment.frames:
            experiment.close()
            raise UserError(
                f"total_frames={settings.total_frames} is less than the {experiment.frames} frames "
                f"that {str(directory)!r} has played; take more, or train a new run"
            )
        experiment.changes = {name: getattr(settings, name) for name in changes}
        return experiment

    def config(self) -> dict[str, Any]:
        """What the run is made of, as objects."""
        task = self.task if hasattr(self.task, "__dataclass_fields__") else None
        parts = {"task": task, "settings": self.settings, "teams": self.specs}
        agents = agent_order.order_of(self.env.groups)
        return {"learning": self.learning, **parts, "agents": agents}

    # ------------------------------------------------------------------------------------- the loop

    def run(self) -> dict[str, list[float]]:
        """Trains to the end, or until a signal asks to stop; returns the last evaluation's returns.

        Raises:
            Diverged: a loss or gradient is not finite.
            EnvironmentFault: the environment gave what is no number; nothing has learned from it.
            WorkerError: an environment's process failed; what was learned is saved, in a run alone.
            EndlessEpisode: an evaluation's episode is longer than allowed; saved likewise.
            Taken: another process trains in the directory, or did since this object was made.
            UserError: the directory cannot be written to, or its disk is full.
        """
        with self.locked(), self.process.use(), keep_freed_memory():
            try:
                if distributed.rank() == 0:
                    self._begin()
                with self.stop.on_signals():
                    if distributed.rank() == 0 and self.frames == 0:
                        cautions.say(self.specs, self.settings, self.evaluation_env)
                    self._loop()
                    self.stop.agree()
                if self.stop.signal is None and distributed.rank() == 0:
                    parts = self.evaluation_env, self.specs, self.settings
                    absolute_metric.measure(self.directory, *parts)
            finally:
                self.log.close()
        return self.evaluations.returns

    def locked(self) -> AbstractContextManager[None]:
        """Keeps other processes from training in the directory; what cannot be written there ends
        in a sentence. May be nested."""
        return self.files.locked()

    def _begin(self) -> None:
        """Does what the first rank alone does before the loop."""
        self.files.begin(self.frames >= self.settings.total_frames, self.changes)
        config = to_plain(self.config())
        known = self.settings, self.directory, config, self.frames, self.resumed
        self.log.sinks += wanted_sinks(*known)

    def _loop(self) -> None:
        while True:
            try:
                self.stop.agree()
                if self.stop.signal is None and self.evaluations.due(self.frames):
                    self._evaluate()
                    self.stop.agree()
                if self._finished() or self.frames >= self.next_checkpoint:
                    self.save()
                if self._finished():
                    return
                self._iterate()
            except EnvironmentFault as fault:
                last = self.checkpoints.last() or "none"
                raise EnvironmentFault(f"{fault}; the last good checkpoint is {last}") from None
            except (WorkerError, EndlessEpisode):
                if distributed.size() == 1:  # the others know nothing of it, and wait
                    self.save()
                raise

    def _iterate(self) -> None:
        began, self.files.saved = time.perf_counter(), False
        with self.selfplay.playing_past_selves(self.frames) as playing:
            rollout, metrics = self.collector.collect()
        self.selfplay.credit(playing, rollout)
        self.past = list(playing)
        collect = time.perf_counter() - began
        self.callbacks.on_rollout(self, rollout)
        began = time.perf_counter()
        updates = self.learn(rollout)
        frames = rollout.frames * distributed.size()
        self.frames += frames
        self.iteration += 1
        numbers = read_metrics(metrics, updates)
        where = f"iteration {self.iteration} ({self.frames:,} frames)"
        check_finite(numbers, updates, where, self.checkpoints.last)
        record = {"frames": self.frames, "iteration": self.iteration, **finite(numbers)}
        self.log.log("metrics", record)
        seconds = timing(frames, collect, time.perf_counter() - began)
        self.log.log("timing", {"frames": self.frames, **seconds})
        self.callbacks.on_update(self, updates)

    def learn(self, rollout: Rollout) -> dict[str, Metrics]:
        """Every team's update from the rollout, and from what is kept of those before; not of teams
        that played it as they had been, unless they learn from the replay."""
        if self.replay is not None:
            self.replay.append(rollout)
        absent = [n for n in self.past if not needs_replay(self.specs[n].algorithm)]
        present = {name: team for name, team in self.teams.items() if name not in absent}
        return {name: team.update(rollout) for name, team in present.items()}

    def _evaluate(self) -> None:
        began, self.files.saved = time.perf_counter(), False
        record = {"frames": self.frames, **self.evaluations.play(self.frames)}
        self.log.log("evaluations", record)
        self.log.log("timing", {"frames": self.frames, "evaluate": time.perf_counter() - began})
        if distributed.rank() == 0:
            self.callbacks.on_evaluation(self, record)
        best = self.evaluations.best_now()
        if distributed.maximum(len(best)):
            self.save(best)

    def save(self, best: Sequence[str] = ()) -> None:
        """Writes a checkpoint of everything that decides what comes next; kept as the best of the
        teams ``best``."""
        self.next_checkpoint = self.frames + self.settings.checkpoint_interval
        if self.files.saved:
            return
        kept = self.replay if self.settings.replay_checkpoint else None
        replay = None if kept is None else kept.state_dict()
        self.files.save(self.frames, state_of(self), best, replay)

    def _finished(self) -> bool:
        return self.stop.signal is not None or self.frames >= self.settings.total_frames

    # ------------------------------------------------------------------------------------- pictures

    def film(self, seed: int = 0) -> list:
        """The frames of one greedy episode, ``[H, W, 3]`` uint8 each."""
        with self.process.use():
            env = self.make(1, self.device)
            try:
                seed = seeding.evaluation_seed(self.settings.seed, "film", seed)
                return film(env, self.teams, seed)
            finally:
                env.close()

    def close(self) -> None:
        self.env.close()
        self.evaluation_env.close()
