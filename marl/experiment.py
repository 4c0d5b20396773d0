"""The loop of a run: collect, update, log, evaluate, checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from marl.errors import EndlessEpisode, EnvironmentFault, WorkerError
from marl.training import (
    absolute_metric,
    cautions,
    run_directory,
    stage_borders,
)  # fmt: skip
from marl.training.assembly import Assembly
from marl.training.callbacks import Callback, numbers_to_log
from marl.training.evaluation import film
from marl.training.logging import build_sinks
from marl.training.origin import naming_origin
from marl.training.run_metrics import log_iteration, read_metrics, timing
from marl.training.run_outcome import recorded
from marl.training.run_state import state_of
from marl.training.settings import (
    Settings as Settings,  # imported from here since the first release
)
from marl.types import Metrics, Rollout
from marl.utils import distributed, seeding
from marl.utils.capabilities import needs_replay
from marl.utils.device import keep_freed_memory
from marl.utils.serialization import to_plain
from marl.utils.trust import accept_all


class Experiment(Assembly):
    """One training run, built from Python objects.

    Within ``marl.utils.distributed.joined`` it is one rank's part of a run: the settings are those
    of the whole run, the environment and the replay those of this rank. The first rank evaluates,
    logs and plots; every rank saves its state.

    Building it leaves the process as it was: weights are drawn from ``settings.seed`` with random
    states and threads of the run (``process``), and the caller's are restored. ``run`` uses the
    run's again, and lets the C library keep freed memory until it ends. Calls of parts of a run by
    hand belong within ``with experiment.process.use():``.

    Args:
        task: builds an environment from the number of copies and a device, such as ``marl.Task``.
        algorithm: configuration of the algorithm, for all teams without one of their own.
        model: hyperparameters of the policies' networks; by default a ``Perceptron``.
        critic_model: hyperparameters of the critics' networks; by default those of ``model``.
        teams: differences from the environment's teams, by name; None stands for the defaults.
        settings: options of the run; by default ``Settings()``.
        directory: the run directory. Nothing of an earlier run is overwritten.
        resume: continue the run in ``directory``, where only ``run`` writes, from its checkpoint.
        sinks: loggers beside those of the settings.
        numbered: append a number to ``directory`` if it is in use.
        callbacks: functions to call during the run (``marl.Callback``).
        chosen: names of settings, such as ``algorithm.burn_in``, that are refused where nothing
            reads them; other such settings are warned of.

    Attributes:
        frames: number of frames played, over all ranks: one step of one environment each.
        iteration: number of rollouts that teams have learned from.
        teams: the algorithms, by team.
        replay: None if no team needs one.
        process: the random states and threads of the run.

    Raises:
        UserError: an option is wrong, or the directory cannot be used.
    """

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        trust: bool = False,
        callbacks: Sequence[Callback] = (),
        **changes: Any,
    ) -> Experiment:
        """Loads a run, to be continued by ``run`` from its last checkpoint.

        Args:
            directory: the run directory.
            trust: allow the run, and the runs that it refers to, to import third-party code even if
                another user made them.
            callbacks: functions to call during the run (``marl.Callback``).
            **changes: new values of settings, which ``run`` writes to the run's configuration.

        Raises:
            UserError: the run or the setting does not exist, or the value is wrong; or the run of
                another user names third-party code.
        """
        with accept_all(trust), naming_origin(Path(directory)):
            task, teams, settings = run_directory.resumed_parts(Path(directory), changes)
            experiment = cls(
                task, None, None, None, teams, settings, directory, resume=True,
                callbacks=callbacks,
            )  # fmt: skip
        if "total_frames" in changes:  # trains on, also where a callback ended it
            run_directory.check_total(Path(directory), settings.total_frames, experiment.frames)
            experiment.early_stop.requested = ""
        experiment.changes = {name: getattr(settings, name) for name in changes}
        return experiment

    # ------------------------------------------------------------------------------------- the loop

    def run(self) -> dict[str, list[float]]:
        """Trains to the end, or until a signal asks to stop.

        Returns:
            The episode returns of the last evaluation, by team.

        Raises:
            Diverged: a loss or gradient is not finite.
            EnvironmentFault: the environment returned a value that is not finite, from which no
                team has learned.
            WorkerError: a process of the environment failed; a run of one process is saved first.
            EndlessEpisode: an evaluation's episode is longer than allowed; saved likewise.
            Taken: another process trains in the directory, or has since this object was built.
            UserError: the directory cannot be written to, or its disk is full.
        """
        outcome = recorded(self.directory, self.stop)
        with self.locked(), outcome, self.process.use(), keep_freed_memory():
            try:
                self.begin()
                with self.stop.on_signals():
                    self._loop()
                    self.stop.agree()
                self.conclude()
            finally:
                self.log.close()
        return self.evaluations.returns

    def locked(self) -> AbstractContextManager[None]:
        """Locks the directory against other processes within a block, which may be nested.

        Errors of writing there become a ``UserError`` that explains them.
        """
        return self.files.locked()

    # ``run`` in parts, which the seeds of a stack take in turn (``marl.stacked_run``).

    def begin(self, progress: bool = True) -> None:
        """Prepares the directory and the loggers, on the first rank only.

        Args:
            progress: False to show no progress, whatever the settings say.
        """
        if distributed.rank():
            return
        self.files.begin(bool(self.ending), self.changes)
        config = to_plain(self.config())
        settings = self.settings if progress else replace(self.settings, progress=False)
        self.log.sinks += build_sinks(settings, self.directory, config, self.frames, self.resumed)
        if progress and self.frames == 0:
            parts = self.specs, self.teams, self.settings, self.evaluation_env
            cautions.print_warnings(*parts)
            self.start.print_table()

    def conclude(self) -> None:
        """Measures the best policies, on the first rank, of a run that no signal stopped."""
        self.stop.why = self.early_stop.reason
        if self.stop.signal is None and distributed.rank() == 0:
            parts = self.evaluation_env, self.specs, self.settings
            absolute_metric.measure(self.directory, *parts)

    def _loop(self) -> None:
        with self.explained():
            while not self.border():
                self._iterate()

    def border(self) -> bool:
        """Does what is due between two iterations: an evaluation, a new stage, a checkpoint.

        Returns:
            Whether the run is finished.
        """
        self.stop.agree()
        self.early_stop.agree()
        due = self.evaluations.is_due(self.frames, ends=bool(self.ending))
        if self.stop.signal is None and due:
            self._evaluate()
            self.stop.agree()
            self.early_stop.agree()
        if not self._finished():
            stage_borders.advance(self)
        if self._finished() or self.frames >= self.next_checkpoint:
            self.save()
        return self._finished()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Adds the last good checkpoint to faults of the environment within a block, and saves the
        run where one of its processes fails."""
        try:
            yield
        except EnvironmentFault as fault:
            last = self.checkpoints.last() or "none"
            raise EnvironmentFault(f"{fault}; the last good checkpoint is {last}") from None
        except (WorkerError, EndlessEpisode):
            if distributed.size() == 1:  # other ranks do not know of the error, and wait
                self.save()
            raise

    def _iterate(self) -> None:
        began, self.files.is_saved = time.perf_counter(), False
        with self.selfplay.playing_past_selves(self.frames) as playing:
            rollout, metrics = self.collector.collect()
        self.selfplay.credit(playing, rollout)
        self.past = list(playing)
        collect = time.perf_counter() - began
        self.callbacks.on_rollout(self, rollout)
        began = time.perf_counter()
        updates = self.learn(rollout)
        frames = rollout.frames * distributed.size()
        self.advance(frames, metrics, updates, (collect, time.perf_counter() - began))

    def advance(
        self,
        frames: int,
        metrics: Metrics,
        updates: dict[str, Metrics],
        seconds: tuple[float, float],
    ) -> None:
        """Counts and logs an iteration.

        Args:
            frames: that it played, over all ranks.
            metrics: of the episodes that ended in it.
            updates: each team's metrics, by team.
            seconds: of collecting, and of learning.
        """
        self.frames += frames
        self.iteration += 1
        numbers = read_metrics(metrics, updates)
        log_iteration(self, numbers, updates, timing(frames, *seconds))
        self.callbacks.on_update(self, updates)

    def learn(self, rollout: Rollout) -> dict[str, Metrics]:
        """Updates all teams from a rollout, after appending it to the replay.

        Teams whose past policies played the rollout are updated only if they learn from the replay.

        Args:
            rollout: the rollout of this rank.

        Returns:
            Each team's metrics, by team.
        """
        if self.replay is not None:
            self.replay.append(rollout)
        absent = [n for n in self.past if not needs_replay(self.specs[n].algorithm)]
        present = {name: team for name, team in self.teams.items() if name not in absent}
        return {name: team.update(rollout) for name, team in present.items()}

    def _evaluate(self) -> None:
        began, self.files.is_saved = time.perf_counter(), False
        stage = self.stages.record()
        record = {"frames": self.frames, **stage, **self.evaluations.play(self.frames)}
        self.log.log("evaluations", record)
        self.log.log("timing", {"frames": self.frames, "evaluate": time.perf_counter() - began})
        if distributed.rank() == 0:
            self.callbacks.on_evaluation(self, record)
        self.stages.observe(record, self.teams)
        if self.stages.is_last:
            self.early_stop.observe(self.frames, self.evaluations.returns)
        best = self.evaluations.update_best()
        if distributed.maximum(len(best)):
            self.save(best)

    def log_metrics(self, numbers: Mapping[str, float]) -> None:
        """Logs numbers of a callback beside the run's own, of rank 0.

        Args:
            numbers: by name, such as ``mine/spread``; those that are not finite are left out.

        Raises:
            UserError: a name is ``frames`` or ``iteration``, which each line has.
        """
        about = {"frames": self.frames, "iteration": self.iteration}
        self.log.log("metrics", {**about, **numbers_to_log(numbers, about)})

    def finish(self, why: str) -> None:
        """Ends the run at the end of its iteration, as a finished one; for callbacks.

        Args:
            why: the reason, which is printed and stored.
        """
        self.early_stop.request = why

    def save(self, best: Sequence[str] = ()) -> None:
        """Writes a checkpoint, unless one was written at the same number of frames.

        Args:
            best: names of the teams for which it is also stored as the best so far.
        """
        self.next_checkpoint = self.frames + self.settings.checkpoint_interval
        if self.files.is_saved:
            return
        replay = self.replay if self.settings.replay_checkpoint else None
        state = None if replay is None else replay.state_dict()
        self.files.save(self.frames, state_of(self), best, state)

    @property
    def ending(self) -> str:
        """Why the run is finished; empty if it is not."""
        if self.frames >= self.settings.total_frames:
            return f"all its {self.frames:,} frames are played"
        return self.early_stop.reason

    def _finished(self) -> bool:
        return self.stop.signal is not None or bool(self.ending)

    # ------------------------------------------------------------------------------------- pictures

    def film(self, seed: int = 0) -> list:
        """Plays one greedy episode.

        Args:
            seed: another seed shows another episode.

        Returns:
            The pictures of its steps, ``[H, W, 3]`` uint8 each.
        """
        with self.process.use():
            seed = seeding.evaluation_seed(self.settings.seed, "film", seed)
            with closing(self.make(1, self.device)) as env:
                return film(env, self.teams, seed)
