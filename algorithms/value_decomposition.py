"""Value decomposition: the base of IQL, VDN, QMIX, QPLEX and weighted QMIX.

Every agent i has utilities q_i(o_i, .) of its own choices, by which it plays; a mixer gives the
team's value Q_tot from the utilities of the actions taken. With target networks (marked ')::

    loss   (Q_tot(s, q_1(o_1, a_1) .. q_n(o_n, a_n)) - y)^2
    y      the lambda-return of rewards and of the successors' values
           V(s') = Q'_tot(s', q'_1(o'_1, a*_1) .. q'_n(o'_n, a*_n)),  a*_i = argmax q_i(o'_i, .)

The mixers of the variants differ: none for IQL, the sum for VDN (``marl.algorithms.vdn``), networks
in ``marl.algorithms.qmix``, ``qplex`` and ``wqmix``. Sources: Watkins 1989; Sunehag et al. 2018;
Rashid et al. 2018; van Hasselt et al. 2016 for a*, which online networks choose and target networks
value.

A batch holds sequences of consecutive steps, from memories that the replay stored or zeros, which
build up over ``burn_in`` steps (Kapturowski et al. 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from marl.algorithm import Context
from marl.algorithms.off_policy import ReplayLearner
from marl.algorithms.value_decomposition_config import ValueDecompositionConfig
from marl.critics.mixers import Mixer
from marl.learning.losses import masked_mean, mean_stats
from marl.learning.optimizer import OPTIMIZERS
from marl.learning.replay import Sequences
from marl.learning.returns import lambda_returns
from marl.learning.target_networks import TargetNetwork, target_copy
from marl.networks.observation_norm import ObservationNorm, moments
from marl.policies.greedy import CARRY, GreedyPolicy
from marl.types import (
    Carry,
    Continuous,
    Metrics,
    Noise,
    Observation,
    Rollout,
    Stats,
    TensorSpec,
    tree_map,
    zero_absent,
)
from marl.utils.compilation import compile_function
from marl.utils.programs import learning_step

Config = TypeVar("Config", bound="ValueDecompositionConfig")
Outputs = Mapping[str, Tensor]  # group -> utilities [..., N, P]
NO_MIXER = "the algorithm has no mixing network; leave it out, or take algorithm=qmix"


class Choice(NamedTuple):
    """Utilities of a team's choices; N counts the agents of all its groups, E the members.

    Absent agents have utilities of 0, and zeros for a choice.
    """

    #: Utilities of the choices, ``[..., N, E]``.
    q: Tensor
    #: The largest utilities of allowed choices, ``[..., N, E]``; ``q`` where no mixer reads them.
    best: Tensor
    #: The choices of all agents as one-hot vectors side by side; ``q`` where no mixer reads them.
    action: Tensor


class ValueDecomposition(ReplayLearner[Config, Sequences]):
    """Q-learning of a team's value from its agents' utilities.

    Differences from PyMARL: sequences begin anywhere in an episode, with stored memories, and
    continue in the next episode; truncated episodes bootstrap from their true successor; the
    optimizer is Adam by default.

    Args:
        config: hyperparameters.
        context: what the run gives an algorithm; with a replay.
        mixer: the team's, a module.

    Raises:
        UserError: the replay cannot hold a sequence.
    """

    def __init__(self, config: Config, context: Context, mixer: Mixer):
        policy = config.policy(context)
        super().__init__(config, context, policy)
        assert isinstance(mixer, nn.Module)
        self.policy: GreedyPolicy = policy
        self.mixer = mixer.to(context.device)
        self._make_targets()
        parts = self.trained_parts()
        lr = dict.fromkeys(parts, config.lr)
        make = OPTIMIZERS[config.optimizer]
        self.optimizer = make(parts, lr, config.eps, config.max_grad_norm)
        self.recurrent = bool(policy.initial_carry(1))
        self.burn_in = config.burn_in if self.recurrent else 0
        self.length = config.sequence_length if self.recurrent or config.td_lambda else 1
        self.require_steps(self.burn_in + self.length)
        heads = self.scheme.heads(self.team)
        self.reward_norm = ObservationNorm(TensorSpec((heads,)), None).to(context.device)
        self._make_steps()

    def _make_targets(self) -> None:
        self.target_policy, self.target_mixer = target_copy(self.policy), target_copy(self.mixer)
        self.target_networks += [
            TargetNetwork(self.target_policy, self.policy),
            TargetNetwork(self.target_mixer, self.mixer),
        ]

    def trained_parts(self) -> dict[str, list[nn.Parameter]]:
        """Returns the parameters that gradient steps move, by part of the optimizer."""
        return {"": [*self.policy.parameters(), *self.mixer.parameters()]}

    def _make_steps(self) -> None:
        """Compiles or captures the gradient step; compiles what it reads."""
        step = self.execution, self.update_utilities, self.optimizer.tensors
        self.update_utilities = learning_step(*step)
        if self.execution == "compiled":  # captured, it would copy the replay's successors
            self.read = compile_function(self.read)

    def networks(self) -> list[nn.Module]:
        return [self.policy, self.mixer]

    # --------------------------------------------------------------------------------------- acting

    def acting_noise(self, num_envs: int, generator: torch.Generator) -> Noise:
        """Draws the random numbers of one step's actions, which are random with probability
        epsilon; see ``ReplayLearner.acting_noise``."""
        self.policy.epsilon.fill_(self.epsilon)
        return super().acting_noise(num_envs, generator)

    @property
    def epsilon(self) -> float:
        """Probability of a random action now."""
        config = self.config
        share = min(1.0, self.frames / config.epsilon_frames) if config.epsilon_frames else 1.0
        return config.epsilon + share * (config.last_epsilon - config.epsilon)

    # ------------------------------------------------------------------------------------- learning

    def update(self, rollout: Rollout) -> Metrics:
        """Takes the gradient steps that are due (Rashid et al. 2018, section 4.2).

        Args:
            rollout: the newest frames, ``[T, B]``, which the replay holds already.

        Returns:
            The means of the steps' statistics; empty where no step was due.
        """
        if self.config.standardise_rewards:
            self.reward_norm.add(moments(self.scheme.reward(rollout, self.team), None))
        steps: list[Stats] = []
        for batch in self.batches(rollout):
            steps.append(self.update_utilities(batch))
            if self.updates % self.config.target_interval == 0:
                self.update_targets()
        return {**mean_stats(steps), "epsilon": self.policy.epsilon.clone()} if steps else {}

    def unread_settings(self) -> dict[str, str]:
        unread = super().unread_settings()
        if self.config.td_lambda:
            unread.pop("algorithm.sequence_length", None)
        if not any(isinstance(group.action, Continuous) for group in self.team.values()):
            unread["algorithm.bins"] = "no agent has continuous actions; leave it out"
        if not list(self.mixer.parameters()):
            unread["critic_model"] = NO_MIXER
        return unread

    def next_batch(self) -> Sequences:
        index = self.draw_sequences(self.length, self.burn_in)
        self.updates += 1
        return self.read(index, self.replay.successors.rows)

    def read(self, index: Tensor, rows: Observation | None = None) -> Sequences:
        """Returns the sequences of frames ``index [T, M]``; ``rows`` as in ``Replay.sequences``."""
        return self.replay.sequences(index, self.team, self.scheme, rows)

    def update_utilities(self, batch: Sequences) -> Stats:
        """Takes a gradient step on ``(Q_tot - y)^2``.

        Args:
            batch: M sequences of ``burn_in + length`` steps.

        Returns:
            ``loss``, ``q``, the mean value of the actions taken, and ``target``, the mean of y.
        """
        stored = self.stored_carry(batch)
        carry, target_carry = (
            self.carry_after_burn_in(policy, batch, stored)
            for policy in (self.policy, self.target_policy)
        )
        batch = self.after_burn_in(batch)
        utilities, memory = self.policy.unroll(batch.obs, carry, batch.start)
        value = self.mix(self.mixer, batch.obs, self.taken(utilities, batch))
        y = self.targets(batch, utilities, memory, target_carry)
        mask = self.mask(batch)
        loss = masked_mean((value - y).square(), mask)
        self.optimizer.step(loss)
        return {
            "loss": loss.detach(),
            "q": masked_mean(value.detach(), mask),
            "target": masked_mean(y.expand_as(value), mask),
        }

    def stored_carry(self, batch: Sequences) -> Carry:
        """Returns the memories before each sequence, ``[M, N, H]`` by group, empty without memory:
        those that the replay stored, or zeros."""
        zeros = self.policy.initial_carry(batch.start.shape[1])
        return {n: batch.aux[n][CARRY][0] for n in zeros} if self.policy.aux_keys else zeros

    @torch.no_grad()
    def carry_after_burn_in(self, policy: GreedyPolicy, batch: Sequences, carry: Carry) -> Carry:
        """Returns a policy's memories before the steps to learn from.

        Args:
            policy: online or target.
            batch: M sequences of ``burn_in + length`` steps.
            carry: the memories before the sequences, ``[M, N, H]`` by group.
        """
        if not carry or not self.burn_in:
            return carry
        first = tree_map(lambda x: x[: self.burn_in], batch)
        _, memory = policy.unroll(first.obs, carry, first.start)
        return {name: values[-1] for name, values in memory.items()}

    def after_burn_in(self, batch: Sequences) -> Sequences:
        """Returns the steps to learn from, the last ``length``."""
        return tree_map(lambda x: x[self.burn_in :], batch) if self.burn_in else batch

    @torch.no_grad()
    def targets(
        self, batch: Sequences, utilities: Outputs, memory: Carry, target_carry: Carry
    ) -> Tensor:
        """Computes y, the lambda-returns that values are fitted to, without gradient.

        Args:
            batch: M sequences of T steps.
            utilities: the online networks' utilities, ``[T, M, N, P]`` by group.
            memory: the online networks' memories after each step, ``[T, M, N, H]`` by group.
            target_carry: the target networks' memories before the first step.

        Returns:
            ``[T, M, H]``, H as in ``mix``.
        """
        target_policy = self.target_policy
        known, target_memory = {}, {}
        if self.length > 1 or self.recurrent:  # else all that follows is computed anew
            known, target_memory = target_policy.unroll(batch.obs, target_carry, batch.start)
        target = self.next_utilities(target_policy, batch, known, target_memory)
        online = target
        if self.config.double:
            online = self.next_utilities(self.policy, batch, utilities, memory)
        choice = self.best(online, target, batch.next_obs)
        value = self.mix(self.target_mixer, batch.next_obs, choice)
        return self.returns(batch, value)

    def returns(self, batch: Sequences, next_value: Tensor) -> Tensor:
        """Computes the lambda-returns of a batch, ``[T, M, H]``, from its successors' values."""
        config = self.config
        reward = self.reward_norm(batch.reward) if config.standardise_rewards else batch.reward
        reward, terminated, done = (
            x.expand_as(next_value) for x in (reward, batch.terminated, batch.done)
        )
        return lambda_returns(reward, next_value, terminated, done, config.gamma, config.td_lambda)

    def next_utilities(
        self, policy: GreedyPolicy, batch: Sequences, utilities: Outputs, memory: Carry
    ) -> Outputs:
        """Computes utilities of the true successors, each with the memory after its step.

        Most successors are the next step's observations, whose utilities are known. Only the others
        are computed, but where that number would make the host wait, or the graph recompile, all.

        Args:
            policy: online or target.
            batch: M sequences of T steps.
            utilities: that policy's, ``[T, M, N, P]`` by group.
            memory: its memories after each step, ``[T, M, N, H]`` by group.

        Returns:
            ``[T, M, N, P]`` by group, without gradient where the caller takes none.
        """
        shape, flat = (
            batch.start.shape,
            tree_map(lambda x: x.flatten(0, 1), (batch.next_obs, dict(memory), batch.start)),
        )
        if self.execution != "eager" or batch.start.device.type != "cpu" or shape[0] == 1:
            params, _ = policy.step_params(flat[0], flat[1], torch.zeros_like(flat[2]))
            return {n: values.unflatten(0, shape) for n, values in params.items()}
        rows = batch.cut.flatten().nonzero().squeeze(-1)
        obs, carry, start = tree_map(lambda x: x.index_select(0, rows), flat)
        params, _ = policy.step_params(obs, carry, torch.zeros_like(start))
        known = {n: torch.cat([x[1:], x[-1:]]).flatten(0, 1) for n, x in utilities.items()}
        return {n: x.index_copy(0, rows, params[n]).unflatten(0, shape) for n, x in known.items()}

    # --------------------------------------------------------------------------- utilities, mixed

    def taken(self, utilities: Outputs, batch: Sequences) -> Choice:
        """Returns the utilities of the actions taken, with gradient, from those of all choices."""
        index = {n: self.policy.utilities[n].index(batch.action[n]) for n in self.team}
        return self._choice(index, utilities, batch.obs)

    def best(self, online: Outputs, target: Outputs, obs: Observation) -> Choice:
        """Returns the utilities ``target`` of the choices that ``online`` prefers."""
        index = {
            n: self.policy.utilities[n].greedy(online[n], obs.groups[n].action_mask)
            for n in self.team
        }
        return self._choice(index, target, obs)

    def _choice(self, index: Outputs, utilities: Outputs, obs: Observation) -> Choice:
        q = torch.cat([self._utility(n, index[n], x, obs) for n, x in utilities.items()], -2)
        if not self.mixer.reads_choices:
            return Choice(q, q, q)
        best, action = [], []
        for name, values in utilities.items():
            group, of = obs.groups[name], self.policy.utilities[name]
            best.append(self._utility(name, of.greedy(values, group.action_mask), values, obs))
            action.append(zero_absent(of.one_hot(index[name]), group.alive).flatten(-2))
        return Choice(q, torch.cat(best, -2), torch.cat(action, -1))

    def _utility(self, name: str, index: Tensor, values: Tensor, obs: Observation) -> Tensor:
        """Returns the utilities of one group's choices, ``[..., N, E]``, 0 for absent agents."""
        return zero_absent(self.policy.utilities[name].taken(values, index), obs.groups[name].alive)

    def mix(self, mixer: Mixer, obs: Observation, choice: Choice) -> Tensor:
        """Returns a mixer's values of choices, ``[..., H]``: H is 1, or N without a mixer."""
        q, best = choice.q.squeeze(-1), choice.best.squeeze(-1)
        return mixer(obs, q, best, choice.action)

    def mask(self, batch: Sequences) -> Tensor | None:
        """Returns which values count, 1.0 or 0.0, ``[T, M, H]``; None where all do."""
        return self.scheme.mask(self.alive(batch.obs))

    # ---------------------------------------------------------------------------------------- state

    def other_networks(self) -> dict[str, nn.Module]:
        """Returns the networks beside the policy and the mixer, by their names in checkpoints."""
        return {"target_policy": self.target_policy, "target_mixer": self.target_mixer}

    def parts(self) -> dict[str, Any]:
        return {
            **super().parts(),
            "mixer": self.mixer,
            **self.other_networks(),
            "optimizer": self.optimizer,
            "reward_norm": self.reward_norm,
        }
