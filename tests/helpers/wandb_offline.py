"""What an offline W&B run holds, by W&B's own tool."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def wandb_records(directory: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The one offline run under ``directory``, and its history."""
    (path,) = directory.rglob("run-*.wandb")
    words = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    (run,) = [r["run"] for r in records if r["type"] == "run"]
    return run, [r["history"]["item"] for r in records if r["type"] == "history"]
