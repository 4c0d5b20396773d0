"""Many children at once: order, failures, signals, and runs that another launcher still holds."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from marl.launch.job import Job
from marl.launch.progress import run_progress
from marl.launch.scheduler import JobScheduler

# A child that is a run: its words are done one after the other.
CHILD = """
import json, os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1]); folder.mkdir(exist_ok=True)
with open(folder / "times", "a") as file: file.write("x")
(folder / "config.json").write_text('{"learning": 2}')
def stop(*_): (folder / "saved").touch(); sys.exit(143)
signal.signal(signal.SIGTERM, stop)
for word in sys.argv[2:]:
    if word == "fail" : print("something broke"); sys.exit(3)
    if word == "wait":
        while not (folder / "go").exists(): time.sleep(0.01)
    if word.startswith("device="): (folder / "device").write_text(word)
(folder / "end").touch()
"""


@dataclass(frozen=True)
class Stub(Job):
    def command(self) -> list[str]:
        return [sys.executable, "-c", CHILD, str(self.directory), *self.words]


def stub(folder: Path, name: str, *words: str) -> Stub:
    return Stub(name, words, folder / name)


def statuses(scheduler: JobScheduler) -> dict[str, str]:
    return {outcome.job.name: outcome.status for outcome in scheduler.outcomes}


def test_a_failure_is_told_with_its_log_and_the_others_go_on(tmp_path: Path) -> None:
    jobs = [stub(tmp_path, "a"), stub(tmp_path, "b", "fail"), stub(tmp_path, "c")]
    ended: list[str] = []
    scheduler = JobScheduler(jobs, 2, lambda job: ended.append(job.name))
    scheduler.run(every=0.01)
    assert statuses(scheduler) == {"a": "done", "b": "failed", "c": "done"}
    assert sorted(ended) == ["a", "c"]
    why = next(o.why for o in scheduler.outcomes if o.job.name == "b")
    assert why.startswith("something broke (exit code 3)\n")


def test_what_finishing_raises_makes_the_job_failed(tmp_path: Path) -> None:
    def refuse(job: Job) -> None:
        raise ValueError(f"no {job.name}")

    scheduler = JobScheduler([stub(tmp_path, "a")], 1, refuse)
    scheduler.run(every=0.01)
    assert [(o.status, o.why) for o in scheduler.outcomes] == [("failed", "no a")]


def test_so_many_at_once_each_in_a_place_of_its_own(tmp_path: Path) -> None:
    jobs = [stub(tmp_path, name, "wait") for name in "abc"]
    most, devices = 0, set()

    def watch(scheduler: JobScheduler) -> None:
        nonlocal most
        most = max(most, len(scheduler.running))
        if most == 2:
            for job in jobs:
                if job.directory.is_dir():
                    (job.directory / "go").touch()

    JobScheduler(jobs, 2, places=["device=x", "device=y"]).run(watch, every=0.01)
    devices = {(job.directory / "device").read_text() for job in jobs}
    assert most == 2 and devices == {"device=x", "device=y"}


def test_a_signal_lets_the_children_save(tmp_path: Path) -> None:
    jobs = [stub(tmp_path, "a", "wait"), stub(tmp_path, "b")]

    def watch(scheduler: JobScheduler) -> None:
        if (jobs[0].directory / "config.json").exists() and not scheduler.signals:
            os.kill(os.getpid(), signal.SIGTERM)

    scheduler = JobScheduler(jobs, 1)
    scheduler.run(watch, every=0.01)
    assert scheduler.signals == [signal.SIGTERM]
    assert statuses(scheduler) == {"a": "stopped", "b": "stopped"}
    assert (tmp_path / "a" / "saved").exists() and not (tmp_path / "b").exists()


def test_a_run_that_another_launcher_holds_is_waited_for(tmp_path: Path) -> None:
    """Never two processes in one directory; and what the first left is looked at again."""
    job = stub(tmp_path, "a", "wait")
    first = JobScheduler([job], 1)
    first._start_jobs()  # and then its launcher is gone
    holder = first.running[0].process
    assert holder is not None
    second = JobScheduler([job], 1)
    timer = threading.Timer(0.5, (tmp_path / "a" / "go").touch)

    def watch(scheduler: JobScheduler) -> None:
        if not timer.is_alive() and (tmp_path / "a").is_dir() and not timer.finished.is_set():
            timer.start()
        if holder.poll() is None and (tmp_path / "a" / "times").exists():
            assert (tmp_path / "a" / "times").read_text() == "x"

    second.run(watch, every=0.01)
    timer.join()
    assert statuses(second) == {"a": "done"}
    assert holder.wait() == 0 and (tmp_path / "a" / "times").read_text() == "xx"


def test_a_launcher_takes_what_another_leaves(tmp_path: Path) -> None:
    """A run that another launcher holds takes none of our places, while that one lives."""
    held, free = stub(tmp_path, "a", "wait"), stub(tmp_path, "b")
    first = JobScheduler([held], 1)
    first._start_jobs()
    ends: list[str] = []

    def watch(scheduler: JobScheduler) -> None:
        if "b" in ends and held.directory.is_dir():
            (tmp_path / "a" / "go").touch()

    second = JobScheduler([held, free], 1, lambda job: ends.append(job.name))
    second.run(watch, every=0.01)
    assert ends == ["b", "a"]
    assert first.running[0].process is not None and first.running[0].process.wait() == 0


def test_what_a_killed_launcher_left_counts_among_those_at_once(tmp_path: Path) -> None:
    held, free = stub(tmp_path, "a", "wait"), stub(tmp_path, "b")
    first = JobScheduler([held], 1)
    first._start_jobs()
    gone = subprocess.Popen(["true"])
    gone.wait()
    held.lock.write_text(f"{socket.gethostname()} {gone.pid}\n")  # as if it had been the launcher
    ends: list[str] = []
    looks = 0

    def watch(scheduler: JobScheduler) -> None:
        nonlocal looks
        looks += held.directory.is_dir()
        if looks == 20:
            assert not ends, "b began beside a"
            (tmp_path / "a" / "go").touch()

    JobScheduler([held, free], 1, lambda job: ends.append(job.name)).run(watch, every=0.01)
    assert ends == ["a", "b"]
    assert first.running[0].process is not None and first.running[0].process.wait() == 0


def test_what_another_launcher_did_is_not_done_again(tmp_path: Path) -> None:
    jobs = [stub(tmp_path, name) for name in "abc"]
    kept: list[str] = []
    scheduler = JobScheduler(
        jobs, 1, lambda job: kept.append(job.name), is_done=lambda job: job.name == "b"
    )
    scheduler.run(every=0.01)
    assert statuses(scheduler) == dict.fromkeys("abc", "done")
    assert kept == ["a", "c"] and not (tmp_path / "b").exists()


def test_what_another_launcher_ends_meanwhile_has_not_failed(tmp_path: Path) -> None:
    job = stub(tmp_path, "a", "fail")  # as resuming a pruned run does
    scheduler = JobScheduler([job], 1, is_done=lambda job: job.directory.is_dir())
    scheduler.run(every=0.01)
    assert statuses(scheduler) == {"a": "done"}


def test_a_run_begun_with_other_settings_is_not_gone_on_with(tmp_path: Path) -> None:
    JobScheduler([stub(tmp_path, "a", "x=1")], 1).run(every=0.01)
    scheduler = JobScheduler([stub(tmp_path, "a", "x=2")], 1)
    scheduler.run(every=0.01)
    (outcome,) = scheduler.outcomes
    assert outcome.status == "failed" and "x=1 there, x=2 now" in outcome.why
    again = JobScheduler([stub(tmp_path, "a", "x=1")], 1)
    again.run(every=0.01)
    assert statuses(again) == {"a": "done"}


def test_what_never_began_begins_anew(tmp_path: Path) -> None:
    """A directory without a configuration is of a run killed before it wrote one."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "rest").touch()
    scheduler = JobScheduler([stub(tmp_path, "a")], 1)
    scheduler.run(every=0.01)
    assert statuses(scheduler) == {"a": "done"} and not (tmp_path / "a" / "rest").exists()


def test_how_far_a_run_is(tmp_path: Path) -> None:
    assert run_progress(tmp_path / "none").total == 0
    (tmp_path / "config.json").write_text(json.dumps({"settings": {"total_frames": 400}}))
    assert run_progress(tmp_path).frames == 0
    lines = [
        {"frames": 0, "evaluate": 9.0},
        {"frames": 100, "collect": 1.0, "update": 1.0},
        {"frames": 100, "evaluate": 2.0},
        {"frames": 200, "collect": 1.0, "update": 1.0},
    ]
    (tmp_path / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with open(tmp_path / "timing.jsonl", "a") as file:
        file.write('{"frames": 3')  # half a line
    (tmp_path / "evaluations.jsonl").write_text('{"frames": 0, "returns": {"team": [1.0, 2.0]}}\n')
    found = run_progress(tmp_path)
    assert (found.frames, found.total, found.returns) == (200, 400, "team 1.50 (at 0)")
    assert found.speed == pytest.approx(200 / 6)  # frames over all that was spent on them


def test_frames_are_those_asked_for_in_whole_iterations(tmp_path: Path) -> None:
    settings = {"total_frames": 10_000, "num_envs": 32, "steps": 100}
    (tmp_path / "config.json").write_text(json.dumps({"settings": settings}))
    found = run_progress(tmp_path)
    assert found.total == 12_800
    assert found.rounding == "12,800 for the 10,000 asked, in whole iterations of 3,200"
    settings["total_frames"] = 12_800
    (tmp_path / "config.json").write_text(json.dumps({"settings": settings}))
    assert (run_progress(tmp_path).total, run_progress(tmp_path).rounding) == (12_800, "")


def test_a_run_of_an_older_version_is_set_aside(tmp_path: Path) -> None:
    """Whatever its settings were, and as often as it happens; one of this version goes on."""
    for number in (1, 2):
        job = stub(tmp_path, "a", str(number))
        job.directory.mkdir(exist_ok=True)
        (job.directory / "config.json").write_text("{}")
        (job.directory / "old").write_text(str(number))
        assert job.outdated
        scheduler = JobScheduler([job], 1)
        scheduler.run(every=0.01)
        assert statuses(scheduler) == {"a": "done"} and not job.outdated
        assert (job.directory / "times").read_text() == "x"
    assert [(tmp_path / f"a.learning-1{end}/old").read_text() for end in ("", "-2")] == ["1", "2"]
    JobScheduler([job], 1).run(every=0.01)
    assert (job.directory / "times").read_text() == "xx"


def test_a_run_goes_on_to_the_episodes_that_are_asked_for(tmp_path: Path) -> None:
    words = ("task=a", "absolute_episodes=8")
    job = Job("a", words, tmp_path / "a")
    assert job.command()[3:6] == ["marl", "train", "task=a"]
    job.directory.mkdir()
    (job.directory / "config.json").write_text('{"learning": 2}')
    assert job.command()[4:] == ["resume", str(job.directory), "absolute_episodes=8"]
    job.words_file.write_text(json.dumps(["task=a"]))
    assert job.other_settings() == ""
    job.words_file.write_text(json.dumps(["task=b", "absolute_episodes=8"]))
    assert "task=b there, task=a now" in job.other_settings()
    job.words_file.write_text("")  # by a launcher of before that was killed
    assert job.other_settings() == ""


def test_the_rest_of_a_suite_is_estimated() -> None:
    from marl.cli.progress import clock, remaining
    from marl.launch.progress import RunProgress

    half = RunProgress(50, 100, 10.0, "")
    assert remaining({}, 3, 2, []) is None
    assert remaining({"a": half, "b": half}, 2, 2, []) == (5 + 5 + 2 * 10) / 2
    assert remaining({"a": half}, 0, 2, [30.0]) == 5
    over = RunProgress(12_800, 10_000, 10.0, "")  # the last iteration goes beyond what was asked
    assert over.seconds == 0 and remaining({"a": over}, 0, 2, []) == 0
    assert remaining({"a": over, "b": half}, 0, 2, []) == 5
    stopped = RunProgress(50, 100, 0.0, "")
    assert stopped.seconds is None and remaining({"a": stopped}, 0, 1, []) is None
    assert (clock(None), clock(59.6), clock(3661)) == ("-:--", "1:00", "1:01:01")
