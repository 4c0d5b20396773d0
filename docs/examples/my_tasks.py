# marl train task=docs/examples/my_tasks.py:duel task.kwargs.max_cycles=20 \
#            'task.groups={left:[player_0],right:[player_1]}' \
#            'teams.left.groups=[left]' 'teams.right.groups=[right]'
from pettingzoo.classic import rps_v2


def duel(max_cycles: int = 10):
    return rps_v2.parallel_env(max_cycles=max_cycles, render_mode="rgb_array")
