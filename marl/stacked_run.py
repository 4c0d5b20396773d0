"""Several seeds of one run in one process, each with a run directory of its own.

Every seed is an ``Experiment``: it evaluates, logs and saves by itself. Only rollouts and learning
are those of all seeds at once. The seeds play in step: those with the fewest frames go on while the
others wait, whose places in the stack hold numbers that nobody reads until they join in again from
their checkpoints. So a stack that was killed is resumed exactly, wherever its seeds were saved.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

from marl.algorithm import Stackable, is_stackable
from marl.env import pure_env
from marl.errors import Diverged, UserError
from marl.experiment import Experiment
from marl.training.execution import PREPARE
from marl.training.run_outcome import recorded
from marl.training.signals import Stop
from marl.training.stacked_rollout import StackedCollector
from marl.types import Metrics
from marl.utils import distributed
from marl.utils.capabilities import learns
from marl.utils.capture import fall_back
from marl.utils.device import keep_freed_memory, use_threads
from marl.utils.programs import eager
from marl.utils.serialization import to_plain


class StackedRun:
    """Trains the seeds of a stack.

    Args:
        runs: of the seeds, built of the same settings but for the seed. From now on only this
            object trains them.

    Attributes:
        stop: a signal that stops all seeds.
        diverged: the errors of seeds whose losses were not finite; the others go on.

    Raises:
        UserError: they cannot be trained in one stack; says what to use instead.
    """

    def __init__(self, runs: Sequence[Experiment]):
        self.runs, first = list(runs), runs[0]
        check(first)
        check_alike(runs)
        with use_threads(first.settings.threads):  # on which depends what is stacked
            self.teams = {
                name: cast(Stackable, team).stack([run.teams[name] for run in runs])
                for name, team in first.teams.items()
            }
        self.collector = StackedCollector(
            [run.collector for run in runs], self.teams, PREPARE.get(first.execution, eager),
            lambda error: fall_back(first.execution, "the rollout", error),
        )  # fmt: skip
        self.stop = Stop()
        self.diverged: dict[Experiment, Diverged] = {}
        self._own = set(runs)  # runs whose own state is in the stack

    def run(self) -> None:
        """Trains all seeds to their ends, or until a signal asks to stop.

        A seed whose loss or gradient is not finite ends, and is in ``diverged``.

        Raises:
            UserError: as of ``Experiment.run``.
        """
        first = self.runs[0]
        with use_threads(first.settings.threads), keep_freed_memory(), ExitStack() as blocks:
            self._blocks = {run: blocks.enter_context(ExitStack()) for run in self.runs}
            for run, block in self._blocks.items():
                block.enter_context(run.locked())
                block.enter_context(recorded(run.directory, run.stop))
                block.callback(run.log.close)
                with run.process.use():
                    run.begin(progress=run is first)
            with self.stop.on_signals():
                self._loop()
            for run in self._remaining():
                with run.process.use():
                    run.conclude()

    def _loop(self) -> None:
        unfinished = self.runs
        while unfinished:
            signal = self.stop.local_signal
            frames = min(run.frames for run in unfinished)
            present = [run for run in unfinished if run.frames == frames]
            self._join(present)
            for run in present:
                run.stop.local_signal = signal
            ended = [run for run in present if self._border(run)]
            if len(ended) < len(present):
                self._iterate([run for run in present if run not in ended])
            unfinished = [r for r in unfinished if r not in ended and r not in self.diverged]
        self.stop.signal = self.stop.local_signal
        self._join(self._remaining())

    def _remaining(self) -> list[Experiment]:
        return [run for run in self.runs if run not in self.diverged]

    def _join(self, runs: Sequence[Experiment]) -> None:
        """Brings runs that waited back to where they were saved."""
        for run in runs:
            if run not in self._own:
                with run.process.use():
                    run.reload()
                self._own.add(run)

    @staticmethod
    def _border(run: Experiment) -> bool:
        with run.process.use(), run.explained():
            return run.border()

    def _iterate(self, runs: Sequence[Experiment]) -> None:
        """Plays and learns, of which runs that do not take part keep nothing."""
        self._own = set(runs)
        for run in runs:
            run.files.is_saved = False
        began, numbers = time.perf_counter(), {run: n for n, run in enumerate(self.runs)}
        parts, rollout = self.collector.collect()
        metrics: dict[Experiment, Metrics] = {}
        for run in runs:
            with self._ending_diverged(run), run.explained():
                metrics[run] = run.collector.metrics(*parts[numbers[run]])
        collect = time.perf_counter() - began
        for run in metrics:
            run.callbacks.on_rollout(run, parts[numbers[run]][0])
        began = time.perf_counter()
        learned = {n: team.update(rollout, runs[0].iteration) for n, team in self.teams.items()}
        seconds = collect, time.perf_counter() - began
        for run in metrics:
            updates = {name: of_seeds[numbers[run]] for name, of_seeds in learned.items()}
            with self._ending_diverged(run):
                run.advance(rollout.start[0].numel(), metrics[run], updates, seconds)

    @contextmanager
    def _ending_diverged(self, run: Experiment) -> Iterator[None]:
        """Ends a run whose numbers are not finite."""
        try:
            yield
        except Diverged as error:
            self.diverged[run] = error
            self._blocks[run].__exit__(Diverged, error, error.__traceback__)
            self._blocks[run].pop_all()


def check(run: Experiment) -> None:
    """Checks that seeds of a run can be trained in one stack.

    Args:
        run: the run of one of them.

    Raises:
        UserError: they cannot; says what to use instead.
    """
    settings = run.settings
    alone = "leave stacked_seeds out, and start seeds one after another with -m seed=0,1,2"
    if pure_env(run.env) is None:
        raise UserError(
            "stacked_seeds needs a task whose copies are stepped as tensors (mpe/…, navigation/…, "
            f"games/…, foraging/…) without wrappers, and a {type(run.env).__name__} is not; {alone}"
        )
    for name, team in run.teams.items():
        if not is_stackable(team):
            kind = f"{type(team).__name__} with {type(team.policy).__name__}"
            words = f"learns by {kind}" if learns(team) else "is frozen or scripted"
            raise UserError(
                "stacked_seeds needs teams that learn in a stack (by mappo or ippo), and team "
                f"{name!r} {words}; {alone}"
            )
    reasons: dict[str, Any] = {
        "a curriculum": len(run.stages) > 1,
        "self-play": settings.selfplay.share,
        "wandb=true": settings.wandb,
        "torchrun": distributed.size() > 1,
    }
    for what, is_set in reasons.items():
        if is_set:
            raise UserError(f"stacked_seeds does not work with {what}; {alone}")


def check_alike(runs: Sequence[Experiment]) -> None:
    """Raises UserError where runs differ in more than their seed."""
    configs = [to_plain(run.config()) for run in runs]
    for config in configs:
        config["settings"].pop("seed")
    for run, config in zip(runs, configs, strict=True):
        for key in (key for key in configs[0] if config.get(key) != configs[0][key]):
            mine, other = configs[0][key], config.get(key)
            if key == "settings":
                key = next(name for name in mine if mine[name] != other.get(name))
                mine, other = mine[key], other.get(key)
            values = f": {mine} and {other}" if key != "teams" and key != "task" else ""
            raise UserError(
                f"the seeds of a stack differ in their seed only, and {str(runs[0].directory)!r} "
                f"and {str(run.directory)!r} differ in {key}{values}; make them alike, or resume "
                "each by itself"
            )
