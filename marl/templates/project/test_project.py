"""python -m pytest: the environment keeps the contract, and the algorithm learns in it."""

import torch
from algorithm import ReinforceConfig
from environment import meeting

import marl


def test_the_environment_keeps_the_contract():
    marl.check_env(meeting(agents=3, steps=7, num_envs=4, device=torch.device("cpu")))


def test_agents_learn_to_meet(tmp_path):
    settings = marl.Settings(
        total_frames=5_000, num_envs=20, steps=25, evaluation_interval=0, video=False
    )
    task, algorithm = marl.Task("environment:meeting"), ReinforceConfig(lr=1e-2)
    run = marl.Experiment(task, algorithm, settings=settings, directory=tmp_path / "run")
    returns = run.run()["team"]
    run.close()
    assert sum(returns) / len(returns) > -3  # about -10 at random
