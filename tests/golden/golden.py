"""Six small runs whose numbers were written down before the code moved, and how to play them again.

``python -m tests.golden.golden`` writes ``hashes.json`` anew: only where learning itself is to
change (``marl.utils.versions``).
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
HASHES = HERE / "hashes.json"

COMMON = [
    "total_frames=1200", "num_envs=8", "steps=25", "evaluation_interval=400",
    "evaluation_episodes=8", "absolute_episodes=0", "checkpoint_interval=600", "seed=3",
    "progress=false", "video=false", "threads=1", "model.hidden=[16]",
]  # fmt: skip
ON_POLICY = ["algorithm.epochs=3", "algorithm.minibatch_size=100"]
OFF_POLICY = [
    "replay_size=800", "algorithm.warmup=200", "algorithm.batch_size=32",
    "algorithm.frames_per_update=40", "model.activation=relu",
]  # fmt: skip
CONTINUOUS = "task.kwargs.continuous_actions=true"
RUNS = {
    "mappo": ["task=mpe/simple_spread", "algorithm=mappo", *ON_POLICY],
    "mappo_gru": [
        "task=mpe/simple_speaker_listener", "algorithm=mappo", "model=gru", "model.gru=8",
        "algorithm.chunk_length=5", "algorithm.anneal_lr=true", *ON_POLICY,
    ],
    "happo": ["task=mpe/simple_spread", CONTINUOUS, "algorithm=happo", *ON_POLICY],
    "hasac": ["task=mpe/simple_speaker_listener", CONTINUOUS, "algorithm=hasac", *OFF_POLICY],
    "maddpg_inference": [
        "task=mpe/simple_tag", "algorithm=maddpg", "algorithm.inference=true", *OFF_POLICY,
    ],
    "bayesian_annealed": [
        "task=games/coordination", "algorithm=mappo", "algorithm.joint.graph=learned",
        "algorithm.joint.anneal=true", *ON_POLICY,
    ],
}  # fmt: skip

# The instructions that every x86 processor has, so that its make changes no bit.
PORTABLE = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
PLAY = """
import json, sys
from marl.cli.main import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""


def marl(commands: list[list[str]], folder: Path) -> str:
    """Runs ``marl words...`` for each of ``commands``, in one process that starts in ``folder``.

    Returns:
        What they print.

    Raises:
        RuntimeError: one of them failed; the message is what it said.
    """
    root = HERE.parents[1]
    done = subprocess.run(
        [sys.executable, "-c", PLAY, json.dumps(commands)],
        cwd=folder,
        env={**os.environ, **PORTABLE, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def train(folder: Path) -> None:
    """Trains every run of ``RUNS`` in a directory of its name below ``folder``."""
    marl([["train", *COMMON, *words, f"directory={name}"] for name, words in RUNS.items()], folder)


def platform_of() -> dict[str, str]:
    """Returns what the last bits of a run's numbers depend on."""
    return {
        "torch": torch.__version__.split("+")[0],
        "numpy": np.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
    }


def measure(run: Path) -> dict[str, Any]:
    """Returns the hashes of a run's evaluations and final weights, and the evaluations' returns."""
    evaluations = (run / "evaluations.jsonl").read_bytes()
    return {
        "evaluations": hashlib.sha256(evaluations).hexdigest(),
        "weights": weights(run),
        "returns": returns(run),
    }


def returns(run: Path) -> list[float]:
    """Returns the mean return of every evaluation and team, in the order of the log."""
    lines = (run / "evaluations.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [float(np.mean(values)) for record in records for values in record["returns"].values()]


def weights(run: Path) -> str:
    """Returns one hash of all tensors of policies and critics in the newest checkpoint, whatever
    their names and their order."""
    last = max((run / "checkpoints").glob("frames-*.pt"))
    teams = torch.load(last, weights_only=True)["teams"]
    parts = [part for team in teams.values() for name, part in team.items() if _is_network(name)]
    each = sorted(_hash(tensor) for part in parts for tensor in _tensors(part))
    return hashlib.sha256("".join(each).encode()).hexdigest()


def _is_network(name: str) -> bool:
    return name in ("policy", "critic", "target_critic", "target_policy")


def _tensors(part: Any) -> Iterator[torch.Tensor]:
    if isinstance(part, torch.Tensor):
        yield part
    elif isinstance(part, dict):
        for value in part.values():
            yield from _tensors(value)


def _hash(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        train(Path(temporary))
        measured = {name: measure(Path(temporary) / name) for name in RUNS}
    HASHES.write_text(json.dumps({"platform": platform_of(), "runs": measured}, indent=1) + "\n")
