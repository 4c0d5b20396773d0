# marl train task=mpe/simple_tag teams.agent.algorithm=scripted \
#            teams.agent.algorithm.function=docs/examples/my_opponents.py:circle
import torch


def circle(group, observation):
    speed = observation.obs[..., :2]  # turn left of where one is going
    ahead = speed.abs()[..., 0] > speed.abs()[..., 1]
    sideways = torch.where(speed[..., 1] > 0, 1, 2)  # 0 stay, 1 left, 2 right, 3 down, 4 up
    return torch.where(ahead, torch.where(speed[..., 0] > 0, 4, 3), sideways)
