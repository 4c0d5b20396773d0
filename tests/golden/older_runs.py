"""Run directories of an older version, cut off in the middle: they must evaluate, resume and
tabulate for as long as the project lives.

``python -m tests.golden.older_runs NAME`` makes another beside them, in this version's format. It
never replaces one.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch

from tests.golden.golden import HERE, marl

FOLDER = HERE / "older"
EXPECTED = ("evaluations.jsonl", "metrics.jsonl", "absolute.json")  # of the run's end

COMMON = [
    "total_frames=1200", "num_envs=4", "steps=25", "evaluation_interval=400", "video=false",
    "evaluation_episodes=4", "absolute_episodes=8", "checkpoint_interval=600", "progress=false",
    "threads=1", "seed=5", "checkpoints_kept=0", "model.hidden=[4]",
]  # fmt: skip
WORDS = {
    # Two teams: recurrent on policy against opponent models, a replay and two critics off policy.
    "tag": [
        "task=mpe/simple_tag", "replay_size=200", "selfplay.share=0.25", "selfplay.interval=400",
        "teams.agent.algorithm=mappo", "teams.agent.algorithm.epochs=2", "teams.agent.model=mlp",
        "teams.agent.model.hidden=[4]", "teams.agent.model.gru=4", "teams.agent.critic_model=mlp",
        "teams.agent.critic_model.hidden=[4]", "teams.agent.algorithm.chunk_length=5",
        "algorithm=maddpg", "algorithm.inference=true", "algorithm.critic=team",
        "algorithm.critics=2", "algorithm.warmup=200", "algorithm.batch_size=16",
        "model.normalize_obs=true",
    ],
    # A joint policy whose graph is learned and annealed.
    "coordination": [
        "task=games/coordination", "task.kwargs.N=3", "algorithm=mappo", "algorithm.epochs=2",
        "algorithm.joint.graph=learned", "algorithm.joint.anneal=true",
        "algorithm.minibatch_size=50",
    ],
    # Soft critics, sequential actors, continuous actions.
    "speaker_listener": [
        "task=mpe/simple_speaker_listener", "task.kwargs.continuous_actions=true",
        "replay_size=200", "algorithm=hasac", "algorithm.warmup=200", "algorithm.batch_size=16",
    ],
}  # fmt: skip


def evaluate_words(run: str) -> list[str]:
    return ["evaluate", run, "--episodes", "4", "--seed", "7", "--json"]


def make(to: Path) -> None:
    """Trains each run below ``to``, keeps how it ended and winds it back to the checkpoint before
    the last one, as if it had been killed there."""
    commands = [["train", *COMMON, *words, f"directory={name}"] for name, words in WORDS.items()]
    marl(commands, to)
    for name in WORDS:
        run = to / name
        expected = run / "expected"
        expected.mkdir()
        for log in EXPECTED:
            shutil.copyfile(run / log, expected / log)
        _wind_back(run)
        (expected / "evaluated.json").write_text(marl([evaluate_words(name)], to))


def _wind_back(run: Path) -> None:
    checkpoints = run / "checkpoints"
    kept = sorted(checkpoints.glob("frames-*.pt"))[-2]
    bests = list(checkpoints.glob("best-*.pt"))
    newer = [path for path in bests if _frames(path) > _frames(kept)]
    newest = {path.stem.rpartition("-")[0]: path for path in sorted(set(bests) - set(newer))}
    for path in checkpoints.glob("*.pt"):
        if path not in (kept, *newest.values()):
            path.unlink()
            path.with_suffix(".pt.sha256").unlink()
    state = torch.load(kept, weights_only=True)
    for name, size in state["log"].items():
        path = run / f"{name}.jsonl"
        path.write_bytes(path.read_bytes()[:size])
    for name in ("absolute.json", "curve.png", ".lock"):
        (run / name).unlink(missing_ok=True)
    provenance = json.loads((run / "provenance.json").read_text())
    provenance |= {"command": ["marl", "train"], "directory": None}
    (run / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")


def _frames(checkpoint: Path) -> int:
    return int(checkpoint.stem.rpartition("-")[2])


if __name__ == "__main__":
    target = FOLDER / sys.argv[1]
    target.mkdir(parents=True)
    make(target)
