"""Peak memory of eager and compiled runs of R2n, each a process of its own.

    python docs/performance/memory.py [WORDS…]

WORDS are settings of marl. Prints MiB: the largest resident set of the process, compiling included.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile


def peak(words: list[str]) -> float:
    given = ["experiment=speed_r2n", "total_frames=40960", "evaluation_interval=0", "video=false",
             "evaluation_episodes=2", "progress=false"]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        words = [*given, *words, f"directory={folder}/run"]
        process = subprocess.Popen([sys.executable, "-m", "marl", "train", *words], stdout=-3)
        _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss / 1024


def main() -> None:
    for execution in ("eager", "compiled"):
        words = [*sys.argv[1:], f"execution={execution}"]
        print(json.dumps({"words": words, "mib": round(peak(words))}), flush=True)


if __name__ == "__main__":
    main()
