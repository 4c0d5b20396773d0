"""The loop: collect, update, log, evaluate, checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from marl import absolute, runs, seeding
from marl.checkpoint import Checkpoints, random_state, set_random_state
from marl.collect import Collector
from marl.device import find_device, keep_freed_memory
from marl.env import VectorEnv
from marl.errors import Diverged, UserError, WorkerError
from marl.evaluation import Evaluations, film
from marl.logging import JsonlSink, Log, Sink, finite, require_tensorboard, wanted_sinks
from marl.networks import Perceptron
from marl.selfplay import SelfPlay
from marl.settings import Settings
from marl.stopping import Stop, full_disk_explained
from marl.teams import Shape, Team, build_replay, build_teams, resolve_teams
from marl.types import Metrics, Rollout

MakeEnv = Callable[[int, torch.device], VectorEnv]  # (num_envs, device)


class Experiment:
    """One training run, from plain Python objects.

    Args:
        task: makes an environment of so many copies on a device; ``envs.Task`` is one.
        algorithm: an algorithm's configuration, of every team that ``teams`` gives no other.
        model, critic_model: of the policies and the critics; the critics' default is the policies'.
        teams: what differs from the environment's own teams, by name.
        directory: where the run is kept; nothing of an earlier run is overwritten.
        resume: continue the run in ``directory`` from its last checkpoint.
        sinks: loggers besides those of the settings.
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
    ):
        self.settings = settings = settings or Settings()
        self.directory, self.task = Path(directory), task
        if resume:
            runs.check(self.directory)
        if settings.tensorboard:
            require_tensorboard()
        self.device = find_device(settings.device)
        keep_freed_memory()
        if settings.threads:
            torch.set_num_threads(settings.threads)
        seeding.seed_everything(settings.seed)
        self.env = task(settings.num_envs, self.device)
        evaluation_env = task(min(32, settings.evaluation_episodes), self.device)
        default = Team(None, algorithm, model or Perceptron(), critic_model)
        self.specs = resolve_teams(self.env, teams or {}, default)
        shape = Shape(settings.num_envs, settings.steps, settings.iterations)
        self.replay = build_replay(self.specs, settings, self.device)
        self.teams = build_teams(self.env, self.specs, shape, settings.seed, self.replay)
        self.collector = Collector(
            self.env,
            self.teams,
            settings.steps,
            seeding.training_seed(settings.seed),
            seeding.generator(self.device, settings.seed, "acting"),
        )
        if self.replay is not None:
            self.replay.allocate(self.collector.example())
        past = seeding.generator(torch.device("cpu"), settings.seed, "selfplay")
        self.selfplay = SelfPlay(settings.selfplay, self.teams, past)
        self.past: list[str] = []  # the teams that played the last rollout as they had been
        self.frames, self.iteration = 0, 0
        self.next_checkpoint = settings.checkpoint_interval
        self.evaluations = Evaluations(evaluation_env, self.teams, settings)
        self.stop = Stop()
        self.checkpoints = Checkpoints(self.directory / "checkpoints", settings.checkpoints_kept)
        if not resume:
            self.selfplay.fill(self.device)
            runs.create(self.directory, self.config())
        self.jsonl = JsonlSink(self.directory)
        if resume:
            self._resume()
        config = runs.to_plain(self.config())
        wanted = wanted_sinks(settings, self.directory, config, self.frames, resume)
        self.log = Log([self.jsonl, *wanted, *(sinks or [])])

    @classmethod
    def load(cls, directory: str | Path, **changes: Any) -> Experiment:
        """The run in ``directory``, to be continued from its last checkpoint."""
        config = runs.read_config(Path(directory))
        teams, settings = config["teams"], config["settings"]
        task: MakeEnv | None = config["task"]
        if task is None:
            raise UserError(
                f"{str(directory)!r} was made from Python by a function without a name; "
                "build the same Experiment(..., resume=True) there"
            )
        for name, value in changes.items():
            setattr(settings, name, value)
        experiment = cls(task, None, None, None, teams, settings, directory, resume=True)
        if changes:
            runs.write_config(Path(directory), experiment.config())
        return experiment

    def config(self) -> dict[str, Any]:
        """What the run is made of, as objects."""
        task = self.task if hasattr(self.task, "__dataclass_fields__") else None
        return {"task": task, "settings": self.settings, "teams": self.specs}

    # ------------------------------------------------------------------------------------- the loop

    def run(self) -> dict[str, list[float]]:
        """Trains to the end, or until a signal asks to stop; returns the last evaluation's returns.

        Raises:
            Diverged: a loss or gradient is not finite.
            WorkerError: an environment's process failed; what was learned is saved.
        """
        try:
            with self.stop.on_signals(), full_disk_explained(self.directory):
                self._loop()
            if self.stop.signal is None:
                absolute.measure(self.directory, self.evaluations.env, self.specs, self.settings)
        finally:
            self.log.close()
        return self.evaluations.returns

    def _loop(self) -> None:
        while True:
            try:
                if self.stop.signal is None and self.evaluations.due(self.frames):
                    self._evaluate()
                if self._finished() or self.frames >= self.next_checkpoint:
                    self.save()
                if self._finished():
                    return
                self._iterate()
            except WorkerError:
                self.save()
                raise

    def _iterate(self) -> None:
        began = time.perf_counter()
        with self.selfplay.dressed(self.frames) as playing:
            rollout, metrics = self.collector.collect()
        self.selfplay.credit(playing, rollout)
        self.past = list(playing)
        collected = time.perf_counter()
        updates = self.learn(rollout)
        self.frames += rollout.frames
        self.iteration += 1
        self._log_metrics(metrics, updates)
        self._log_timing(rollout.frames, collected - began, time.perf_counter() - collected)

    def learn(self, rollout: Rollout) -> dict[str, Metrics]:
        """Every team's update from the rollout, and from what is kept of those before; not of teams
        that played it as they had been, unless they learn from the replay."""
        if self.replay is not None:
            self.replay.append(rollout)
        absent = [n for n in self.past if not getattr(self.specs[n].algorithm, "replays", False)]
        present = {name: team for name, team in self.teams.items() if name not in absent}
        return {name: team.update(rollout) for name, team in present.items()}

    def _log_metrics(self, metrics: Mapping, updates: Mapping[str, Mapping]) -> None:
        """Reads all of the iteration's numbers off the device at once."""
        named = {f"{k}/{team}": v for team, values in updates.items() for k, v in values.items()}
        tensors = {**metrics, **named}
        numbers = dict(zip(tensors, torch.stack(list(tensors.values())).tolist(), strict=True))
        for name in named:
            if not math.isfinite(numbers[name]):
                raise Diverged(
                    f"{name} is {numbers[name]} at iteration {self.iteration} "
                    f"({self.frames:,} frames); the last good checkpoint is "
                    f"{self.checkpoints.last() or 'none'}"
                )
        record = {"frames": self.frames, "iteration": self.iteration, **finite(numbers)}
        self.log.log("metrics", record)

    def _log_timing(self, frames: int, collect: float, update: float) -> None:
        speed = frames / (collect + update)
        record = {"collect": collect, "update": update, "frames_per_second": speed}
        self.log.log("timing", {"frames": self.frames, **record})

    def _evaluate(self) -> None:
        began = time.perf_counter()
        self.log.log("evaluations", {"frames": self.frames, **self.evaluations.play(self.frames)})
        self.log.log("timing", {"frames": self.frames, "evaluate": time.perf_counter() - began})
        if better := self.evaluations.better():
            self.save(better)

    def save(self, best: Sequence[str] = ()) -> None:
        """Writes a checkpoint of everything that decides what comes next; kept as the best of the
        teams ``best``."""
        self.next_checkpoint = self.frames + self.settings.checkpoint_interval
        state = {
            "frames": self.frames,
            "iteration": self.iteration,
            "evaluations": self.evaluations.state_dict(),
            "teams": {name: team.state_dict() for name, team in self.teams.items()},
            "selfplay": self.selfplay.state_dict(),
            "collector": self.collector.state_dict(),
            "random": random_state(self.device),
            "log": self.jsonl.position(),
        }
        replay = self.replay if self.settings.replay_checkpoint else None
        self.checkpoints.save(
            self.frames, state, best, None if replay is None else replay.state_dict()
        )

    def _resume(self) -> None:
        try:
            _, state = self.checkpoints.load_last(self.device)
        except UserError:
            if self.checkpoints.last() is not None:
                raise
            # Killed before the first checkpoint: from the beginning.
            self.jsonl.rewind(dict.fromkeys(self.jsonl.files, 0))
            self.selfplay.fill(self.device)
            return
        self.frames, self.iteration = state["frames"], state["iteration"]
        self.next_checkpoint = self.frames + self.settings.checkpoint_interval
        self.evaluations.load_state_dict(state["evaluations"])
        for name, team in self.teams.items():
            team.load_state_dict(state["teams"][name])
        if "selfplay" in state:  # not in older ones
            self.selfplay.load_state_dict(state["selfplay"])
        if self.replay is not None and "replay" in state:
            self.replay.load_state_dict(state["replay"])
        if not self.collector.load_state_dict(state["collector"]):
            self.collector.restart(seeding.training_seed(self.settings.seed, self.frames))
        self.jsonl.rewind(state["log"])
        set_random_state(state["random"], self.device)

    def _finished(self) -> bool:
        return self.stop.signal is not None or self.frames >= self.settings.total_frames

    # ------------------------------------------------------------------------------------- pictures

    def film(self, seed: int = 0) -> list:
        """The frames of one greedy episode, ``[H, W, 3]`` uint8 each."""
        env = self.task(1, self.device)
        try:
            return film(env, self.teams, seeding.evaluation_seed(self.settings.seed, "film", seed))
        finally:
            env.close()

    def close(self) -> None:
        self.env.close()
        self.evaluations.env.close()
