"""Trains three agents, and then four that begin with what the three have learned.

python docs/examples/train_on.py
"""

from marl import Experiment, IPPOConfig, Settings, StartFrom, Task

three = Experiment(
    Task("mpe/simple_spread"), IPPOConfig(),
    settings=Settings(total_frames=100_000), directory="runs/three",
)  # fmt: skip
three.run()
four = Experiment(
    Task("mpe/simple_spread", kwargs={"N": 4}), IPPOConfig(),
    settings=Settings(total_frames=100_000, start_from=StartFrom("runs/three")),
    directory="runs/four",
)  # fmt: skip
print(four.start.table())
four.run()
