"""Sequential updates of agents: heterogeneous-agent mirror learning.

Improving all agents at once may make the team worse: each assumes that the others stay as they
are. In sequence each agent takes the new policies of its predecessors into account, and the team's
return cannot fall (HAML: Zhong et al. 2024, "Heterogeneous-Agent Reinforcement Learning"; MEHAML,
with entropy: Liu et al. 2024, "Maximum Entropy Heterogeneous-Agent Reinforcement Learning"). One
iteration from the joint policy pi::

    draw a permutation i_1 ... i_N of the team's agents                              the sequence
    for m = 1 ... N:
        pi_new[i_m] = argmax over p in U(pi[i_m]) of                                 neighbourhood U
            E over states and a[i_1 ... i_(m-1)] ~ pi_new, a[i_m] ~ p of
            objective(state, a[i_1 ... i_m]) - D(p | pi, pi_new[i_1 ... i_(m-1)])    drift D

A drift is never negative, and at p = pi[i_m] it is zero and so is its gradient; a neighbourhood is
closed and contains pi[i_m]. A method is a choice of the three::

    method   objective                            drift D                      neighbourhood U
    HAPPO    advantage A of a[i_1 ... i_m]        max(0, (r - clip(r)) M A)    all policies
    HAA2C    the same                             none                         all policies
    HADDPG   Q, successors as they were           none                         all deterministic
    HATD3    the same, of the first of two        none                         all deterministic
    HASAC    min(Q1, Q2) - alpha log p            none                         all policies

where r = p / pi[i_m] and M is the product of pi_new / pi over the predecessors: on policy it makes
actions drawn from pi stand for actions of pi_new. Off policy, the actions of predecessors are drawn
again.
"""

from __future__ import annotations

import torch

from marl.utils import distributed


def update_order(agents: int, generator: torch.Generator) -> list[int]:
    """Samples a random order of agents, the same on all ranks; waits for the device once.

    Args:
        agents: N, number of agents.
        generator: random numbers.

    Returns:
        A permutation of the numbers from 0 to N - 1.
    """
    order = torch.randperm(agents, generator=generator, device=generator.device)
    return distributed.broadcast(order).tolist()
